"""Layers, their order, and what is said about mistakes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from citadel_llm.configuration import loader
from citadel_llm.configuration.problems import ConfigurationError, Problem
from citadel_llm.schema.settings import Settings, dotted

Rewrite = Callable[[str, str, str], None]


def problems(
    directory: Path, environment: str | None = None, environ: dict[str, str] | None = None
) -> list[Problem]:
    with pytest.raises(ConfigurationError) as caught:
        loader.load(directory, environment, environ or {})
    return list(caught.value.problems)


def origins(directory: Path, environ: dict[str, str] | None = None) -> dict[str, str]:
    loaded = loader.load_with_origin(directory, environ=environ or {})
    return {dotted(leaf.location): str(leaf.origin) for leaf in loaded.leaves}


def test_the_example_is_valid_in_every_environment(config_dir: Path) -> None:
    valid = loader.validate_all(config_dir, {})
    assert sorted(valid) == ["development", "production"]
    assert valid["production"].citadel.environment == "production"
    assert valid["production"].logging.format == "json"
    assert valid["development"].logging.format == "console"


def test_the_directory_is_found_by_the_environment(
    config_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert loader.load().citadel.node == "hx-llm-server-01"
    monkeypatch.delenv("CITADEL_CONFIG_DIR")
    monkeypatch.setenv("CITADEL_HOME", str(tmp_path))
    assert loader.load().citadel.node == "hx-llm-server-01"
    monkeypatch.setenv("CITADEL_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigurationError, match="nowhere/config: no such directory"):
        loader.load()


def test_each_value_names_its_layer_and_line(config_dir: Path) -> None:
    found = origins(config_dir, {"CITADEL__API_GATEWAY__PORT": "9090"})
    assert found["citadel.node"] == f"{config_dir}/global/citadel.yaml:4"
    assert found["citadel.environment"] == f"{config_dir}/environment:1"
    assert found["logging.level"] == f"{config_dir}/environments/production.yaml:4"
    assert found["ai_models.deployments[1].port"] == f"{config_dir}/services/ai_models.yaml:18"
    assert found["api_gateway.port"] == "CITADEL__API_GATEWAY__PORT"
    assert found["health.recovery.window_s"].startswith(f"{config_dir}/global/metrics.yaml:")
    assert found["ai_models.deployments[0].unit"] == "default"


def test_later_layers_win_and_lists_are_replaced_whole(config_dir: Path) -> None:
    (config_dir / "services" / "extra.yaml").write_text("logging: {}\nhealth:\n  memory: {}\n")
    environ = {
        "CITADEL__LOGGING__LEVEL": "error",
        "CITADEL__HEALTH__CHECKS": "[{name: a, kind: disk, path: /}]",
    }
    settings = loader.load(config_dir, "development", environ)
    assert settings.logging.level == "error"
    assert settings.logging.format == "console"
    assert settings.logging.directories["vllm"] == "/mnt/sda/logs/llm/vllm"
    assert [check.name for check in settings.health.checks] == ["a"]


def test_the_process_environment_is_yaml(config_dir: Path) -> None:
    environ = {
        "CITADEL__CITADEL__EDGE": "null",
        "CITADEL__AI_MODELS__READINESS__BASE_TIMEOUT_S": "12.5",
        "CITADEL__LOGGING__DIRECTORIES": "{audit: /var/log/audit}",
        "CITADEL_OTHER": "ignored",
    }
    settings = loader.load(config_dir, environ=environ)
    assert settings.citadel.edge is None
    assert settings.ai_models.readiness.base_timeout_s == 12.5
    assert settings.logging.directories["audit"] == "/var/log/audit"
    assert "vllm" in settings.logging.directories


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("CITADEL__LOGGING", "debug", "is not a setting: write CITADEL__SECTION__KEY"),
        ("CITADEL__LOGGING__", "debug", "is not a setting"),
        ("CITADEL__LOGGING__LEVEL", "[", "not valid YAML"),
        ("CITADEL__LOGGING__LEVEL", "loud", "'loud' is not allowed: it must be 'debug', 'info'"),
        ("CITADEL__LOGGING__LEVL", "debug", "did you mean 'level'?"),
        ("CITADEL__API_GATEWAY__PORT", "", "None is not allowed"),
    ],
)
def test_a_wrong_variable_is_named(config_dir: Path, name: str, value: str, message: str) -> None:
    (problem,) = problems(config_dir, environ={name: value})
    assert problem.source == name
    assert problem.line is None
    assert message in str(problem)


def test_the_active_environment_can_be_overridden(config_dir: Path) -> None:
    assert (
        loader.load(config_dir, environ={"CITADEL_ENV": "development"}).citadel.environment == "development"
    )
    assert (
        loader.load(config_dir, "production", {"CITADEL_ENV": "development"}).citadel.environment
        == "production"
    )


@pytest.mark.parametrize("name", ["staging", "../global/citadel", ""])
def test_an_unknown_environment_is_refused(config_dir: Path, name: str) -> None:
    (config_dir / "environment").write_text(f"{name}\n")
    (problem,) = problems(config_dir)
    assert (problem.source, problem.line) == (f"{config_dir}/environment", 1)
    assert "Known: development, production" in problem.message


def test_no_active_environment_is_refused(config_dir: Path) -> None:
    (config_dir / "environment").unlink()
    (problem,) = problems(config_dir)
    assert "citadel config use NAME" in problem.message


def test_all_mistakes_of_all_files_are_told_at_once(config_dir: Path, rewrite: Rewrite) -> None:
    rewrite("services/api_gateway.yaml", "port: 8080", "port: 70000")
    rewrite("services/api_gateway.yaml", "internal_host:", "internl_host:")
    rewrite("services/ai_models.yaml", "path: /opt/citadel/models/phi-3", "path: models/phi-3")
    rewrite("global/metrics.yaml", "kind: tcp", "kind: tpc")
    rewrite("global/metrics.yaml", "warning_free_percent: 15", "warning_free_percent: 3")
    rewrite("environments/production.yaml", "level: info", "level: loud")
    found = [str(problem) for problem in problems(config_dir)]
    expected = [
        f"{config_dir}/environments/production.yaml:4: logging.level: 'loud' is not allowed",
        f"{config_dir}/global/metrics.yaml:11: health.disk.critical_free_percent: 5 is above warning_free_",
        f"{config_dir}/global/metrics.yaml:23: health.checks[0].kind: 'tpc' is missing or unknown",
        f"{config_dir}/services/ai_models.yaml:10: ai_models.deployments[0].path: 'models/phi-3-mini-4k",
        f"{config_dir}/services/api_gateway.yaml:2: api_gateway.internal_host: is missing: add it (Address",
        f"{config_dir}/services/api_gateway.yaml:4: api_gateway.port: 70000 is not allowed",
        f"{config_dir}/services/api_gateway.yaml:5: api_gateway.internl_host: is an unknown key: did",
    ]
    assert len(found) == len(expected)
    for line, start in zip(found, expected, strict=True):
        assert line.startswith(start)


def test_validating_looks_at_the_environments_that_are_not_active(config_dir: Path) -> None:
    (config_dir / "environments" / "development.yaml").write_text("logging:\n  level: loud\n")
    assert loader.load(config_dir, environ={}).logging.level == "info"
    with pytest.raises(ConfigurationError, match=r"development\.yaml:2: logging\.level"):
        loader.validate_all(config_dir, {})


def test_a_missing_section_names_its_file(config_dir: Path) -> None:
    (config_dir / "services" / "ai_models.yaml").unlink()
    (problem,) = problems(config_dir)
    assert str(problem) == (
        f"{config_dir}/services/ai_models.yaml: ai_models: is missing: add it (The engines of this server.)"
    )


def test_a_file_that_cannot_be_read_is_not_followed_by_what_it_would_have_held(config_dir: Path) -> None:
    (config_dir / "services" / "ai_models.yaml").write_text("ai_models: [\n")
    (problem,) = problems(config_dir)
    assert (problem.source, problem.line) == (f"{config_dir}/services/ai_models.yaml", 2)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"- a\n", b"text\n"])
def test_a_file_that_is_no_mapping_of_sections_is_refused(config_dir: Path, content: bytes) -> None:
    (config_dir / "global" / "logging.yaml").write_bytes(content)
    (problem,) = problems(config_dir)
    assert problem.source == f"{config_dir}/global/logging.yaml"


def test_two_files_of_one_layer_must_not_set_the_same_value(config_dir: Path) -> None:
    (config_dir / "global" / "more.yaml").write_text("logging:\n  directories: {}\n  format: console\n")
    (problem,) = problems(config_dir)
    assert (problem.source, problem.line, problem.key) == (
        f"{config_dir}/global/more.yaml",
        3,
        "logging.format",
    )
    assert problem.message == f"is set in {config_dir}/global/logging.yaml:4 too: remove one"


def test_a_file_with_the_wrong_ending_is_not_overlooked(config_dir: Path) -> None:
    (config_dir / "global" / "more.yml").write_text("logging: {}\n")
    (problem,) = problems(config_dir)
    assert "rename it to end in .yaml" in problem.message


def test_the_environment_is_never_set_in_a_file(config_dir: Path) -> None:
    (config_dir / "environments" / "production.yaml").write_text("citadel:\n  environment: development\n")
    (problem,) = problems(config_dir)
    assert str(problem).startswith(
        f"{config_dir}/environments/production.yaml:2: citadel.environment: is not set here"
    )


def test_empty_files_are_fine(config_dir: Path) -> None:
    (config_dir / "environments" / "production.yaml").write_text("# nothing\n")
    assert loader.load(config_dir, environ={}).logging.level == "info"


def test_secrets_are_masked(config_dir: Path, rewrite: Rewrite) -> None:
    rewrite(
        "services/api_gateway.yaml", "port: 8080", "port: 8080\n  api_key: [hunter2]\n  password: hunter2"
    )
    text = "\n".join(map(str, problems(config_dir)))
    assert "api_gateway.password: is an unknown key" in text
    assert "hunter2" not in text


def test_the_schema_describes_every_section() -> None:
    schema = loader.json_schema()
    assert set(schema["properties"]) == set(Settings.model_fields)
    assert schema["additionalProperties"] is False


def test_one_value_can_be_read_from_a_broken_configuration(config_dir: Path) -> None:
    (config_dir / "global" / "logging.yaml").write_text("[")
    assert loader.peek(config_dir, ("citadel", "paths", "backups")) == "/opt/citadel/backups"
    assert loader.peek(config_dir, ("citadel", "paths", "nothing")) is None

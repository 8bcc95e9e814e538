"""`citadel config`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from citadel_llm.cli.main import run

Capture = pytest.CaptureFixture[str]
Rewrite = Callable[[str, str, str], None]


def as_json(capsys: Capture) -> Any:
    return json.loads(capsys.readouterr().out)


def test_validating_names_the_environments(config_dir: Path, capsys: Capture) -> None:
    assert run(["config", "validate"]) == 0
    assert capsys.readouterr().out == f"{config_dir}: valid (development, production)\n"


def test_validating_another_directory(
    config_dir: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CITADEL_CONFIG_DIR", "/nonexistent")
    assert run(["config", "validate", "--dir", str(config_dir), "--json"]) == 0
    assert as_json(capsys) == {"valid": True, "environments": ["development", "production"], "problems": []}


def test_every_mistake_is_a_line(config_dir: Path, capsys: Capture, rewrite: Rewrite) -> None:
    rewrite("services/api_gateway.yaml", "port: 8080", "port: 70000")
    rewrite("environments/development.yaml", "level: debug", "level: loud")
    assert run(["config", "validate"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1] for line in lines] == [
        f"{config_dir}/environments/development.yaml:3",
        f"{config_dir}/services/api_gateway.yaml:4",
    ]
    assert run(["config", "validate", "--json"]) == 1
    found = as_json(capsys)
    assert not found["valid"]
    assert found["problems"][1] == {
        "source": f"{config_dir}/services/api_gateway.yaml",
        "line": 4,
        "key": "api_gateway.port",
        "message": "70000 is not allowed: it must be less than or equal to 65535",
    }


def test_showing_prints_yaml_that_is_the_settings(config_dir: Path, capsys: Capture) -> None:
    assert run(["config", "show"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert run(["config", "show", "--json"]) == 0
    assert as_json(capsys) == shown
    assert shown["citadel"]["environment"] == "production"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("api_gateway.port", "8080\n"),
        ("ai_models.deployments[1].name", "minilm\n"),
        ("ai_models.deployments.1.name", "minilm\n"),
        ("ai_models.deployments[1].unit", "null\n"),
        ("logging", "level: info\nformat: json\ndirectories:\n"),
    ],
)
def test_showing_one_key(config_dir: Path, capsys: Capture, key: str, value: str) -> None:
    assert run(["config", "show", key]) == 0
    assert capsys.readouterr().out.startswith(value)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("api_gateway.prt", "api_gateway has no key 'prt'. Keys: host, port"),
        ("nothing", "the settings has no key 'nothing'"),
        ("ai_models.deployments[9]", "ai_models.deployments has no part '9'"),
        ("citadel.node.x", "citadel.node has no part 'x'"),
    ],
)
def test_showing_a_key_that_is_not_there(config_dir: Path, capsys: Capture, key: str, message: str) -> None:
    assert run(["config", "show", key]) == 2
    assert message in capsys.readouterr().err


def test_showing_origins(config_dir: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CITADEL__API_GATEWAY__PORT", "9090")
    assert run(["config", "show", "--origin", "api_gateway"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["api_gateway.port", "9090", "CITADEL__API_GATEWAY__PORT"] in rows
    assert ["api_gateway.host", '"127.0.0.1"', f"{config_dir}/services/api_gateway.yaml:3"] in rows
    assert ["api_gateway.backlog", "2048", "default"] in rows
    assert run(["config", "show", "--origin", "--json", "citadel.node"]) == 0
    assert as_json(capsys) == [
        {
            "key": "citadel.node",
            "value": "hx-llm-server-01",
            "source": f"{config_dir}/global/citadel.yaml",
            "line": 4,
        }
    ]


def test_switching(config_dir: Path, capsys: Capture) -> None:
    assert run(["config", "use", "development"]) == 0
    assert capsys.readouterr().out == "environment: development (was production). Apply it: citadel restart\n"
    assert run(["config", "use", "development"]) == 0
    assert "unchanged" in capsys.readouterr().out
    assert run(["config", "show", "logging.level"]) == 0
    assert capsys.readouterr().out == "debug\n"
    assert run(["config", "use", "staging"]) == 1
    assert "Known: development, production" in capsys.readouterr().err
    assert (config_dir / "environment").read_text() == "development\n"


def test_the_schema_accepts_the_settings(config_dir: Path, capsys: Capture) -> None:
    assert run(["config", "schema"]) == 0
    schema = as_json(capsys)
    assert run(["config", "show", "--json"]) == 0
    settings = as_json(capsys)
    jsonschema.validate(settings, schema)
    settings["citadel"]["nod"] = "x"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(settings, schema)


def test_backing_up_and_restoring(
    config_dir: Path, tmp_path: Path, capsys: Capture, rewrite: Rewrite
) -> None:
    store = ["--backups", str(tmp_path / "store"), "--json"]
    assert run(["config", "backup", *store]) == 0
    made = as_json(capsys)
    rewrite("services/api_gateway.yaml", "port: 8080", "port: [")
    assert run(["config", "restore", made["id"], *store]) == 0
    restored = as_json(capsys)
    assert restored["restored"] == made["id"]
    assert restored["changed"] == ["services/api_gateway.yaml"]
    assert run(["config", "backups", *store]) == 0
    assert [entry["id"] for entry in as_json(capsys)] == [made["id"], restored["backup_of_previous"]]
    assert run(["config", "backups", *store[:2]]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == [made["id"], "8", "complete"]


def test_the_settings_say_where_backups_are(
    config_dir: Path, tmp_path: Path, capsys: Capture, rewrite: Rewrite
) -> None:
    rewrite("global/citadel.yaml", "/opt/citadel/backups", str(tmp_path / "kept"))
    assert run(["config", "backup"]) == 0
    (made,) = (tmp_path / "kept").iterdir()
    assert capsys.readouterr().out == f"backup {made.name}: 8 files in {made}\n"
    assert run(["config", "restore", "20200101T000000Z"]) == 1
    assert f"Known: {made.name}" in capsys.readouterr().err
    assert run(["config", "restore", made.name]) == 0
    assert f"restored {made.name}; the previous configuration is backup" in capsys.readouterr().out

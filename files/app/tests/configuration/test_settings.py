"""Rules between settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from citadel_llm.configuration import loader
from citadel_llm.configuration.problems import ConfigurationError

Rewrite = Callable[[str, str, str], None]
MODELS = "services/ai_models.yaml"


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (
            MODELS,
            "port: 8102",
            "port: 8101",
            "deployments[1].port: 8101 is taken by ai_models.deployments[0].port",
        ),
        (
            MODELS,
            "port: 8102",
            "port: 8081",
            "deployments[1].port: 8081 is taken by api_gateway.internal_port",
        ),
        (MODELS, "port: 8102", "port: 443", "deployments[1].port: 443 is taken by citadel.edge.port"),
        (MODELS, "port: 8102", "port: 0", "deployments[1].port: 0 is not allowed"),
        (MODELS, "port: 8102", "port: true", "deployments[1].port: True is a truth value"),
        (
            MODELS,
            "name: minilm",
            "name: phi-3-mini",
            "deployments[1].name: 'phi-3-mini' is the name of another",
        ),
        (
            MODELS,
            "name: minilm",
            "name: Mini LM",
            "deployments[1].name: 'Mini LM' must be at most 64 lower-case",
        ),
        (
            MODELS,
            "model: all-minilm-l6-v2",
            "model: phi-3",
            "aliases[0]: 'phi-3' already stands for the model phi-3",
        ),
        (MODELS, "task: embed", "task: draw", "deployments[1].task: 'draw' is not allowed"),
        (MODELS, "task: embed", "unit: gateway", "deployments[1].unit: 'gateway'"),
        (MODELS, "max_model_len: 4096", "max_model_len: 0", "max_model_len: 0 is not allowed"),
        (MODELS, "load_mb_per_s: 100", "load_mb_per_s: 0", "readiness.load_mb_per_s: 0 is not allowed"),
        (
            "services/api_gateway.yaml",
            "port: 8080",
            "port: 443",
            "api_gateway.port: 443 is taken by citadel.edge",
        ),
        (
            "global/citadel.yaml",
            "state: /var",
            "state: /srv/../var",
            "paths.state: '/srv/../var/lib/citadel' must be",
        ),
        (
            "global/citadel.yaml",
            "state: /var",
            "state: var",
            "paths.state: 'var/lib/citadel' must be an absolute",
        ),
        (
            "global/citadel.yaml",
            "    state: /var/lib/citadel\n",
            "",
            "paths.state: is missing: add it (What services",
        ),
        ("global/metrics.yaml", "kind: command", "kind: process", "checks[1].unit: is missing"),
        (
            "global/metrics.yaml",
            "name: model-store-mounted",
            "name: node-exporter",
            "checks[1].name: 'node-exporter'",
        ),
        (
            "global/metrics.yaml",
            "critical_used_percent: 97",
            "critical_used_percent: 80",
            "critical_used_percent: 80",
        ),
        ("global/metrics.yaml", "timeout_s: 5", "timeout_s: -1", "health.timeout_s: -1 is not allowed"),
    ],
)
def test_what_contradicts_is_refused(
    config_dir: Path, rewrite: Rewrite, file: str, old: str, new: str, message: str
) -> None:
    rewrite(file, old, new)
    with pytest.raises(ConfigurationError) as caught:
        loader.load(config_dir, environ={})
    assert message in str(caught.value)
    assert f"{config_dir}/{file}" in str(caught.value)


def test_a_deployment_knows_its_unit_and_address(config_dir: Path) -> None:
    environ = {
        "CITADEL__AI_MODELS__DEPLOYMENTS": "[{name: a, model: m, path: /m, port: 9001, host: '::1'},"
        " {name: b, model: m, path: /m, port: 9002, unit: other.service}]"
    }
    models = loader.load(config_dir, environ=environ).ai_models
    assert [d.service_unit for d in models.deployments] == ["citadel-engine@a.service", "other.service"]
    assert [d.base_url for d in models.deployments] == ["http://[::1]:9001", "http://127.0.0.1:9002"]
    found = models.find("b")
    assert found is not None
    assert found.port == 9002
    assert models.find("c") is None


def test_numbers_written_as_text_are_numbers(config_dir: Path) -> None:
    settings = loader.load(config_dir, environ={"CITADEL__CITADEL__EDGE__PORT": "'8443'"})
    assert settings.citadel.edge is not None
    assert settings.citadel.edge.port == 8443

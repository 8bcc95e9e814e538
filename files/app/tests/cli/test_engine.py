"""`citadel engine`, as an engine's unit runs it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from citadel_llm.cli.main import run
from files.app.tests.fixtures.engine import FakeEngine

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def deployed(
    config_dir: Path, fake_engine: FakeEngine, tmp_path: Path, rewrite: Callable[[str, str, str], None]
) -> FakeEngine:
    """An engine that runs, with a model of one file."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.gguf").write_bytes(b"GGUF")
    rewrite("services/ai_models.yaml", "port: 8101", f"port: {fake_engine.port}")
    rewrite("services/ai_models.yaml", "/opt/citadel/models/phi-3-mini-4k-instruct/current", str(model))
    return fake_engine


def test_an_engine_whose_port_is_taken_cannot_start(deployed: FakeEngine, capsys: Capture) -> None:
    assert run(["engine", "check", "phi-3-mini"]) == 1
    assert f"127.0.0.1:{deployed.port}: Address already in use" in capsys.readouterr().err


def test_checking_tells_every_reason(config_dir: Path, capsys: Capture) -> None:
    assert run(["engine", "check", "minilm"]) == 1
    assert capsys.readouterr().err == (
        "engine minilm: /opt/citadel/models/all-minilm-l6-v2/current: no such directory. "
        "Deploy the model, or correct the deployment's path\n"
    )


def test_a_good_engine_is_checked_in_silence(
    deployed: FakeEngine, capsys: Capture, rewrite: Callable[[str, str, str], None]
) -> None:
    rewrite("services/ai_models.yaml", f"port: {deployed.port}", "port: 8101")
    assert run(["engine", "check", "phi-3-mini"]) == 0
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def test_waiting_ends_with_the_answer(deployed: FakeEngine, capsys: Capture) -> None:
    assert run(["engine", "wait-ready", "phi-3-mini", "--pid", str(os.getpid())]) == 0
    assert "engine phi-3-mini: ready, answered in" in capsys.readouterr().out
    assert deployed.asked[0][1]["model"] == "phi-3-mini-4k-instruct"


def test_waiting_in_vain_is_one_line(deployed: FakeEngine, capsys: Capture) -> None:
    deployed.answers["/v1/completions"] = (500, "dead")
    assert run(["engine", "wait-ready", "phi-3-mini", "--timeout", "0.2"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("citadel: engine phi-3-mini: does not serve after 0 s")
    assert error.count("\n") == 1


def test_probing(deployed: FakeEngine, capsys: Capture) -> None:
    assert run(["engine", "probe", "phi-3-mini"]) == 0
    assert "engine phi-3-mini: ready: answered in" in capsys.readouterr().out
    deployed.answers["/v1/completions"] = (503, "busy")
    assert run(["engine", "probe", "phi-3-mini", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["engine"], found["state"]) == ("phi-3-mini", "failing")


@pytest.mark.parametrize("command", ["check", "wait-ready", "probe"])
def test_an_unknown_engine_is_named(config_dir: Path, command: str, capsys: Capture) -> None:
    assert run(["engine", command, "nothing"]) == 1
    assert "no deployment is called 'nothing' in ai_models.deployments. Known: phi-3-mini, minilm" in (
        capsys.readouterr().err
    )

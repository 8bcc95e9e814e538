"""Waiting for an engine."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from citadel_llm.engine import readiness
from citadel_llm.engine.readiness import NotReadyError, alive, allowance, wait_ready
from citadel_llm.schema.settings import Deployment, Readiness
from files.app.tests.fixtures.engine import COMPLETION, FakeEngine


def deployment(port: int, path: str = "/nonexistent") -> Deployment:
    return Deployment(name="a", model="a", path=path, port=port)


def test_the_allowance_grows_with_the_weights(tmp_path: Path) -> None:
    with (tmp_path / "model.safetensors").open("wb") as stream:
        stream.truncate(5_000_000_000)
    settings = Readiness(base_timeout_s=10, load_mb_per_s=100)
    assert allowance(deployment(1, str(tmp_path)), settings) == 60
    assert allowance(deployment(1), settings) == 10


def test_an_engine_that_serves_is_ready(fake_engine: FakeEngine) -> None:
    assert wait_ready(deployment(fake_engine.port), 5, os.getpid()).ready


def test_it_waits_while_the_engine_starts(fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "_PROGRESS_S", 0.1)
    fake_engine.answers["/v1/completions"] = (503, {"error": {"message": "loading"}})
    said: list[str] = []

    def serve() -> None:
        time.sleep(0.5)
        fake_engine.answers["/v1/completions"] = (200, COMPLETION)

    threading.Thread(target=serve, daemon=True).start()
    assert wait_ready(deployment(fake_engine.port), 10, report=said.append, interval_s=0.02).ready
    assert 2 <= len(said) <= 6
    assert "of at most 10 s" in said[0]
    assert "loading" in said[0]


def test_a_process_that_ended_ends_the_wait(fake_engine: FakeEngine) -> None:
    fake_engine.answers["/v1/completions"] = (503, {})
    with subprocess.Popen([sys.executable, "-c", "pass"]) as process:
        begin = time.monotonic()
        with pytest.raises(NotReadyError, match=f"its process {process.pid} ended"):
            # Nobody has waited for it yet: it is a zombie, as under systemd for a moment.
            wait_ready(deployment(fake_engine.port), 60, process.pid, interval_s=0.02)
        assert time.monotonic() - begin < 20
    assert not alive(process.pid)


def test_a_refusal_ends_the_wait(fake_engine: FakeEngine) -> None:
    fake_engine.answers["/v1/completions"] = (404, {"error": {"message": "no such model"}})
    with pytest.raises(NotReadyError, match=r"engine a: .* no such model"):
        wait_ready(deployment(fake_engine.port), 60)


def test_time_runs_out_with_the_reason_and_the_remedy(fake_engine: FakeEngine) -> None:
    fake_engine.answers["/v1/completions"] = (500, "dead")
    with pytest.raises(NotReadyError, match=r"after 0 s: .* 500: dead\. .* raise ai_models\.readiness"):
        wait_ready(deployment(fake_engine.port), 0.3, interval_s=0.05)


def test_a_process_with_an_odd_name_is_alive() -> None:
    assert alive(os.getpid())
    assert not alive(2**22 + 1)

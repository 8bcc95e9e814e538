"""Checks, their deadlines, and which follow from the settings."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from citadel_llm.configuration import loader
from citadel_llm.engine.readiness import alive
from citadel_llm.schema.settings import CpuThresholds, DiskThresholds, MemoryThresholds
from citadel_llm.services.health import checks, model, plan
from citadel_llm.services.health.model import Check, Finding, State
from citadel_llm.services.health.threads import in_thread
from citadel_llm.services.systemd import Systemd
from files.app.tests.fixtures.engine import FakeEngine
from files.app.tests.fixtures.systemd import FakeSystemd, Unit

GATEWAY = "citadel-gateway.service"


async def ok() -> Finding:
    return Finding("ok", "fine")


async def slow() -> Finding:
    await asyncio.sleep(30)
    raise AssertionError


async def broken() -> Finding:
    raise KeyError("MemTotal")


async def critical() -> Finding:
    return Finding("critical", "bad", {"value": 1.0})


async def test_checks_run_together_and_none_hides_another() -> None:
    planned = [
        Check("a", "x", ok, 1),
        Check("b", "x", slow, 0.1),
        Check("c", "x", slow, 0.1, late="unknown"),
        Check("d", "x", broken, 1),
        Check("e", "x", critical, 1, unit=GATEWAY),
        Check("f", "x", critical, 1, vital=False),
    ]
    begin = time.monotonic()
    results = await model.run_all(planned)
    assert time.monotonic() - begin < 5
    assert [result.name for result in results] == list("abcdef")
    assert [result.state for result in results] == [
        "ok",
        "critical",
        "unknown",
        "unknown",
        "critical",
        "warning",
    ]
    assert results[1].message == "no result within 0.1 s"
    assert "MemTotal" in results[3].message
    assert results[4].as_dict()["values"] == {"value": 1.0}
    assert results[4].unit == GATEWAY


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([], "ok"),
        (["ok", "ok"], "ok"),
        (["ok", "unknown"], "unknown"),
        (["unknown", "warning", "ok"], "warning"),
        (["critical", "warning"], "critical"),
    ],
)
def test_the_worst_state_counts(states: list[State], expected: State) -> None:
    assert model.worst(states) == expected


async def test_a_call_that_hangs_does_not_keep_the_process(tmp_path: Path) -> None:
    hang = threading.Event()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(in_thread(hang.wait), 0.05)
    assert all(thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread())
    hang.set()


async def test_a_call_in_a_thread_hands_on_what_it_raises() -> None:
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 / 0)


async def test_http_compares_the_status(fake_engine: FakeEngine) -> None:
    url = f"http://127.0.0.1:{fake_engine.port}"
    fake_engine.answers["/ready"] = (503, "no engine\nserves")
    assert (await checks.http(f"{url}/health", (200,), 2)).state == "ok"
    assert (await checks.http(f"{url}/ready", (200, 503), 2)).state == "ok"
    finding = await checks.http(f"{url}/ready", (200, 204), 2)
    assert (finding.state, finding.message) == (
        "critical",
        "/ready answered 503, not 200 or 204: no engine serves",
    )


async def test_http_without_an_answer_is_critical(
    fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{fake_engine.port}")
    finding = await checks.http("http://127.0.0.1:1/", (200,), 2)
    assert finding.state == "critical"
    assert "Connection refused" in finding.message
    fake_engine.delay_s = 2
    finding = await checks.http(f"http://127.0.0.1:{fake_engine.port}/health", (200,), 0.1)
    assert finding.state == "critical"
    assert "timed out" in finding.message


async def test_tcp_connects() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert (await checks.tcp("127.0.0.1", port)).state == "ok"
    finding = await checks.tcp("127.0.0.1", port)
    assert (finding.state, finding.message) == ("critical", f"127.0.0.1:{port}: Connection refused")


@pytest.mark.parametrize(
    ("unit", "state", "message"),
    [
        (Unit(), "ok", "active (running)"),
        (Unit("activating", "start-post"), "warning", "activating (start-post)"),
        (
            Unit("failed", "failed", result="exit-code"),
            "critical",
            "failed (failed), result exit-code. See: citadel",
        ),
        (Unit("inactive", "dead"), "critical", "inactive (dead). See"),
        (Unit("inactive", "dead", "not-found"), "critical", "is not installed: run the playbook"),
    ],
)
async def test_a_unit_must_be_active(
    fake_systemd: FakeSystemd, unit: Unit, state: State, message: str
) -> None:
    fake_systemd.units[GATEWAY] = unit
    async with Systemd() as systemd:
        finding = await checks.process(systemd, GATEWAY, "")
    assert finding.state == state
    assert finding.message.startswith(message)


async def test_a_unit_is_unknown_without_systemd() -> None:
    assert await checks.process(None, GATEWAY, "no bus") == Finding("unknown", "no bus")


@pytest.mark.parametrize(
    ("limits", "state"),
    [
        ({}, "ok"),
        ({"warning_free_percent": 50}, "warning"),
        ({"warning_free_percent": 50, "critical_free_percent": 45}, "critical"),
        ({"warning_free_bytes": 4001}, "warning"),
        ({"warning_free_bytes": 4001, "critical_free_bytes": 4001}, "critical"),
    ],
)
async def test_free_space_is_compared(
    monkeypatch: pytest.MonkeyPatch, limits: dict[str, Any], state: State
) -> None:
    usage = shutil._ntuple_diskusage(10_000, 6_000, 4_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    finding = await checks.disk("/data", DiskThresholds(**limits))
    assert finding.state == state
    assert finding.values == {"free_bytes": 4000.0, "free_percent": 40.0}


async def test_a_path_that_is_not_there_is_unknown() -> None:
    finding = await checks.disk("/nonexistent", DiskThresholds())
    assert (finding.state, finding.message) == ("unknown", "/nonexistent: No such file or directory")


@pytest.mark.parametrize(("available", "state"), [(500, "ok"), (90, "warning"), (20, "critical")])
async def test_memory_is_compared(tmp_path: Path, available: int, state: State) -> None:
    source = tmp_path / "meminfo"
    source.write_text(
        f"MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable: {available} kB\nHugePages_Total: 0\n"
    )
    finding = await checks.memory(MemoryThresholds(), source)
    assert finding.state == state
    assert finding.values["available_bytes"] == available * 1024


@pytest.mark.parametrize(("load", "state"), [(1.0, "ok"), (9.0, "warning"), (33.0, "critical")])
async def test_load_is_compared_per_core(monkeypatch: pytest.MonkeyPatch, load: float, state: State) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "getloadavg", lambda: (99.0, load, 0.0))
    assert (await checks.cpu(CpuThresholds())).state == state


@pytest.mark.parametrize(
    ("script", "state", "message"),
    [
        ("print('all  good')", "ok", "all good"),
        ("import sys; print('hm', file=sys.stderr); sys.exit(1)", "warning", "hm"),
        ("import sys; sys.exit(2)", "critical", "exit status 2"),
        ("import os; os.kill(os.getpid(), 9)", "critical", "exit status -9"),
    ],
)
async def test_a_command_answers_by_its_exit_status(script: str, state: State, message: str) -> None:
    finding = await checks.command((sys.executable, "-c", script))
    assert finding.state == state
    assert message in finding.message


async def test_a_command_that_is_not_there_is_unknown() -> None:
    assert await checks.command(("/nonexistent",)) == Finding(
        "unknown", "/nonexistent: No such file or directory"
    )


async def test_a_command_past_its_deadline_is_ended_with_its_children(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    script = f"sleep 60 & echo $! > {mark}; wait"
    check = Check("slow", "command", lambda: checks.command(("sh", "-c", script)), 0.5)
    (result,) = await model.run_all([check])
    assert (result.state, result.message) == ("critical", "no result within 0.5 s")
    child = int(mark.read_text())
    deadline = time.monotonic() + 5
    while alive(child):
        assert time.monotonic() < deadline, "the command's child still runs"
        await asyncio.sleep(0.02)


def test_the_plan_follows_from_the_settings(config_dir: Path, tmp_path: Path) -> None:
    environ = {f"CITADEL__CITADEL__PATHS__{name}": str(tmp_path) for name in ("HOME", "MODELS")}
    settings = loader.load(config_dir, environ={**environ, "CITADEL__CITADEL__PATHS__LOGS": "/nonexistent"})
    planned = {check.name: check for check in plan.plan(settings, None)}
    assert list(planned) == [
        "unit:engine@phi-3-mini",
        "unit:engine@minilm",
        "unit:gateway",
        "unit:edge",
        "engine:phi-3-mini:health",
        "engine:phi-3-mini:request",
        "engine:minilm:health",
        "engine:minilm:request",
        "gateway:ready",
        "gateway:live",
        "edge:tcp",
        "disk:home",
        "disk:logs",
        "memory",
        "cpu",
        "node-exporter",
        "model-store-mounted",
    ]
    assert planned["engine:minilm:request"].unit == "citadel-engine@minilm.service"
    assert planned["engine:minilm:request"].timeout_s > settings.health.engine_timeout_s
    assert planned["gateway:live"].unit == GATEWAY
    assert planned["gateway:ready"].unit is None
    assert planned["unit:edge"].unit == planned["edge:tcp"].unit == "citadel-edge.service"
    assert (planned["memory"].vital, planned["node-exporter"].vital) == (True, False)


def test_a_foreign_edge_is_watched_but_not_recovered(config_dir: Path) -> None:
    settings = loader.load(config_dir, environ={"CITADEL__CITADEL__EDGE__UNIT": "nginx.service"})
    edge = [check for check in plan.plan(settings, None) if "edge" in check.name]
    assert [(check.name, check.unit) for check in edge] == [("unit:edge", None), ("edge:tcp", None)]


async def test_configured_checks_are_made(
    config_dir: Path,
    fake_engine: FakeEngine,
    fake_systemd: FakeSystemd,
    rewrite: Callable[[str, str, str], None],
) -> None:
    fake_systemd.units["other.service"] = Unit()
    url = f"http://127.0.0.1:{fake_engine.port}/health"
    limits = "{warning_free_percent: 100, critical_free_percent: 100}"
    configured = f"""[
      {{name: web, kind: http, url: '{url}'}},
      {{name: port, kind: tcp, host: 127.0.0.1, port: {fake_engine.port}}},
      {{name: proc, kind: process, unit: other.service}},
      {{name: root, kind: disk, path: /, thresholds: {limits}}},
      {{name: cmd, kind: command, argv: ['true'], timeout_s: 3}}]"""
    settings = loader.load(config_dir, environ={"CITADEL__HEALTH__CHECKS": configured})
    async with Systemd() as systemd:
        results = await model.run_all(plan.plan(settings, systemd)[-5:])
    assert [(result.name, result.kind, result.state) for result in results] == [
        ("web", "http", "ok"),
        ("port", "tcp", "ok"),
        ("proc", "process", "ok"),
        ("root", "disk", "critical"),
        ("cmd", "command", "ok"),
    ]


async def test_an_engine_is_asked_for_a_token(config_dir: Path, fake_engine: FakeEngine) -> None:
    environ = {
        "CITADEL__AI_MODELS__DEPLOYMENTS": f"[{{name: a, model: a, path: /m, port: {fake_engine.port}}}]",
    }
    settings = loader.load(config_dir, environ=environ)
    planned = [check for check in plan.plan(settings, None) if check.name.startswith("engine:a")]
    assert [result.state for result in await model.run_all(planned)] == ["ok", "ok"]
    fake_engine.answers["/v1/completions"] = (500, "EngineDeadError")
    health, request = await model.run_all(planned)
    assert (health.state, request.state) == ("ok", "critical")
    assert "EngineDeadError" in request.message

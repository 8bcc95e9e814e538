"""`citadel start|stop|restart|reload`, `status`, `health` and `logs`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from citadel_llm.cli.main import run
from files.app.tests.fixtures.engine import FakeEngine
from files.app.tests.fixtures.journalctl import FakeJournal
from files.app.tests.fixtures.systemd import FakeSystemd, Unit

Capture = pytest.CaptureFixture[str]
Rewrite = Callable[[str, str, str], None]
PHI, MINI = "citadel-engine@phi-3-mini.service", "citadel-engine@minilm.service"
GATEWAY, SOCKET = "citadel-gateway.service", "citadel-gateway.socket"
EDGE = "citadel-edge.service"


@pytest.fixture
def server(config_dir: Path, fake_systemd: FakeSystemd, fake_journal: FakeJournal) -> FakeSystemd:
    """A server on which everything runs."""
    fake_systemd.units = {
        GATEWAY: Unit(can_reload=True),
        PHI: Unit(),
        MINI: Unit(),
        EDGE: Unit(can_reload=True),
    }
    return fake_systemd


@pytest.fixture
def serving(server: FakeSystemd, fake_engine: FakeEngine, rewrite: Rewrite, tmp_path: Path) -> FakeSystemd:
    """One listener that plays gateway and edge and the only engine, and paths that exist."""
    port = fake_engine.port
    fake_engine.answers.update({"/ready": (200, "ready"), "/live": (200, "")})
    for key, path in (
        ("home", "/opt/citadel"),
        ("state", "/var/lib/citadel"),
        ("models", "/opt/citadel/models"),
    ):
        rewrite("global/citadel.yaml", f"{key}: {path}\n", f"{key}: {tmp_path}\n")
    rewrite("global/citadel.yaml", "logs: /opt/citadel/logs", f"logs: {tmp_path}")
    rewrite(
        "global/citadel.yaml",
        "edge:\n    host: 127.0.0.1\n    port: 443\n    unit: citadel-edge.service",
        "edge: null",
    )
    rewrite("services/api_gateway.yaml", "internal_port: 8081", f"internal_port: {port}")
    rewrite("services/api_gateway.yaml", "/var/lib/citadel/routing/routing.json", f"{tmp_path}/routing.json")
    rewrite(
        "environments/production.yaml",
        "logging:",
        "ai_models:\n  deployments: []\nhealth:\n  checks: []\nlogging:",
    )
    return server


def calls(server: FakeSystemd, verb: str) -> list[str]:
    return [unit for called, unit in server.calls if called == verb]


@pytest.mark.parametrize(
    ("args", "order"),
    [
        (["start"], [MINI, PHI, GATEWAY, EDGE]),
        (["stop"], [EDGE, GATEWAY, PHI, MINI]),
        (["restart"], [MINI, PHI, GATEWAY, EDGE]),
        (["restart", "gateway"], [GATEWAY]),
        (["stop", "minilm"], [MINI]),
        (["reload", "gateway"], [GATEWAY]),
        (["reload"], [GATEWAY, EDGE]),
    ],
)
def test_services_are_controlled_in_order(
    server: FakeSystemd, args: list[str], order: list[str], capsys: Capture
) -> None:
    assert run(args) == 0
    assert calls(server, args[0]) == order
    assert f"{args[0]} {order[-1]}: done" in capsys.readouterr().out


def test_a_failure_shows_the_last_words(
    server: FakeSystemd, fake_journal: FakeJournal, capsys: Capture
) -> None:
    server.job_results[PHI] = "failed"
    server.units[PHI].result, server.units[PHI].exit_status = "exit-code", 1
    fake_journal.add("RuntimeError: no kernel image", unit=PHI)
    assert run(["restart", "phi-3-mini"]) == 1
    assert capsys.readouterr().err == (
        f"citadel: restart {PHI}: failed: result exit-code, exit status 1\n  RuntimeError: no kernel image\n"
    )


def test_a_denial_names_the_remedy(server: FakeSystemd, capsys: Capture) -> None:
    server.error = (
        "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
        "Interactive authentication required.",
    )
    assert run(["stop", "gateway"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"citadel: stop {GATEWAY}: not permitted")
    assert error.count("\n") == 1


def test_foreign_units_are_refused(server: FakeSystemd, capsys: Capture) -> None:
    assert run(["stop", "nginx"]) == 1
    assert (
        "'nginx' is no service of Citadel. Services: edge, gateway, minilm, phi-3-mini"
        in capsys.readouterr().err
    )
    assert server.calls == []


def test_a_broken_configuration_does_not_prevent_stopping(
    server: FakeSystemd, config_dir: Path, capsys: Capture
) -> None:
    (config_dir / "global" / "citadel.yaml").write_text("[")
    assert run(["stop"]) == 0
    assert calls(server, "stop") == [EDGE, GATEWAY, PHI, MINI]
    assert "global/citadel.yaml:1: not valid YAML" in capsys.readouterr().err


def test_nothing_installed_is_told(server: FakeSystemd, capsys: Capture) -> None:
    server.units = {}
    assert run(["start"]) == 1
    assert "no service of Citadel is installed on this server: run the playbook" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["start", "health --recover"])
def test_without_a_bus_there_is_one_line(
    config_dir: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus")
    assert run(command.split()) == 1
    error = capsys.readouterr().err
    assert error.startswith("citadel: systemd cannot be reached over D-Bus")
    assert error.count("\n") == 1


def status(capsys: Capture) -> Any:
    assert run(["status", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_status_tells_everything(server: FakeSystemd, capsys: Capture) -> None:
    server.units[PHI] = Unit("failed", "failed", result="signal", restarts=4, pid=0)
    found = status(capsys)
    assert (found["node"], found["environment"]) == ("hx-llm-server-01", "production")
    assert [row["service"] for row in found["services"]] == [
        "engine@minilm",
        "engine@phi-3-mini",
        "gateway",
        "edge",
    ]
    assert found["services"][1]["restarts"] == 4
    assert [(m["model"], m["state"]) for m in found["models"]] == [
        ("phi-3-mini-4k-instruct", "failed"),
        ("all-minilm-l6-v2", "active"),
    ]
    assert found["gateway"]["ready"] is False
    assert "citadel routing apply" in found["snapshot"]["problem"]
    assert found["problems"] == []


def test_status_as_a_table(serving: FakeSystemd, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "routing.json").write_text('{"version": "abc123"}')
    serving.units[PHI] = Unit("failed", "failed", result="signal", memory=3 * 2**30)
    assert run(["status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["citadel", "0.1.0", "hx-llm-server-01", "production"]
    assert lines[1].split() == ["SERVICE", "STATE", "SINCE", "MEMORY", "RESTARTS", "PID"]
    row = next(line for line in lines if line.startswith("engine@phi-3-mini"))
    assert "failed (signal)" in row
    assert "3.0 GiB" in row
    assert lines[-2:] == ["gateway: ready (answered 200)", "routing snapshot: abc123"]


def test_status_of_a_damaged_snapshot(serving: FakeSystemd, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "routing.json").write_text("[]")
    assert status(capsys)["snapshot"]["problem"].startswith("not a routing snapshot")


def test_status_without_settings_and_bus_says_why(
    config_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus")
    (config_dir / "environment").unlink()
    found = status(capsys)
    assert found["services"] == []
    assert found["gateway"]["ready"] is None
    assert len(found["problems"]) == 2


def test_health_is_ok(serving: FakeSystemd, rewrite: Rewrite, capsys: Capture) -> None:
    rewrite(
        "global/metrics.yaml",
        "warning_free_percent: 15\n    critical_free_percent: 5",
        "warning_free_percent: 0\n    critical_free_percent: 0",
    )
    rewrite(
        "global/metrics.yaml",
        "warning_load_per_core: 2.0\n    critical_load_per_core: 8.0",
        "warning_load_per_core: 999\n    critical_load_per_core: 999",
    )
    assert run(["health", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["state"] == "ok"
    assert [check["name"] for check in found["checks"]] == [
        "unit:gateway",
        "gateway:ready",
        "gateway:live",
        "disk:home",
        "memory",
        "cpu",
    ]
    assert {"name", "kind", "state", "message", "seconds", "unit", "values"} == set(found["checks"][0])


def test_health_exit_status_is_the_worst_state(
    serving: FakeSystemd, fake_engine: FakeEngine, capsys: Capture
) -> None:
    serving.units[GATEWAY] = Unit("activating", "start")
    assert run(["health", "unit:"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "health: warning"
    fake_engine.answers["/ready"] = (503, "no engine serves")
    assert run(["health", "gateway", "unit:"]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["CHECK", "STATE", "TIME", "FOUND"]
    assert lines[2].split()[:2] == ["gateway:ready", "critical"]
    assert len(lines) == 5
    assert run(["health", "nothing"]) == 2
    assert "no check is called 'nothing' or begins so. Checks: unit:gateway" in capsys.readouterr().err


def test_health_restarts_only_when_told(
    serving: FakeSystemd, fake_engine: FakeEngine, capsys: Capture
) -> None:
    fake_engine.answers["/live"] = (500, "stuck")
    assert run(["health", "gateway"]) == 2
    assert calls(serving, "restart") == []
    assert run(["health", "gateway", "--recover"]) == 2
    assert calls(serving, "restart") == [GATEWAY]
    assert f"recovery: {GATEWAY} restarted: gateway:live: /live answered 500" in capsys.readouterr().out


def test_logs_are_readable_lines(server: FakeSystemd, fake_journal: FakeJournal, capsys: Capture) -> None:
    event = {"event": "request", "level": "warning", "request_id": "r1", "path": "/v1/chat completions"}
    fake_journal.add(json.dumps(event))
    fake_journal.add("INFO started", unit=PHI)
    assert run(["logs", "--lines", "5"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith('warning  gateway: request request_id=r1 path="/v1/chat completions"')
    assert second.endswith("info     engine@phi-3-mini: INFO started")
    assert "--unit=citadel-*.service" in fake_journal.argv


@pytest.mark.parametrize(
    ("args", "unit"), [(["gateway"], GATEWAY), (["minilm"], MINI), (["edge"], EDGE), ([PHI], PHI)]
)
def test_logs_of_one_service(
    server: FakeSystemd, fake_journal: FakeJournal, args: list[str], unit: str
) -> None:
    assert run(["logs", *args]) == 0
    assert f"--unit={unit}" in fake_journal.argv


def test_logs_are_filtered(server: FakeSystemd, fake_journal: FakeJournal, capsys: Capture) -> None:
    for number in range(3):
        fake_journal.add(json.dumps({"event": f"e{number}", "level": "error", "request_id": f"r{number}"}))
    assert run(["logs", "--level", "error", "--request-id", "r1", "--grep", "E[0-9]", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["message"] == "e1"
    assert run(["logs", "--grep", "none"]) == 0
    assert capsys.readouterr().err == "citadel: no log entries match\n"
    assert run(["logs", "--grep", "["]) == 2
    assert "not a regular expression" in capsys.readouterr().err
    assert run(["logs", "--since", "today", "--follow"]) == 0
    assert "--follow" in fake_journal.argv


def test_logs_of_a_foreign_unit_are_refused(server: FakeSystemd, capsys: Capture) -> None:
    assert run(["logs", "ssh"]) == 1
    assert "'ssh' is no service of Citadel" in capsys.readouterr().err


def test_logs_of_other_units_and_hosts(
    server: FakeSystemd, fake_journal: FakeJournal, capsys: Capture
) -> None:
    fake_journal.add("hello", unit="nginx.service", _HOSTNAME="llm-2")
    assert run(["logs", "--unit", "nginx", "--host", "*"]) == 0
    assert "llm-2 nginx: hello" in capsys.readouterr().out
    assert {"--unit=nginx.service", "--merge"} <= set(fake_journal.argv)
    assert run(["logs", "gateway", "--unit", "nginx"]) == 2


def test_patterns_of_logs(server: FakeSystemd, fake_journal: FakeJournal, capsys: Capture) -> None:
    for number in range(3):
        fake_journal.add(json.dumps({"event": f"took {number} s", "level": "warning"}))
    assert run(["logs", "patterns", "gateway", "--hours", "2", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    # The same journal answers for both times.
    assert (found["pattern"], found["count"], found["before"], found["new"]) == (
        "took <number> s",
        3,
        3,
        False,
    )
    assert fake_journal.argv[-4:] == ["--since", "-4h", "--until", "-2h"]
    assert run(["logs", "patterns"]) == 0
    assert "+0" in capsys.readouterr().out

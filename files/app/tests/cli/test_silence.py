"""`citadel silence`, in front of an Alertmanager that keeps silences in memory."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from citadel_llm.cli.main import run
from citadel_llm.services.silences import SilenceError, duration, matcher

Capture = pytest.CaptureFixture[str]


class Alertmanager(ThreadingHTTPServer):
    silences: dict[str, dict[str, Any]]


class Api(BaseHTTPRequestHandler):
    server: Alertmanager

    def answer(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode() if value is not None else b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        assert self.path == "/api/v2/silences"
        self.answer(200, list(self.server.silences.values()))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body["comment"] == "bad":
            self.answer(400, "silence invalid")
            return
        identity = str(uuid.uuid4())
        self.server.silences[identity] = {**body, "id": identity, "status": {"state": "active"}}
        self.answer(200, {"silenceID": identity})

    def do_DELETE(self) -> None:
        self.server.silences[self.path.rpartition("/")[2]]["status"]["state"] = "expired"
        self.answer(200, None)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def alertmanager() -> Iterator[Alertmanager]:
    server = Alertmanager(("127.0.0.1", 0), Api)
    server.silences = {}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def call(alertmanager: Alertmanager, config_dir: Path) -> Callable[..., int]:
    port = alertmanager.server_address[1]
    text = f"monitoring: {{alertmanager: 'http://127.0.0.1:{port}'}}\n"
    (config_dir / "global/monitoring.yaml").write_text(text)
    return lambda *words: run(["silence", *words])


def test_a_silence_is_made_listed_and_ended(
    call: Callable[..., int], alertmanager: Alertmanager, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "operator")
    assert (
        call(
            "add",
            "--host",
            "llm-1",
            "--alert",
            "GpuHot",
            "severity=~info|warning",
            "--for",
            "2h",
            "--comment",
            "fan",
        )
        == 0
    )
    identity = capsys.readouterr().out.strip()
    made = alertmanager.silences[identity]
    assert made["createdBy"] == "operator"
    assert made["matchers"] == [
        {"name": "severity", "value": "info|warning", "isRegex": True, "isEqual": True},
        {"name": "host", "value": "llm-1", "isRegex": False, "isEqual": True},
        {"name": "alertname", "value": "GpuHot", "isRegex": False, "isEqual": True},
    ]
    length = datetime.fromisoformat(made["endsAt"]) - datetime.fromisoformat(made["startsAt"])
    assert length == timedelta(hours=2)
    assert call("list") == 0
    assert "severity=~info|warning host=llm-1 alertname=GpuHot" in capsys.readouterr().out
    assert call("list", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["comment"] == "fan"
    assert call("expire", identity) == 0
    assert alertmanager.silences[identity]["status"]["state"] == "expired"
    capsys.readouterr()
    assert call("list") == 0
    assert identity not in capsys.readouterr().out
    assert call("list", "--all") == 0
    assert identity in capsys.readouterr().out


def test_all_silences_end(call: Callable[..., int], alertmanager: Alertmanager) -> None:
    for host in ("a", "b"):
        assert call("add", "--host", host, "--for", "30m", "--comment", "work") == 0
    assert call("expire", "--all") == 0
    assert {one["status"]["state"] for one in alertmanager.silences.values()} == {"expired"}


@pytest.mark.parametrize(
    ("words", "status", "reason"),
    [
        (["add", "--for", "2h", "--comment", "x"], 2, "say what to silence"),
        (["add", "--host", "a", "--for", "soon", "--comment", "x"], 1, "'soon' is no duration"),
        (["add", "=x", "--for", "1h", "--comment", "x"], 1, "'=x' is no matcher"),
        (["add", "--host", "a", "--for", "1h", "--comment", "bad"], 1, "refused it (400)"),
        (["expire"], 2, "give the ids"),
        (["expire", "../x"], 1, "no silence's id"),
        (["list", "--url", "http://127.0.0.1:1"], 1, "does not answer"),
    ],
)
def test_mistakes_are_explained(
    call: Callable[..., int], capsys: Capture, words: list[str], status: int, reason: str
) -> None:
    assert call(*words) == status
    assert reason in capsys.readouterr().err


def test_elsewhere_than_on_the_monitoring_host(config_dir: Path, capsys: Capture) -> None:
    assert run(["silence", "list"]) == 1
    assert "run this on the monitoring host" in capsys.readouterr().err


def test_durations_and_matchers() -> None:
    assert duration("1d12h") == timedelta(hours=36)
    assert duration("90s") == timedelta(seconds=90)
    for text in ("", "0m", "91d", "1w", "2h "[:1]):
        with pytest.raises(SilenceError):
            duration(text)
    assert matcher('host="a"') == {"name": "host", "value": "a", "isRegex": False, "isEqual": True}
    assert matcher("host!~a.*")["isEqual"] is False

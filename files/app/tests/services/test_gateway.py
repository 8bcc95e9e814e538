"""`citadel routing backends|pause|resume` against what the gateway answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from citadel_llm.cli.main import run

Rewrite = Callable[[str, str, str], None]
BACKEND = {"state": "up", "arm": None, "in_flight": 1, "max_in_flight": 64, "first_byte_s": 0.0123}


class Gateway(HTTPServer):
    """Answers as the internal port does. `in_flight` goes down by one with each question."""

    in_flight = 2
    paused: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []

    def model(self) -> dict[str, Any]:
        self.in_flight = max(0, self.in_flight - 1)
        return {
            "model": "org/smol",
            "paused_by": list(self.paused),
            "waiting": 3,
            "in_flight": self.in_flight,
            "backends": {"a": BACKEND},
        }


class Handler(BaseHTTPRequestHandler):
    server: Gateway

    def do_GET(self) -> None:
        self.server.asked.append(f"GET {self.path}")
        self.answer(200, {"org/smol": self.server.model()})

    def do_POST(self) -> None:
        self.server.asked.append(f"POST {self.path}")
        known = self.path.endswith("?model=org%2Fsmol")
        self.answer(200 if known else 404, self.server.model() if known else {"error": "there is no model"})

    def answer(self, status: int, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's name)
        pass


@pytest.fixture
def gateway(rewrite: Rewrite) -> Iterator[Gateway]:
    server = Gateway()
    rewrite("services/api_gateway.yaml", "8081", str(server.server_address[1]))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_back_ends_are_shown(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["routing", "backends"]) == 0
    assert "org/smol  a         up     -    1/64       3        12 ms" in capsys.readouterr().out
    assert run(["routing", "backends", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["org/smol"]["backends"]["a"] == BACKEND


def test_a_pause_waits_until_nothing_is_in_flight(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["routing", "pause", "org/smol", "--wait", "30"]) == 0
    assert capsys.readouterr().out == "org/smol: requests are held; 0 in flight, 3 waiting\n"
    assert gateway.asked[0] == "POST /pause?model=org%2Fsmol"
    gateway.in_flight = 10**6
    assert run(["routing", "pause", "org/smol", "--wait", "0.01"]) == 1
    assert "still in flight after 0.01 s" in capsys.readouterr().err
    gateway.in_flight = 6
    assert run(["routing", "pause", "org/smol"]) == 0
    assert "5 in flight" in capsys.readouterr().out


def test_a_resume_tells_what_still_holds(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["routing", "resume", "org/smol"]) == 0
    assert "requests go on; 3 waiting" in capsys.readouterr().out
    gateway.paused = ("snapshot",)
    assert run(["routing", "resume", "org/smol"]) == 0
    assert "still paused by its snapshot" in capsys.readouterr().out


def test_what_goes_wrong_is_said_in_a_line(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["routing", "pause", "nobody"]) == 1
    assert capsys.readouterr().err == "citadel: there is no model\n"
    gateway.shutdown()
    gateway.server_close()
    assert run(["routing", "backends"]) == 1
    error = capsys.readouterr().err
    assert "does not answer: Connection refused" in error
    assert error.count("\n") == 1

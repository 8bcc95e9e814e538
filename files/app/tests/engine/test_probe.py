"""One real request, and what its answer means."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from citadel_llm.engine.probe import probe
from files.app.tests.fixtures.engine import FakeEngine


@pytest.mark.parametrize(
    ("task", "path", "answer", "sent"),
    [
        ("generate", "/v1/completions", {"choices": [{"text": "a"}]}, {"max_tokens": 1}),
        ("embed", "/v1/embeddings", {"data": [{"embedding": [0.1]}]}, {"input": "Hello"}),
        ("score", "/v1/score", {"data": [{"score": 0.5}]}, {"text_1": "Hello"}),
    ],
)
def test_each_task_has_its_request(
    fake_engine: FakeEngine, task: str, path: str, answer: Any, sent: Any
) -> None:
    fake_engine.answers[path] = (200, answer)
    found = probe("127.0.0.1", fake_engine.port, "m", task, 5)
    assert found.ready
    ((asked, body),) = fake_engine.asked
    assert asked == path
    assert body["model"] == "m"
    assert sent.items() <= body.items()


@pytest.mark.parametrize(
    ("status", "body", "state", "message"),
    [
        (
            404,
            {"error": {"message": "The model `m` does not exist."}},
            "refused",
            "compare --served-model-name",
        ),
        (404, {"detail": "Not Found"}, "refused", "answered 404: Not Found"),
        (400, {"error": {"message": "too long"}}, "refused", "answered 400: too long"),
        (401, {"error": "Unauthorized"}, "refused", "answered 401: Unauthorized"),
        (500, "Internal Server Error", "failing", "answered 500: Internal Server Error"),
        (503, {"error": {"message": "overloaded"}}, "failing", "answered 503: overloaded"),
        (200, {"choices": []}, "failing", "without a result"),
        (200, "<html>", "failing", "without a result"),
        (200, [1], "failing", "without a result"),
    ],
)
def test_a_useless_answer_is_told(
    fake_engine: FakeEngine, status: int, body: Any, state: str, message: str
) -> None:
    fake_engine.answers["/v1/completions"] = (status, body)
    found = probe("127.0.0.1", fake_engine.port, "m", "generate", 5)
    assert found.state == state
    assert message in found.message


def test_an_engine_that_hangs_while_it_says_it_is_healthy_is_found(fake_engine: FakeEngine) -> None:
    fake_engine.delay_s = 5
    found = probe("127.0.0.1", fake_engine.port, "m", "generate", 0.2)
    assert found.state == "failing"
    assert "no answer to a one-token request within 0.2 s" in found.message
    assert found.seconds < 2


def test_nothing_listening_is_starting() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert probe("127.0.0.1", port, "m", "generate", 1).state == "starting"


@pytest.fixture
def rude_port() -> Iterator[int]:
    """Something that listens and speaks no HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _peer = server.accept()
            connection.recv(4096)
            connection.sendall(b"SSH-2.0-OpenSSH\r\n")
            connection.close()

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


def test_another_protocol_is_failing(rude_port: int) -> None:
    found = probe("127.0.0.1", rude_port, "m", "generate", 2)
    assert found.state == "failing"
    assert "SSH-2.0" in found.message

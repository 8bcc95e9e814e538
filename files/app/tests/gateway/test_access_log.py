"""One line for each request: enough to follow it, nothing of what was said."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from citadel_llm.telemetry import configure_logging
from files.app.tests.gateway.harness import MODEL, model_of, running
from files.app.tests.gateway.mock_engine import MockEngine


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging(style="json", stream=stream, service="test")
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def requests_in(log: io.StringIO) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    return [line for line in lines if line["event"] == "request"]


async def test_a_line_tells_who_what_and_how_long(
    log: io.StringIO, tmp_path: Path, engine: MockEngine
) -> None:
    secret = "a-question-nobody-may-read"
    async with running(tmp_path, [model_of(engine)]) as gateway:
        body = {"model": MODEL, "stream": True, "prompt": secret}
        response = await gateway.chat(body, path="/v1/completions?q=" + secret, X_Request_Id="abc")
        answer = await response.read()
        await gateway.chat(Authorization=f"Bearer {gateway.key}x")
    first, second = requests_in(log)
    assert {name: first[name] for name in first if not name.endswith(("_ms", "timestamp"))} == {
        "level": "info",
        "logger": "citadel.access",
        "service": "citadel-gateway",
        "event": "request",
        "request_id": "abc",
        "key_id": "team",
        "method": "POST",
        "path": "/v1/completions",
        "model": MODEL,
        "backend": "engine-0",
        "status": 200,
        "stream": True,
        "bytes_in": len(json.dumps(body)),
        "bytes_out": len(answer),
        "prompt_tokens": 7,
        "completion_tokens": 2,
    }
    assert 0 < first["ttft_ms"] <= first["duration_ms"]
    assert (second["status"], second["key_id"], second["cause"]) == (401, None, "unauthorized")
    assert secret not in log.getvalue()
    assert gateway.key not in log.getvalue()


async def test_it_can_be_switched_off(log: io.StringIO, tmp_path: Path, engine: MockEngine) -> None:
    async with running(tmp_path, [model_of(engine)], access_log=False) as gateway:
        await gateway.chat()
    assert requests_in(log) == []


async def test_a_reader_that_is_stuck_loses_lines_and_holds_up_nobody(
    tmp_path: Path, engine: MockEngine
) -> None:
    from citadel_llm.telemetry import access
    from citadel_llm.telemetry.logs import output_lock

    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging(style="json", stream=stream)
    try:
        writer = access.AccessLog(service="test")
        capacity = access._BATCH * access._MAX_BATCHES
        with output_lock:  # as when a write blocks
            for number in range(capacity * 2):
                writer.write({"n": number})
        assert 0 < writer.dropped <= capacity
        writer.close()
        assert len(stream.getvalue().splitlines()) == capacity * 2 - writer.dropped
    finally:
        structlog.reset_defaults()
        root.handlers[:] = handlers
        root.setLevel(level)

"""Logs as machines and people read them."""

from __future__ import annotations

import io
import json
import logging
import secrets

import pytest

from citadel_llm.telemetry import configure_logging, get_logger, set_level

SECRET = secrets.token_urlsafe(24)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_are_json_with_fields_and_without_secrets() -> None:
    stream = io.StringIO()
    configure_logging(stream=stream, service="test")
    get_logger("a.b").info("hello", number=1, name_="é", password=SECRET, url=f"http://u:{SECRET}@h/")
    logging.getLogger("library").warning("said %s", f"Bearer {SECRET}")
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["event"], first["level"], first["logger"], first["service"]) == (
        "hello",
        "info",
        "a.b",
        "test",
    )
    assert (first["number"], first["name_"], first["password"]) == (1, "é", "[redacted]")
    assert first["timestamp"].endswith("Z")
    assert (second["event"], second["logger"]) == ("said Bearer [redacted]", "library")
    assert SECRET not in stream.getvalue()


def test_an_exception_is_one_line_and_masked() -> None:
    stream = io.StringIO()
    configure_logging(stream=stream)
    try:
        raise ValueError(f"api_key={SECRET}")
    except ValueError:
        get_logger("x").exception("failed")
    (line,) = stream.getvalue().splitlines()
    document = json.loads(line)
    assert "Traceback" in document["exception"]
    assert SECRET not in line


def test_a_terminal_gets_colours_and_no_secrets() -> None:
    stream = Terminal()
    configure_logging(stream=stream)
    try:
        raise ValueError(f"token={SECRET}")
    except ValueError:
        get_logger("x").exception("failed", secret=SECRET)
    assert "\x1b[" in stream.getvalue()
    assert "ValueError" in stream.getvalue()
    assert SECRET not in stream.getvalue()


def test_the_level_can_be_changed_at_any_time() -> None:
    stream = io.StringIO()
    configure_logging(stream=stream, level="warning")
    log = get_logger("x")
    log.info("one")
    set_level("debug")
    log.debug("two")
    configure_logging(stream=stream, level="info")
    log.info("three")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["two", "three"]
    with pytest.raises(ValueError, match="'loud' is not a log level; choose one of debug, info"):
        set_level("loud")

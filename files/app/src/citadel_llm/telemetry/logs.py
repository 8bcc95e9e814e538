"""Structured logging: JSON lines for journald, colours on a terminal, secrets masked in both."""

from __future__ import annotations

import logging
import sys
import threading
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from citadel_llm.telemetry.redaction import redact

Style = Literal["auto", "json", "console"]
output_lock = threading.RLock()
"""Held while a line is written, so that lines of several writers never mix."""

LEVELS = ("debug", "info", "warning", "error", "critical")


class _Handler(logging.StreamHandler[TextIO]):
    style: Style = "auto"

    def createLock(self) -> None:  # noqa: N802 (the name is the standard library's)
        self.lock = output_lock


def configure_logging(
    *, level: str = "info", style: Style = "auto", stream: TextIO | None = None, service: str | None = None
) -> None:
    """Send every log of the process, the libraries' too, to `stream` (stdout unless told).

    `auto` is coloured text on a terminal and JSON lines elsewhere. Calling it again replaces what was there.
    Raises ValueError when `level` is not a level.
    """
    stream = stream if stream is not None else sys.stdout
    if style == "auto":
        style = "console" if stream.isatty() else "json"
    shared = _shared_processors(service)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = _Handler(stream)
    handler.style = style
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_rendering(style))
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    set_level(level)


def json_stream() -> TextIO | None:
    """Where the process's logs go when they are JSON lines, else None."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Handler) and handler.style == "json":
            return handler.stream
    return None


def set_level(level: str) -> None:
    """Change the level of the whole process. Raises ValueError when it is not a level."""
    if level.lower() not in LEVELS:
        raise ValueError(f"{level!r} is not a log level; choose one of {', '.join(LEVELS)}")
    logging.getLogger().setLevel(level.upper())


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger for events with fields: ``log.info("snapshot loaded", version=…)``."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def _shared_processors(service: str | None) -> list[Processor]:
    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        structlog.processors.UnicodeDecoder(),
    ]
    if service is not None:

        def add_service(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
            event["service"] = service
            return event

        processors.insert(0, add_service)
    return processors


def _rendering(style: Style) -> list[Processor]:
    remove_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if style == "json":
        return [
            remove_meta,
            _redact_event,
            structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
        ]
    # An exception is text by now; the renderer must not look for a live one.
    renderer = structlog.dev.ConsoleRenderer(colors=True, exception_formatter=structlog.dev.plain_traceback)
    return [remove_meta, _redact_event, renderer]


def _redact_event(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    masked: dict[str, Any] = redact(dict(event))
    return masked

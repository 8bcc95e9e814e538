"""The access log: one JSON line per request, written by a thread so that no slow reader holds up requests."""

from __future__ import annotations

import json
import logging
import queue
import threading
from typing import Any, TextIO

from citadel_llm.telemetry.logs import get_logger, json_stream, output_lock
from citadel_llm.telemetry.stamps import stamps

_NAME = "citadel.access"
_BATCH = 256
_MAX_BATCHES = 64
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str).encode


class AccessLog:
    """Writes lines like those of `configure_logging`, without its cost for each line.

    The caller vouches for its fields: they are not searched for secrets. Lines wait in memory for at most
    `_BATCH * _MAX_BATCHES` entries; beyond that they are dropped and counted in `dropped`.
    """

    def __init__(self, *, service: str) -> None:
        self.dropped = 0
        head = {"level": "info", "logger": _NAME, "service": service, "event": "request"}
        self._head = f'Z",{_encode(head)[1:-1]},'
        self._lines: list[str] = []
        self._queue: queue.Queue[list[str] | None] = queue.Queue(_MAX_BATCHES)
        self._logger = get_logger(_NAME)
        self._level = logging.getLogger(_NAME)
        self._thread: threading.Thread | None = None
        stream = json_stream()
        if stream is not None:
            self._thread = threading.Thread(
                target=self._write, args=(stream,), name="access-log", daemon=True
            )
            self._thread.start()

    def write(self, fields: dict[str, Any]) -> bool:
        """Take one line. True when it is the first since the last `flush`: the caller arranges the next."""
        return self.write_members(_encode(fields)[1:-1])

    def write_members(self, members: str) -> bool:
        """The same for fields that are JSON already: the members of an object, without its braces."""
        if not self._level.isEnabledFor(logging.INFO):
            return False
        if self._thread is None:
            self._logger.info("request", **json.loads(f"{{{members}}}"))
            return False
        lines = self._lines
        lines.append(f'{{"timestamp":"{stamps.now()}{self._head}{members}}}')
        if len(lines) >= _BATCH:
            self.flush()
        return len(lines) == 1

    def flush(self) -> None:
        """Hand over what has been taken. It never waits."""
        lines, self._lines = self._lines, []
        if not lines:
            return
        try:
            self._queue.put_nowait(lines)
        except queue.Full:
            self.dropped += len(lines)

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what is left, for at most `timeout_s`."""
        if self._thread is None:
            return
        self.flush()
        try:
            self._queue.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(timeout_s)

    def _write(self, stream: TextIO) -> None:
        while (lines := self._queue.get()) is not None:
            lines.append("")
            try:
                with output_lock:
                    stream.write("\n".join(lines))
                    stream.flush()
            except (OSError, ValueError):
                self.dropped += len(lines) - 1  # nobody reads any more; serving goes on

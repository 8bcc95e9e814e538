"""Usage events on disk: JSON lines in files of bounded size, for whoever does the accounting.

The file that is being written ends in `.open`; when it is complete it is renamed to end in `.jsonl`, and from
then on it belongs to the collector, who may read and remove it. Events are handed to a thread, so a slow disk
holds up no request. What a crash left open is completed at the next start.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from citadel_llm.schema.gateway_access import UsageSettings
from citadel_llm.telemetry import get_logger

_STEM = "usage-"
_DONE = ".jsonl"
_OPEN = ".open"
_log = get_logger("citadel.gateway.usage")


class Spool:
    """Takes events from one thread and writes them in another."""

    def __init__(
        self, directory: Path, settings: UsageSettings, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.written = 0
        self.dropped = {"waiting": 0, "size": 0, "disk": 0}
        """Events that were lost, by cause: too many waited, no room, or the disk refused them."""
        self._directory = directory
        self._settings = settings
        self._clock = clock
        self._lines: deque[str] = deque()
        self._wake = threading.Event()
        self._ending = False
        self._segment: _Segment | None = None
        self._number = 0
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="usage-spool", daemon=True)

    def start(self) -> None:
        """Complete what an earlier process left open, and begin."""
        self._thread.start()

    def add(self, event: str) -> None:
        """Take an event, a JSON object on one line. It never waits."""
        waiting = len(self._lines)
        if waiting >= self._settings.max_waiting:
            self.dropped["waiting"] += 1
            return
        self._lines.append(event)
        if waiting == self._settings.max_waiting // 2:
            self._wake.set()  # otherwise the thread looks by itself: waking it costs more than the event

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what is left, for at most `timeout_s`."""
        if self._thread.is_alive():
            self._ending = True
            self._wake.set()
            self._thread.join(timeout_s)

    def _run(self) -> None:
        self._guarded(self._recover)
        ending = False
        while not ending:
            self._wake.wait(self._settings.sync_s)
            self._wake.clear()
            ending = self._ending
            if self._lines:
                events = [self._lines.popleft() for _ in range(len(self._lines))]
                # Half a character cannot be written; a client may have sent one as its user.
                data = "\n".join([*events, ""]).encode(errors="replace")
                self._guarded(self._write, data, len(events))
            self._guarded(self._rotate, ending)

    # -- files; only the writing thread comes here

    def _guarded(self, work: Callable[..., None], *arguments: Any) -> None:
        """A disk that refuses costs events, not the thread."""
        try:
            work(*arguments)
        except OSError as error:
            if not self._failing:
                reason = error.strerror or str(error)
                _log.error("usage events cannot be written", directory=str(self._directory), reason=reason)
            self._failing = True
        else:
            self._failing = False

    def _recover(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in sorted(self._directory.glob(f"{_STEM}*{_OPEN}")):
            _complete(path)
        numbers = [_number(path) for path in self._directory.glob(f"{_STEM}*{_DONE}")]
        self._number = max(numbers, default=0)

    def _write(self, lines: bytes, count: int) -> None:
        try:
            if self._segment is None:
                self._make_room()
                self._number = max(self._number + 1, int(self._clock() * 1000))
                path = self._directory / f"{_STEM}{self._number:015d}{_OPEN}"
                self._segment = _Segment(path, self._clock())
            self._segment.append(lines)
        except OSError:
            self.dropped["disk"] += count
            self._give_up()
            raise
        self.written += count

    def _rotate(self, ending: bool) -> None:
        segment = self._segment
        if segment is None:
            return
        old = self._clock() - segment.since >= self._settings.segment_age_s
        if ending or old or segment.size >= self._settings.segment_bytes:
            self._segment = None
            segment.complete()

    def _give_up(self) -> None:
        segment, self._segment = self._segment, None
        if segment is not None:
            segment.close()
            with contextlib.suppress(OSError):
                _complete(segment.path)

    def _make_room(self) -> None:
        """Remove the oldest files until a whole new one fits."""
        files = sorted(self._directory.glob(f"{_STEM}*{_DONE}"))
        sizes = {path: _size(path) for path in files}
        total = sum(sizes.values())
        for path in files:
            if total + self._settings.segment_bytes <= self._settings.max_bytes:
                return
            with contextlib.suppress(FileNotFoundError):
                lost = path.read_bytes().count(b"\n")
                path.unlink()
                self.dropped["size"] += lost
                _log.warning("usage events nobody collected were removed", file=path.name, events=lost)
            total -= sizes[path]


class _Segment:
    """The file that is being written."""

    def __init__(self, path: Path, since: float) -> None:
        self.path = path
        self.since = since
        self.size = 0
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def append(self, lines: bytes) -> None:
        view = memoryview(lines)
        while view:
            view = view[os.write(self._descriptor, view) :]
        self.size += len(lines)
        os.fdatasync(self._descriptor)

    def complete(self) -> None:
        self.close()
        self.path.rename(self.path.with_suffix(_DONE))

    def close(self) -> None:
        os.close(self._descriptor)


def _complete(path: Path) -> None:
    """Cut off a line that was not finished, and hand the file over; an empty one is removed."""
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole == 0:
        path.unlink()
        return
    if whole < len(data):
        os.truncate(path, whole)
    path.rename(path.with_suffix(_DONE))


def _number(path: Path) -> int:
    digits = path.stem.removeprefix(_STEM)
    return int(digits) if digits.isdigit() else 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0

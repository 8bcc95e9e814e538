"""The journal of the services, read through journalctl."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from citadel_llm.telemetry.redaction import redact, redact_text

LEVELS = ("debug", "info", "warning", "error", "critical")
_BY_PRIORITY = ("critical", "critical", "critical", "error", "warning", "info", "info", "debug")
# What vLLM and uvicorn write: `(EngineCore pid=12) INFO 01-31 12:00:00 [core.py:1] …`, `INFO:     …`
_PLAIN_LEVEL = re.compile(r"^(?:\([^)]*\)\s*)?(DEBUG|INFO|WARNING|ERROR|CRITICAL)\b:?\s*")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_MACHINE_ID = Path("/etc/machine-id")
_REMEMBERED = 20_000  # lines: more than are ever under way
_ENVELOPE = ("event", "message", "msg", "level", "timestamp", "time", "logger", "service")


class JournalError(Exception):
    """The journal cannot be read; the message says why and the remedy."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a service's log, secrets masked. `fields` are the structured members of a JSON line.

    `identity` is the same for the same line, however often it was shipped: its boot, and its time in it.
    """

    time: datetime
    unit: str
    level: str
    message: str
    fields: dict[str, Any] = field(default_factory=dict)
    host: str = ""
    identity: tuple[str, str] = ("", "")

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "time": self.time.isoformat(timespec="milliseconds"),
            **({"host": self.host} if self.host else {}),
            "unit": self.unit,
            "level": self.level,
            "message": self.message,
            **({"fields": self.fields} if self.fields else {}),
        }


@dataclass(frozen=True, slots=True)
class Range:
    """Where to look: from and until when, as journalctl takes it; on this host, another one, or all.

    Other hosts are those whose journals were shipped here. `host` is a name, `*` stands for all.
    """

    since: str | None = None
    until: str | None = None
    host: str | None = None

    @property
    def argv(self) -> list[str]:
        """Arguments of journalctl."""
        times = [
            *(["--since", self.since] if self.since else []),
            *(["--until", self.until] if self.until else []),
        ]
        if self.host is None:
            return times
        return [*times, "--merge", *([f"_HOSTNAME={self.host}"] if self.host != "*" else [])]


_ANY = Range()


@dataclass(frozen=True, slots=True)
class Filter:
    """What is wanted: the least severe level, a request's id, a regular expression (ignoring case)."""

    level: str | None = None
    request_id: str | None = None
    pattern: re.Pattern[str] | None = None

    @property
    def argv(self) -> list[str]:
        """What journalctl itself can leave out: a request is so found among a million lines in seconds."""
        return ["--case-sensitive=yes", "--grep", re.escape(self.request_id)] if self.request_id else []

    @property
    def any(self) -> bool:
        """Whether anything is filtered."""
        return bool(self.level or self.request_id or self.pattern)

    def accepts(self, entry: Entry) -> bool:
        """Whether an entry is wanted."""
        if self.level and LEVELS.index(entry.level) < LEVELS.index(self.level):
            return False
        if self.request_id and not self._has_request(entry):
            return False
        if self.pattern is None:
            return True
        return bool(self.pattern.search(entry.message)) or any(
            self.pattern.search(f"{key}={value}") for key, value in entry.fields.items()
        )

    def _has_request(self, entry: Entry) -> bool:
        return entry.fields.get("request_id") == self.request_id or str(self.request_id) in entry.message


def last_lines(unit: str, count: int) -> list[str]:
    """The last messages of a unit, secrets masked; empty when the journal cannot be read."""
    argv = ["journalctl", "--unit", unit, "--lines", str(count), "--no-pager", "--quiet", "--output", "cat"]
    try:
        done = subprocess.run(argv, capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    text = done.stdout.decode("utf-8", "replace")
    return [_CONTROL.sub("", redact_text(line)) for line in text.splitlines()]


def read(units: Sequence[str], wanted: Filter, lines: int, where: Range = _ANY) -> list[Entry]:
    """The last `lines` entries that are wanted, oldest first. Raises JournalError."""
    argv = ["--reverse", *([] if wanted.any else ["--lines", str(lines)]), *wanted.argv, *where.argv]
    found: list[Entry] = []
    # Newest first, so that a filter reads no more of the journal than it has to.
    for entry in _entries(units, argv):
        if wanted.accepts(entry):
            found.append(entry)
        if len(found) >= lines:
            break
    return found[::-1]


def follow(units: Sequence[str], wanted: Filter, where: Range = _ANY) -> Iterator[Entry]:
    """New entries as they are written, until the caller stops. Raises JournalError."""
    argv = ["--follow", "--lines", "0", *wanted.argv, *where.argv]
    return (entry for entry in _entries(units, argv) if wanted.accepts(entry))


def walk(units: Sequence[str], where: Range) -> Iterator[Entry]:
    """Every entry, oldest first, one at a time. Raises JournalError."""
    return _entries(units, where.argv)


def follow_levels(patterns: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Unit and level of each new line of this machine, at less cost than `follow`. Raises JournalError.

    Units are told apart here: journalctl would leave out those that first write after it was started. And it
    is asked for the machine, not for its boot, which a sandbox can hide from it.
    """
    argv = ["--follow", "--lines", "0", "--output-fields", "MESSAGE,PRIORITY,UNIT,_SYSTEMD_UNIT"]
    with contextlib.suppress(OSError):
        argv += ["--merge", f"_MACHINE_ID={_MACHINE_ID.read_text().strip()}"]
    stems = [pattern.partition("*")[0].encode() for pattern in patterns]
    for line in _lines([], argv):
        if not any(stem in line for stem in stems):
            continue
        with contextlib.suppress(ValueError, KeyError, TypeError):
            record = json.loads(line)
            unit = str(record.get("UNIT") or record.get("_SYSTEMD_UNIT") or "")
            if any(fnmatchcase(unit, pattern) for pattern in patterns):
                text = _text(record["MESSAGE"])
                yield unit, _level(text, _members(text), record.get("PRIORITY"))


def _entries(units: Sequence[str], argv: list[str]) -> Iterator[Entry]:
    found = (entry for line in _lines(units, argv) if (entry := parse(line)) is not None)
    return _once(found) if "--merge" in argv else found


def _once(entries: Iterator[Entry]) -> Iterator[Entry]:
    """Each line once: what was under way when its receiver went away is shipped a second time."""
    seen: OrderedDict[tuple[tuple[str, str], str], None] = OrderedDict()
    for entry in entries:
        key = (entry.identity, entry.message)
        if key not in seen or not all(entry.identity):
            yield entry
        seen[key] = None
        if len(seen) > _REMEMBERED:
            seen.popitem(last=False)


def _lines(units: Sequence[str], argv: list[str]) -> Iterator[bytes]:
    selected = [f"--unit={unit}" for unit in units]
    command = ["journalctl", "--output", "json", "--no-pager", *selected, *argv]
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except OSError as error:
        raise JournalError(f"journalctl: {error.strerror}. Logs are read on the server itself") from error
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            yield from process.stdout
            complaint = process.stderr.read().decode("utf-8", "replace").strip()
            _judge(process.wait(), complaint)
        finally:
            process.terminate()


def _judge(status: int, complaint: str) -> None:
    """Raise JournalError for what journalctl complained of when it ended."""
    if "not seeing messages" in complaint or "insufficient permissions" in complaint:
        raise JournalError(
            "the journal of the services cannot be read by this user. "
            "Run it with sudo, or join the group systemd-journal"
        )
    # It ends so when a pattern of units matches none that has ever written anything.
    if status != 0 and "No data available" not in complaint:
        raise JournalError(f"journalctl: {complaint or f'exit status {status}'}")


def parse(line: bytes) -> Entry | None:
    """One line of `journalctl --output json`, or None when it holds no message."""
    try:
        record = json.loads(line)
        micros = int(record["__REALTIME_TIMESTAMP"])
        raw = record["MESSAGE"]
    except (ValueError, KeyError, TypeError):
        return None
    text = _text(raw)
    level, message, fields = _structure(text, record.get("PRIORITY"))
    unit = record.get("UNIT") or record.get("_SYSTEMD_UNIT") or ""
    host = record.get("_HOSTNAME") or ""
    identity = (str(record.get("_BOOT_ID", "")), str(record.get("__MONOTONIC_TIMESTAMP", "")))
    when = datetime.fromtimestamp(micros / 1e6, UTC)
    return Entry(when, str(unit), level, message, fields, str(host), identity)


def _text(raw: Any) -> str:
    # journald gives bytes that are not UTF-8 as a list of numbers, and an oversized field as null.
    return bytes(raw).decode("utf-8", "replace") if isinstance(raw, list) else str(raw or "")


def _members(text: str) -> dict[str, Any] | None:
    """What a line of JSON holds; None for plain text."""
    if not text.startswith("{"):
        return None
    try:
        members = json.loads(text)
    except ValueError:
        return None
    return members if isinstance(members, dict) else None


def _level(text: str, members: dict[str, Any] | None, priority: Any) -> str:
    """The level that the line itself names, else the one that journald took it for."""
    if members is not None:
        level = str(members.get("level", "")).lower()
        if level in LEVELS:
            return level
    elif found := _PLAIN_LEVEL.match(text):
        return found[1].lower()
    return _BY_PRIORITY[int(priority)] if str(priority).isdigit() and int(str(priority)) < 8 else "info"


def _structure(text: str, priority: Any) -> tuple[str, str, dict[str, Any]]:
    """Level, message and fields of a log line, which is JSON of ours or the plain text of an engine."""
    members = _members(text)
    level = _level(text, members, priority)
    if members is None:
        return level, _CONTROL.sub("", redact_text(text)), {}
    message = next((members[key] for key in ("event", "message", "msg") if key in members), "")
    fields = {key: value for key, value in members.items() if key not in _ENVELOPE}
    return level, _CONTROL.sub("", redact_text(str(message))), redact(fields)

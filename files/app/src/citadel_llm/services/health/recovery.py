"""Restarting what is broken, but not for ever."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from citadel_llm.configuration.files import write_atomic
from citadel_llm.schema.settings import Recovery
from citadel_llm.services import lifecycle, names
from citadel_llm.services.health.model import Result
from citadel_llm.services.systemd import Systemd

RECORD = "recovery.json"


class RecoveryError(Exception):
    """Recovery cannot keep its record, so it restarts nothing; the message says why."""


@dataclass(frozen=True, slots=True)
class Action:
    """What recovery did with one unit: restarted, failed, or left alone, and why."""

    unit: str
    action: str
    reason: str


async def recover(
    results: Sequence[Result], systemd: Systemd, limits: Recovery, state: Path, now: float | None = None
) -> list[Action]:
    """Restart each unit that a critical check names.

    Only a unit that has failed, or runs and does not answer, is restarted: one that somebody stopped, or that
    is just starting, is left alone. At most `max_restarts` of a unit within `window_s`; each is recorded in
    `<state>/recovery.json`, before it is done. Raises RecoveryError and SystemdError.
    """
    reasons: dict[str, list[str]] = {}
    for result in results:
        if result.state == "critical" and result.unit is not None and result.unit.startswith(names.PREFIX):
            reasons.setdefault(result.unit, []).append(f"{result.name}: {result.message}")
    if not reasons:
        return []
    with _locked(state):
        return [
            await _one(unit, "; ".join(why), systemd, limits, state, now) for unit, why in reasons.items()
        ]


async def _one(
    unit: str, why: str, systemd: Systemd, limits: Recovery, state: Path, now: float | None
) -> Action:
    status = await systemd.status(unit)
    if status.active not in ("active", "failed"):
        return Action(unit, "left alone", f"it is {status.active} ({status.sub})")
    moment = time.time() if now is None else now
    record = _read(state / RECORD)
    # A clock that was set back must not block recovery until it has caught up.
    recent = [at for at in record.get(unit, []) if 0 <= moment - at < limits.window_s]
    if len(recent) >= limits.max_restarts:
        many = f"it was restarted {len(recent)} times within {limits.window_s:.0f} s"
        return Action(unit, "left alone", f"{many}: find the cause (citadel logs {unit}). {why}")
    record[unit] = [*recent, moment]
    _write(state / RECORD, record)
    await systemd.reset_failed(unit)
    outcome = await lifecycle.control(systemd, "restart", unit)
    return Action(unit, "restarted" if outcome.ok else "failed", why if outcome.ok else outcome.reason)


@contextmanager
def _locked(state: Path) -> Iterator[None]:
    """One recovery at a time."""
    try:
        descriptor = os.open(state / f".{RECORD}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise RecoveryError(
            f"{error.filename}: {error.strerror}. Recovery restarts nothing without a record"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RecoveryError("another recovery is running: wait until it ends") from error
        yield
    finally:
        os.close(descriptor)


def _read(path: Path) -> dict[str, list[float]]:
    """The times of restarts by unit; a record that is missing or damaged counts as empty."""
    try:
        members = json.loads(path.read_text(encoding="utf-8"))
        return {str(unit): [float(at) for at in times] for unit, times in members.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _write(path: Path, record: dict[str, list[float]]) -> None:
    try:
        write_atomic(path, (json.dumps(record, indent=2) + "\n").encode(), mode=0o640)
    except OSError as error:
        raise RecoveryError(
            f"{path}: {error.strerror}. Recovery restarts nothing without a record"
        ) from error

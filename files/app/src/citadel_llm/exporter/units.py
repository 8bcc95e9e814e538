"""Units and what they write to the journal."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Sequence

from citadel_llm.exporter.samples import Definition, Sample
from citadel_llm.services import journal
from citadel_llm.services.systemd import Systemd, UnitStatus
from citadel_llm.telemetry.logs import get_logger

DEFINITIONS = {
    "citadel_unit_active": Definition("Whether a unit runs.", ("unit",)),
    "citadel_unit_failed": Definition("Whether it failed and is down.", ("unit",)),
    "citadel_unit_restarts": Definition("Automatic restarts of a unit.", ("unit",), "counter"),
    "citadel_unit_start_time_seconds": Definition("Since when a unit is active.", ("unit",)),
}
LOG_DEFINITIONS = {
    "citadel_log_messages": Definition("Lines that units wrote to the journal.", ("unit", "level"), "counter")
}
MAX_UNITS = 100
_TIMEOUT_S = 10.0
_RETRY_S = 5.0
_log = get_logger("citadel.exporter")


def read(patterns: Sequence[str], address: str | None = None) -> list[Sample]:
    """State of the units that systemd has loaded. Raises SystemdError, TimeoutError."""
    return asyncio.run(asyncio.wait_for(_read(patterns, address), _TIMEOUT_S))


async def _read(patterns: Sequence[str], address: str | None) -> list[Sample]:
    async with Systemd(address) as systemd:
        names = (await systemd.list_units(patterns))[:MAX_UNITS]
        found = [await systemd.status(name) for name in names]
    return [sample for unit in found for sample in _unit(unit)]


def _unit(unit: UnitStatus) -> list[Sample]:
    label = (unit.unit,)
    samples = [
        Sample("citadel_unit_active", float(unit.running), label),
        Sample("citadel_unit_failed", float(unit.active == "failed" or unit.sub == "auto-restart"), label),
    ]
    if unit.restarts is not None:
        samples.append(Sample("citadel_unit_restarts", unit.restarts, label))
    if unit.running and unit.since is not None:
        samples.append(Sample("citadel_unit_start_time_seconds", unit.since, label))
    return samples


class LogCounter:
    """Counts lines of the journal by unit and level, from when it was started."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = list(patterns)
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._thread = threading.Thread(target=self._follow, name="journal", daemon=True)

    def start(self) -> None:
        """Follow the journal in the background."""
        self._thread.start()

    def read(self) -> list[Sample]:
        """What was counted so far: each unit with every level, so that the first error is an increase."""
        with self._lock:
            counts = dict(self._counts)
        units = sorted({unit for unit, _level in counts})[:MAX_UNITS]
        return [
            Sample("citadel_log_messages", counts.get((unit, level), 0), (unit, level))
            for unit in units
            for level in journal.LEVELS
        ]

    def count(self, unit: str, level: str) -> None:
        """Count one line."""
        with self._lock:
            self._counts[unit, level] += 1

    def _follow(self) -> None:
        while True:
            try:
                for unit, level in journal.follow_levels(self._patterns):
                    self.count(unit, level)
            except journal.JournalError as error:
                _log.warning("the journal cannot be followed", error=str(error))
            time.sleep(_RETRY_S)

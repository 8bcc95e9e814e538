"""Time, chance and back ends that tests decide."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from itertools import count

from citadel_llm.gateway.balancing.backend import BackendState, Rules
from citadel_llm.gateway.balancing.route import Surroundings
from citadel_llm.schema import resilience


class Alarm:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeTime:
    """A clock that stands still until it is told to go on."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self._alarms: list[tuple[float, int, Alarm, Callable[[], object]]] = []
        self._numbers = count()

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], object]) -> Alarm:
        alarm = Alarm()
        heapq.heappush(self._alarms, (when, next(self._numbers), alarm, callback))
        return alarm

    @property
    def alarms(self) -> int:
        return sum(not alarm.cancelled for _, _, alarm, _ in self._alarms)

    def go(self, seconds: float) -> None:
        end = self.now + seconds
        while self._alarms and self._alarms[0][0] <= end:
            when, _, alarm, callback = heapq.heappop(self._alarms)
            self.now = max(self.now, when)
            if not alarm.cancelled:
                callback()
        self.now = end


def numbers(*values: float) -> Callable[[], float]:
    """Chance that gives these numbers in turn, over and over."""

    def forever() -> Iterator[float]:
        while True:
            yield from values

    given = forever()
    return lambda: next(given)


def rules(**changes: object) -> Rules:
    """Rules with some values changed: breaker_open_s=1, stall_after_s=5 and so on. No slow start."""
    sections: dict[str, dict[str, object]] = {"breaker": {}, "slow_start": {"duration_s": 0}, "stall": {}}
    for name, value in changes.items():
        section = next(section for section in sections if name.startswith(section + "_"))
        sections[section][name.removeprefix(section + "_")] = value
    return Rules(
        resilience.Breaker.model_validate(sections["breaker"]),
        resilience.SlowStart.model_validate(sections["slow_start"]),
        resilience.Stall.model_validate(sections["stall"]),
    )


def state(
    name: str = "a", *, weight: float = 1.0, limit: int = 1000, by: Rules | None = None
) -> BackendState:
    return BackendState(("m", name, f"http://{name}:1", "served"), by or rules(), weight=weight, limit=limit)


def surroundings(time: FakeTime, by: Rules | None = None, **fields: object) -> Surroundings:
    defaults: dict[str, object] = {"random": numbers(0.1, 0.6), "rules": by or rules()}
    return Surroundings(timers=time, **(defaults | fields))  # type: ignore[arg-type]

"""Counting over the last minute and over calendar days and months."""

from __future__ import annotations

import time
from collections import deque

WINDOW_S = 60
SPAN_S = WINDOW_S + 1
"""Until a step that has just begun leaves the window for certain."""
_NEVER = 1 << 62


class Window:
    """What was used in the last 60 seconds, in steps of one second and never less than the truth.

    A step counts until its last moment is 60 seconds old, so no span of 60 seconds, wherever it begins, can
    hold more than the limit. It keeps 61 numbers at most.
    """

    __slots__ = ("_steps", "first", "last", "total")

    def __init__(self) -> None:
        self._steps: deque[list[int]] = deque()
        self.total = 0
        self.first = _NEVER
        """When the oldest step was; whoever reads `total` looks first whether that has left the window."""
        self.last = [-1, 0]
        """The newest step: its second, and what was used in it."""

    def used(self, now: float) -> int:
        oldest = int(now) - SPAN_S
        steps = self._steps
        while steps and steps[0][0] <= oldest:
            self.total -= steps.popleft()[1]
        self.first = steps[0][0] if steps else _NEVER
        return self.total

    def add(self, second: int, count: int) -> None:
        steps = self._steps
        if steps and steps[-1][0] >= second:
            steps[-1][1] += count
        else:
            self.last = [second, count]
            if not steps:
                self.first = second
            steps.append(self.last)
        self.total += count

    def correct(self, second: int, change: int) -> None:
        """Change what was counted in a second. It is forgotten when that has left the window."""
        for step in reversed(self._steps):
            if step[0] <= second:
                if step[0] == second:
                    change = max(change, -step[1])
                    step[1] += change
                    self.total += change
                return

    def wait(self, now: float, free: int) -> float:
        """Seconds until at least `free` of what is used has left the window."""
        for second, count in self._steps:
            free -= count
            if free <= 0:
                return max(0.0, second + SPAN_S - now)
        return self.reset(now)

    def reset(self, now: float) -> float:
        """Seconds until nothing is used any more."""
        return max(0.0, self._steps[-1][0] + SPAN_S - now) if self._steps else 0.0


class Quota:
    """Tokens used in the current day and month, UTC."""

    __slots__ = ("day", "day_used", "month", "month_used")

    def __init__(self, day: int = 0, day_used: int = 0, month: int = 0, month_used: int = 0) -> None:
        self.day = day
        self.day_used = day_used
        self.month = month
        self.month_used = month_used

    def turn(self, day: int, month: int) -> None:
        """Begin anew where a day or a month is over."""
        if self.day != day:
            self.day, self.day_used = day, 0
        if self.month != month:
            self.month, self.month_used = month, 0

    def add(self, count: int) -> None:
        self.day_used = max(0, self.day_used + count)
        self.month_used = max(0, self.month_used + count)


def calendar(now: float) -> tuple[int, int]:
    """Days since 1970, and the month as 12 * year + month - 1, both UTC."""
    moment = time.gmtime(now)
    return int(now // 86_400), moment.tm_year * 12 + moment.tm_mon - 1


def until_tomorrow(now: float) -> float:
    return 86_400 - now % 86_400


def until_next_month(now: float) -> float:
    _, month = calendar(now)
    year, index = divmod(month + 1, 12)
    return days_from_civil(year, index + 1) * 86_400 - now


def days_from_civil(year: int, month: int) -> int:
    """Days from 1970-01-01 to the first day of a month."""
    shifted = year - (month <= 2)
    era, of_era = divmod(shifted, 400)
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + day_of_year - 719_468

"""A circuit breaker: it stops sending requests to where they fail, and tries again with one."""

from __future__ import annotations

from typing import Literal

from citadel_llm.schema.resilience import Breaker as Rules

State = Literal["closed", "open", "half_open"]
_BUCKETS = 10
_NEVER = float("inf")


class Breaker:
    """Counts results of one back end. `open_until` is the moment from which requests may go there, 0 when
    closed; `unreachable` whether what opened it was fatal.

    Times are seconds of a monotonic clock, given by the caller.
    """

    __slots__ = (
        "_at",
        "_bad",
        "_good",
        "_open_s",
        "_rules",
        "_width",
        "in_a_row",
        "open_until",
        "opened",
        "state",
        "unreachable",
    )

    def __init__(self, rules: Rules) -> None:
        self.state: State = "closed"
        self.open_until = 0.0
        self.opened = 0
        self.unreachable = False
        self._rules = rules
        self._width = rules.window_s / _BUCKETS
        self._at = 0
        self._good = [0] * _BUCKETS
        self._bad = [0] * _BUCKETS
        self.in_a_row = 0
        self._open_s = rules.open_s

    def admit(self, now: float) -> bool:
        """A request goes to the back end. True when it is a trial: its result decides what happens next."""
        if self.state == "closed":
            return False
        if now >= self.open_until:
            self.state = "half_open"
            self.open_until = _NEVER  # nobody follows the trial before its result is known
        return True

    def release(self, now: float) -> None:
        """A trial ended without a result; the next request is one."""
        if self.state == "half_open":
            self.state = "open"
            self.open_until = now

    def try_now(self, now: float) -> None:
        """There is a reason to believe in the back end again: let the next request try it."""
        if self.state == "open":
            self.open_until = min(self.open_until, now)

    def success(self, now: float, *, trial: bool) -> bool:
        """A request succeeded. True when that closes the breaker."""
        if self.state != "closed":
            if not trial:
                return False  # it was sent before the trouble began
            self._close()
            return True
        self.in_a_row = 0
        self._good[self._bucket(now)] += 1
        return False

    def failure(self, now: float, *, trial: bool, fatal: bool = False) -> bool:
        """A request failed; `fatal` when no other could have succeeded. True when that opens the breaker."""
        if self.state == "closed":
            self.in_a_row += 1
            self._bad[self._bucket(now)] += 1
            if fatal or self.in_a_row >= self._rules.consecutive or self._too_many():
                self._open(now, fatal)
                return True
        elif trial and (self.state == "half_open" or now >= self.open_until):
            self._open_s = min(max(self._open_s * 2, self._rules.open_s), self._rules.open_max_s)
            self._open(now, fatal)
        return False

    def _open(self, now: float, unreachable: bool) -> None:
        self.unreachable = unreachable
        self.state = "open"
        self.open_until = now + self._open_s
        self.opened += 1

    def _close(self) -> None:
        self.state = "closed"
        self.open_until = 0.0
        self.in_a_row = 0
        self._open_s = self._rules.open_s
        self._good = [0] * _BUCKETS
        self._bad = [0] * _BUCKETS

    def _bucket(self, now: float) -> int:
        """The counter of this moment; those of times that have passed are emptied."""
        at = int(now / self._width)
        if at != self._at:
            for passed in range(max(self._at + 1, at - _BUCKETS + 1), at + 1):
                self._good[passed % _BUCKETS] = self._bad[passed % _BUCKETS] = 0
            self._at = at
        return at % _BUCKETS

    def _too_many(self) -> bool:
        bad = sum(self._bad)
        total = bad + sum(self._good)
        return total >= self._rules.min_requests and bad >= self._rules.ratio * total

"""A budget for retries: what fails must not become a storm on what still works."""

from __future__ import annotations

from citadel_llm.schema.resilience import Retries

_BUCKETS = 10


class RetryBudget:
    """Counts the requests and retries of one model over a sliding window of time."""

    __slots__ = ("_at", "_requests", "_retries", "_rules", "_width", "denied", "granted", "in_flight")

    def __init__(self, rules: Retries) -> None:
        self.in_flight = 0
        self.granted = 0
        self.denied = 0
        self._rules = rules
        self._width = rules.window_s / _BUCKETS
        self._at = 0
        self._requests = [0] * _BUCKETS
        self._retries = [0] * _BUCKETS

    def began(self, now: float) -> None:
        """A request begins; `ended` must follow."""
        self.in_flight += 1
        self._requests[self._bucket(now)] += 1

    def ended(self) -> None:
        self.in_flight -= 1

    def withdraw(self, now: float) -> bool:
        """Take one retry. False when the budget is used up."""
        bucket = self._bucket(now)
        # Those that are in flight since before the window count too: all of a dead engine's fail together.
        requests = max(sum(self._requests), self.in_flight)
        allowed = self._rules.share * requests + self._rules.min_per_s * self._rules.window_s
        if sum(self._retries) + 1 > allowed:
            self.denied += 1
            return False
        self._retries[bucket] += 1
        self.granted += 1
        return True

    def _bucket(self, now: float) -> int:
        at = int(now / self._width)
        if at != self._at:
            for passed in range(max(self._at + 1, at - _BUCKETS + 1), at + 1):
                self._requests[passed % _BUCKETS] = self._retries[passed % _BUCKETS] = 0
            self._at = at
        return at % _BUCKETS

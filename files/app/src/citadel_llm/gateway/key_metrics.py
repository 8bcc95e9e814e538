"""What keys ask for and get: the most used pairs of key and model each, the others together.

However many keys there are, there are no more series than `most` pairs and one `other` for each model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

OTHER = "other"
_EVERY_S = 600.0
_MOST_CANDIDATES = 10_000
_RESULTS = ("ok", "limited", "refused", "failed")
_PREFIX = "citadel_gateway_key"
_Pair = tuple[str, str]


class _Use:
    """Counts of one pair; `recent` since pairs were last ranked."""

    __slots__ = ("completion", "prompt", "recent", "results")

    def __init__(self) -> None:
        self.results = [0, 0, 0, 0]
        self.prompt = 0
        self.completion = 0
        self.recent = 0


def _result(status: int) -> int:
    """Which of the results a status is: 429 is a limit, other 4xx the client's own doing."""
    if status < 400:
        return 0
    if status == 429:
        return 1
    return 2 if status < 500 else 3


class KeyMetrics(Collector):
    """Counts by key and model, of one thread. `most` is the number of pairs that are told apart.

    A pair has a series from its first request on while there is room. Every ten minutes the most used pairs
    of that time take the places of those used less: what loses its place is counted as `other` from then on,
    and what gains one starts from 0.
    """

    def __init__(
        self, most: int, registry: CollectorRegistry, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._clock = clock
        self._ranked_at = clock()
        self._named: dict[_Pair, _Use] = {}
        self._others: dict[str, _Use] = {}
        self._candidates: dict[_Pair, int] = {}
        registry.register(self)

    def count(self, key: str, model: str, status: int, usage: tuple[int, int] | None) -> None:
        """A request of this key is over; `usage` are its tokens, prompt and completion."""
        use = self._named.get((key, model)) or self._place((key, model))
        use.recent += 1
        use.results[_result(status)] += 1
        if usage is not None:
            use.prompt += usage[0]
            use.completion += usage[1]

    def forget(self, models: set[str]) -> None:
        """Drop what is counted of these models."""
        for pair in [pair for pair in self._named if pair[1] in models]:
            del self._named[pair]
        for pair in [pair for pair in self._candidates if pair[1] in models]:
            del self._candidates[pair]
        for model in models & self._others.keys():
            del self._others[model]

    def collect(self) -> Iterator[Metric]:
        """What prometheus_client's registry asks for."""
        if self._clock() - self._ranked_at >= _EVERY_S:
            self._rank()
        requests = CounterMetricFamily(
            f"{_PREFIX}_requests", "Requests answered, by key.", labels=["key", "model", "result"]
        )
        tokens = CounterMetricFamily(
            f"{_PREFIX}_tokens", "Tokens that engines reported, by key.", labels=["key", "model", "kind"]
        )
        for (key, model), use in self._all():
            for result, number in zip(_RESULTS, use.results, strict=True):
                requests.add_metric([key, model, result], number)
            tokens.add_metric([key, model, "prompt"], use.prompt)
            tokens.add_metric([key, model, "completion"], use.completion)
        yield from (requests, tokens)

    def describe(self) -> Iterator[Metric]:
        """Nothing: names must not be looked up by ranking."""
        return iter(())

    def _all(self) -> Iterator[tuple[_Pair, _Use]]:
        yield from self._named.items()
        for model, use in self._others.items():
            yield (OTHER, model), use

    def _place(self, pair: _Pair) -> _Use:
        """Where a pair without a series is counted."""
        if len(self._named) < self._most and pair[0] != OTHER:
            use = self._named[pair] = _Use()
            return use
        if pair in self._candidates or len(self._candidates) < _MOST_CANDIDATES:
            self._candidates[pair] = self._candidates.get(pair, 0) + 1
        other = self._others.get(pair[1])
        if other is None:
            other = self._others[pair[1]] = _Use()
        return other

    def _rank(self) -> None:
        used = [(-use.recent, False, pair) for pair, use in self._named.items()]
        used += [(-number, True, pair) for pair, number in self._candidates.items() if pair[0] != OTHER]
        kept = [pair for _, _, pair in sorted(used)[: self._most]]
        self._named = {pair: self._named.get(pair) or _Use() for pair in kept}
        for use in self._named.values():
            use.recent = 0
        self._candidates.clear()
        self._ranked_at = self._clock()

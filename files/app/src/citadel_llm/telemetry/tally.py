"""Counters, gauges and histograms of a single thread.

They are exposed like those of prometheus_client, but counting is an addition: no lock, no checks, no call for
each part of a histogram. Whoever counts and whoever exposes must be on the same thread.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString


class Count:
    """One series of a counter or gauge."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1) -> None:
        self.value += amount

    def dec(self, amount: float = 1) -> None:
        self.value -= amount

    def set(self, value: float) -> None:
        self.value = value


class Distribution:
    """One series of a histogram. `bounds` are the upper ends of its buckets, in ascending order."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


Series = TypeVar("Series", Count, Distribution)


class _Family(Generic[Series]):
    def __init__(
        self, name: str, documentation: str, labels: Sequence[str], *, registry: CollectorRegistry
    ) -> None:
        self.name = name
        self.documentation = documentation
        self.label_names = tuple(labels)
        self._series: dict[tuple[str, ...], Series] = {}
        registry.register(self)

    def labels(self, *values: str) -> Series:
        """The series of these values; keep it where it is used often."""
        found = self._series.get(values)
        if found is None:
            if len(values) != len(self.label_names):
                raise ValueError(f"{self.name} has the labels {self.label_names}, not {values}")
            found = self._series[values] = self._new()
        return found

    def remove_by_labels(self, labels: Mapping[str, str]) -> None:
        """Forget every series that has these values."""
        wanted = [(self.label_names.index(name), value) for name, value in labels.items()]
        for values in [v for v in self._series if all(v[at] == value for at, value in wanted)]:
            del self._series[values]

    def collect(self) -> Iterable[Metric]:
        """What prometheus_client's registry asks for."""
        family = self._family()
        for values, series in self._series.items():
            self._add(family, values, series)
        yield family

    def describe(self) -> Iterator[Metric]:
        """The name without any series, so that registering twice is noticed."""
        yield self._family()

    def _new(self) -> Series:
        raise NotImplementedError

    def _family(self) -> Metric:
        raise NotImplementedError

    def _add(self, family: Metric, values: tuple[str, ...], series: Series) -> None:
        raise NotImplementedError


class Counter(_Family[Count]):
    """Only goes up."""

    def _new(self) -> Count:
        return Count()

    def _family(self) -> Metric:
        return CounterMetricFamily(self.name, self.documentation, labels=self.label_names)

    def _add(self, family: Metric, values: tuple[str, ...], series: Count) -> None:
        assert isinstance(family, CounterMetricFamily)
        family.add_metric(values, series.value)


class Gauge(_Family[Count]):
    """Goes up and down."""

    def _new(self) -> Count:
        return Count()

    def _family(self) -> Metric:
        return GaugeMetricFamily(self.name, self.documentation, labels=self.label_names)

    def _add(self, family: Metric, values: tuple[str, ...], series: Count) -> None:
        assert isinstance(family, GaugeMetricFamily)
        family.add_metric(values, series.value)


class Histogram(_Family[Distribution]):
    """How often values were in which range."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str],
        *,
        buckets: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._bounds = tuple(buckets)
        super().__init__(name, documentation, labels, registry=registry)

    def _new(self) -> Distribution:
        return Distribution(self._bounds)

    def _family(self) -> Metric:
        return HistogramMetricFamily(self.name, self.documentation, labels=self.label_names)

    def _add(self, family: Metric, values: tuple[str, ...], series: Distribution) -> None:
        assert isinstance(family, HistogramMetricFamily)
        running = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip((*self._bounds, float("inf")), series.counts, strict=True):
            running += count
            buckets.append((floatToGoString(bound), running))  # type: ignore[no-untyped-call]
        family.add_metric(values, buckets, series.sum)

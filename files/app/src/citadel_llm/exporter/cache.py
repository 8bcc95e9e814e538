"""Collectors that run in the background, so that a scrape answers at once with what they last found."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from citadel_llm.exporter.samples import Definition, Sample, families
from citadel_llm.telemetry.logs import get_logger

_STALE_RUNS = 5
_log = get_logger("citadel.exporter")


@dataclass
class Source:
    """One collector: `read` is called every `interval_s`, in a thread of its own, and may take its time.

    What it raises counts as a failed run. When no run has succeeded for five intervals, its samples are
    left out: no sample is better than one that has long been wrong.
    """

    name: str
    read: Callable[[], list[Sample]]
    definitions: dict[str, Definition]
    interval_s: float = 30.0
    _samples: list[Sample] = field(default_factory=list)
    _succeeded_at: float | None = None
    _up: bool = False
    _duration_s: float = 0.0

    def run(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Read once and keep what was found."""
        started = clock()
        try:
            samples = self.read()
        except Exception as error:
            if self._up or self._succeeded_at is None:
                _log.warning(
                    "collector failed", collector=self.name, error=f"{type(error).__name__}: {error}"
                )
            self._up = False
        else:
            self._samples, self._succeeded_at, self._up = samples, clock(), True
        self._duration_s = clock() - started

    def age(self, now: float) -> float:
        """Seconds since the last success; infinite when there was none."""
        return float("inf") if self._succeeded_at is None else max(0.0, now - self._succeeded_at)

    def metrics(self, now: float) -> list[Metric]:
        """What it found, unless that is too old."""
        if self.age(now) > self.interval_s * _STALE_RUNS:
            return []
        return families(self.definitions, self._samples)

    @property
    def state(self) -> tuple[bool, float]:
        """Whether the last run succeeded, and the seconds it took."""
        return self._up, self._duration_s


class Cache(Collector):
    """All collectors of one exporter, for prometheus-client's registry."""

    def __init__(self, sources: list[Source], clock: Callable[[], float] = time.monotonic) -> None:
        self._sources = sources
        self._clock = clock
        self._stopped = threading.Event()

    def start(self) -> None:
        """Run every collector in the background until `stop`. A collector that hangs holds up no other."""
        for source in self._sources:
            threading.Thread(target=self._repeat, args=(source,), name=source.name, daemon=True).start()

    def stop(self) -> None:
        """Start no further run."""
        self._stopped.set()

    def collect(self) -> Iterator[Metric]:
        """What the collectors last found, and how old that is."""
        now = self._clock()
        prefix = "citadel_exporter_collector"
        age = GaugeMetricFamily(f"{prefix}_age_seconds", "Since its last success.", labels=["collector"])
        up = GaugeMetricFamily(f"{prefix}_up", "Whether its last run succeeded.", labels=["collector"])
        took = GaugeMetricFamily(f"{prefix}_duration_seconds", "Of its last run.", labels=["collector"])
        for source in self._sources:
            yield from source.metrics(now)
            succeeded, seconds = source.state
            age.add_metric([source.name], source.age(now))
            up.add_metric([source.name], float(succeeded))
            took.add_metric([source.name], seconds)
        yield from (age, up, took)

    def describe(self) -> list[Metric]:
        """Nothing: names must not be looked up by running every collector."""
        return []

    def _repeat(self, source: Source) -> None:
        while not self._stopped.is_set():
            source.run()
            self._stopped.wait(source.interval_s)

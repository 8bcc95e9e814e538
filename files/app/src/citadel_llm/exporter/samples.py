"""Samples that a collector returns, and the names under which they may be exposed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric


class Sample(NamedTuple):
    """One value; `labels` are in the order of the metric's label names."""

    metric: str
    value: float
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Definition:
    """What a metric means. The name of a counter ends in `_total` where it is exposed."""

    help: str
    labels: tuple[str, ...] = ()
    kind: Literal["gauge", "counter"] = "gauge"


def families(definitions: dict[str, Definition], samples: Iterable[Sample]) -> list[Metric]:
    """The samples by metric, each metric once. A sample without a definition is a mistake: KeyError."""
    found: dict[str, GaugeMetricFamily | CounterMetricFamily] = {}
    for sample in samples:
        definition = definitions[sample.metric]
        if sample.metric not in found:
            family = CounterMetricFamily if definition.kind == "counter" else GaugeMetricFamily
            found[sample.metric] = family(sample.metric, definition.help, labels=definition.labels)
        found[sample.metric].add_metric(sample.labels, sample.value)
    return list(found.values())

"""What the catalogue says of a metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True)
class Metric:
    """One metric: name as in queries (a counter's with `_total`), type, own labels, exporters, meaning."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    exporters: tuple[str, ...]
    meaning: str

    @property
    def series(self) -> tuple[str, ...]:
        """Names of its series."""
        if self.kind == "histogram":
            return (f"{self.name}_bucket", f"{self.name}_sum", f"{self.name}_count")
        return (self.name,)


def counter(exporters: str, name: str, labels: str, meaning: str) -> Metric:
    """A counter. `exporters` and `labels` are separated by spaces."""
    return Metric(name, "counter", tuple(labels.split()), tuple(exporters.split()), meaning)


def gauge(exporters: str, name: str, labels: str, meaning: str) -> Metric:
    """A gauge."""
    return Metric(name, "gauge", tuple(labels.split()), tuple(exporters.split()), meaning)


def histogram(exporters: str, name: str, labels: str, meaning: str) -> Metric:
    """A histogram; `le` is not listed among its labels."""
    return Metric(name, "histogram", tuple(labels.split()), tuple(exporters.split()), meaning)

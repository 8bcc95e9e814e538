"""What a panel shows, apart from how Grafana writes it down."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["stat", "timeseries", "table", "bargauge", "text"]
Color = Literal["green", "yellow", "orange", "red", "blue", "text"]
Steps = tuple[tuple[float | None, Color], ...]
"""Thresholds from the lowest (None) upwards."""
Words = dict[int, tuple[str, Color]]
"""What is shown instead of a number."""

GOOD_LOW: Steps = ((None, "green"), (0.8, "yellow"), (0.95, "red"))
"""For shares that are better low."""
NONE_IS_GOOD: Steps = ((None, "green"), (1, "red"))
PLAIN: Steps = ((None, "blue"),)
UP: Steps = ((None, "red"), (1, "green"))


@dataclass(frozen=True)
class Query:
    """One query; `legend` with `{{label}}`. `only` says on which hosts it may answer nothing elsewhere."""

    expr: str
    legend: str = ""
    column: str = ""
    only: str = ""


@dataclass(frozen=True)
class Column:
    """How a table's column looks."""

    name: str
    unit: str = "short"
    steps: Steps = ()
    decimals: int | None = None
    words: Words = field(default_factory=dict)
    width: int = 95


YES_NO_BAD: Words = {0: ("no", "green"), 1: ("yes", "red")}
UP_DOWN: Words = {0: ("down", "red"), 1: ("up", "green")}


@dataclass(frozen=True)
class Panel:
    """One panel. `width` is in Grafana's 24 columns, `height` in its rows of 30 pixels and a gap."""

    kind: Kind
    title: str
    description: str
    queries: tuple[Query, ...] = ()
    unit: str = "short"
    width: int = 8
    height: int = 8
    steps: Steps = PLAIN
    low: float | None = 0
    high: float | None = None
    decimals: int | None = None
    stacked: bool = False
    columns: tuple[Column, ...] = ()
    hidden: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    """Columns of a table that come first, with the labels' names."""
    sort: str = ""
    words: Words = field(default_factory=dict)
    content: str = ""
    empty: str = ""
    """What is shown when a query rightly has no answer, such as "no alerts"."""


@dataclass(frozen=True)
class Row:
    """A heading and its panels."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Board:
    """A dashboard."""

    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]
    variables: tuple[str, ...] = ("host",)

    @property
    def panels(self) -> list[Panel]:
        """Every panel, in order."""
        return [panel for row in self.rows for panel in row.panels]


def percentiles(metric: str, selector: str, by: str = "") -> tuple[Query, ...]:
    """p50, p95 and p99 of recorded buckets."""
    labels = ", ".join(["le", *by.split()])
    prefix = "".join(f"{{{{{label}}}}} " for label in by.split())
    return tuple(
        Query(
            f"histogram_quantile({quantile / 100:g}, sum by ({labels}) ({metric}_bucket:rate5m{selector}))",
            f"{prefix}p{quantile}",
        )
        for quantile in (50, 95, 99)
    )

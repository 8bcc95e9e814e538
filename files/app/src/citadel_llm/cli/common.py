"""What several commands share: tables, ages and sizes, and settings that may be broken."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from citadel_llm.schema.settings import Settings

STYLES = {
    "ok": "green",
    "active": "green",
    "ready": "green",
    "warning": "yellow",
    "activating": "yellow",
    "reloading": "yellow",
    "deactivating": "yellow",
    "unknown": "yellow",
    "critical": "red",
    "failed": "red",
    "not ready": "red",
}


def echo_json(value: Any) -> None:
    """Print a value as indented JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def echo_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: with lines and colours on a terminal, else as aligned columns."""
    if sys.stdout.isatty():
        _rich_table(headers, rows)
        return
    widths = [max(len(row[column]) for row in [headers, *rows]) for column in range(len(headers))]
    for row in [headers, *rows]:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        click.echo("  ".join(cells).rstrip())


def _rich_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    # Imported here: rich takes longer to import than the rest of most commands.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*headers, header_style="bold")
    for row in rows:
        table.add_row(*(Text(cell, style=STYLES.get(cell.split(" ")[0], "")) for cell in row))
    Console().print(table)


def age(since: float | None, now: float | None = None) -> str:
    """How long ago a Unix time was: `12 s`, `5 min`, `3 h`, `2 d`; `-` for none."""
    if since is None:
        return "-"
    seconds = max(0.0, (time.time() if now is None else now) - since)
    for limit, divisor, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / divisor:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


def size(count: int | None) -> str:
    """Bytes as MiB or GiB; `-` for none."""
    if count is None:
        return "-"
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def settings_or_reason() -> tuple[Settings | None, str]:
    """The settings in force, or None and why: for commands that can do something without them."""
    from citadel_llm.configuration.loader import load
    from citadel_llm.configuration.problems import ConfigurationError

    try:
        return load(), ""
    except ConfigurationError as error:
        return None, str(error)


def engines(settings: Settings | None) -> list[tuple[str, str]]:
    """Pairs of name and unit of the deployments; empty without settings."""
    return [(d.name, d.service_unit) for d in settings.ai_models.deployments] if settings else []

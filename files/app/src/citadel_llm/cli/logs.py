"""`citadel logs`: what the services wrote to the journal."""

from __future__ import annotations

import json
import re
import sys

import click

from citadel_llm.cli.common import engines, settings_or_reason
from citadel_llm.services import journal, names

_COLOURS = {
    "debug": "bright_black",
    "info": "green",
    "warning": "yellow",
    "error": "red",
    "critical": "bright_red",
}
_ALL = f"{names.PREFIX}*.service"


@click.command()
@click.argument("service", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on showing what is written.")
@click.option(
    "-n", "--lines", type=click.IntRange(min=0), help="Show the last LINES; default 100, with --since all."
)
@click.option(
    "--since", help="Begin there: as journalctl takes it, such as '10 min ago' or '2026-01-31 12:00'."
)
@click.option("--level", type=click.Choice(journal.LEVELS), help="Show this level and worse.")
@click.option("--request-id", help="Show one request, from gateway to engine.")
@click.option("--grep", "pattern", help="Show lines that match a regular expression, ignoring case.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each line.")
def logs(
    service: str | None,
    follow: bool,
    lines: int | None,
    since: str | None,
    level: str | None,
    request_id: str | None,
    pattern: str | None,
    as_json: bool,
) -> None:
    """Show the logs of SERVICE (`gateway`, a deployment, `edge`), or of all services. Secrets are masked."""
    settings, _reason = settings_or_reason()
    deployments = engines(settings)
    edge = settings.citadel.edge if settings else None
    if service is None:
        units = [_ALL, *(unit for _name, unit in deployments if not unit.startswith(names.PREFIX))]
    elif service == "edge" and edge:
        units = [edge.unit]
    else:
        units = [names.unit_of(service, deployments)]
    wanted = journal.Filter(level, request_id, _compile(pattern))
    count = lines if lines is not None else (sys.maxsize if since else 100)
    entries = journal.read(units, wanted, count, since)
    for entry in entries:
        _print(entry, as_json, deployments)
    if not entries and not follow:
        click.echo("citadel: no log entries match", err=True)
    if follow:
        for entry in journal.follow(units, wanted):
            _print(entry, as_json, deployments)


def _compile(pattern: str | None) -> re.Pattern[str] | None:
    try:
        return re.compile(pattern, re.IGNORECASE) if pattern is not None else None
    except re.error as error:
        raise click.UsageError(f"--grep {pattern!r}: not a regular expression: {error}") from error


def _print(entry: journal.Entry, as_json: bool, deployments: list[tuple[str, str]]) -> None:
    if as_json:
        click.echo(json.dumps(entry.as_dict(), ensure_ascii=False))
        return
    local = entry.time.astimezone()
    level = click.style(f"{entry.level:<8}", fg=_COLOURS.get(entry.level))
    fields = " ".join(f"{key}={_value(value)}" for key, value in entry.fields.items())
    text = f"{local:%m-%d %H:%M:%S} {level} {names.service_of(entry.unit, deployments)}: {entry.message}"
    click.echo(f"{text} {fields}" if fields else text)


def _value(value: object) -> str:
    if isinstance(value, str) and value and not re.search(r"[\s=\"]", value):
        return value
    return json.dumps(value, ensure_ascii=False)

"""`citadel logs`: what the services wrote to the journal."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator

import click

from citadel_llm.cli.common import echo_json, echo_table, engines, settings_or_reason
from citadel_llm.services import journal, names

_COLOURS = {
    "debug": "bright_black",
    "info": "green",
    "warning": "yellow",
    "error": "red",
    "critical": "bright_red",
}
_ALL = f"{names.PREFIX}*.service"


class _Logs(click.Group):
    """A group whose first word may also be a service: then `show` is meant."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["show", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Logs, short_help="Show or follow the services' logs.")
def logs() -> None:
    """Show the services' logs: `citadel logs [SERVICE]` is `citadel logs show [SERVICE]`."""


@logs.command()
@click.argument("service", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on showing what is written.")
@click.option(
    "-n", "--lines", type=click.IntRange(min=0), help="Show the last LINES; default 100, with --since all."
)
@click.option(
    "--since", help="Begin there: as journalctl takes it, such as '10 min ago' or '2026-01-31 12:00'."
)
@click.option("--until", help="End there.")
@click.option("--unit", "units", multiple=True, help="A unit or pattern of units, also another one's.")
@click.option("--host", help="A host whose journal is shipped here; '*' for all of them.")
@click.option("--level", type=click.Choice(journal.LEVELS), help="Show this level and worse.")
@click.option("--request-id", help="Show one request, from gateway to engine.")
@click.option("--grep", "pattern", help="Show lines that match a regular expression, ignoring case.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each line.")
def show(
    service: str | None,
    follow: bool,
    lines: int | None,
    since: str | None,
    until: str | None,
    units: tuple[str, ...],
    host: str | None,
    level: str | None,
    request_id: str | None,
    pattern: str | None,
    as_json: bool,
) -> None:
    """Show the logs of SERVICE (`gateway`, a deployment, `edge`), or of all services. Secrets are masked."""
    selected, deployments = _units(service, units)
    wanted = journal.Filter(level, request_id, _compile(pattern))
    count = lines if lines is not None else (sys.maxsize if since else 100)
    entries = journal.read(selected, wanted, count, journal.Range(since, until, host))
    for entry in entries:
        _print(entry, as_json, deployments, host is not None)
    if not entries and not follow:
        click.echo("citadel: no log entries match", err=True)
    if follow:
        for entry in journal.follow(selected, wanted, journal.Range(host=host)):
            _print(entry, as_json, deployments, host is not None)


@logs.command()
@click.argument("service", required=False)
@click.option(
    "--hours", type=click.IntRange(1, 24 * 31), default=24, show_default=True, help="Look at this long."
)
@click.option("--unit", "units", multiple=True, help="A unit or pattern of units.")
@click.option("--host", help="A host whose journal is shipped here; '*' for all of them.")
@click.option(
    "--level", type=click.Choice(journal.LEVELS), default="info", show_default=True, help="And worse."
)
@click.option(
    "-n", "--lines", type=click.IntRange(min=1), default=20, show_default=True, help="Show so many."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def patterns(
    service: str | None,
    hours: int,
    units: tuple[str, ...],
    host: str | None,
    level: str,
    lines: int,
    as_json: bool,
) -> None:
    """Show which kinds of messages are new, or more frequent than in the time before of the same length."""
    from citadel_llm.services.patterns import compare, count

    selected, deployments = _units(service, units)
    wanted = journal.Filter(level)

    def entries(since: int, until: int) -> Iterator[journal.Entry]:
        where = journal.Range(f"-{since}h", f"-{until}h" if until else None, host)
        return (entry for entry in journal.walk(selected, where) if wanted.accepts(entry))

    found = compare(count(entries(hours, 0)), count(entries(2 * hours, hours)))[:lines]
    if as_json:
        echo_json(
            [
                {"unit": one.unit, "level": one.level, "pattern": one.text, "count": one.count,
                 "before": one.before, "new": one.new}
                for one in found
            ]
        )  # fmt: skip
        return
    rows = [
        (
            "new" if one.new else f"{one.count - one.before:+d}",
            str(one.count),
            str(one.before),
            one.level,
            names.service_of(one.unit, deployments),
            one.text[:120],
        )
        for one in found
    ]
    echo_table(("CHANGE", "NOW", "BEFORE", "LEVEL", "SERVICE", "PATTERN"), rows)


def _units(service: str | None, units: tuple[str, ...]) -> tuple[list[str], list[tuple[str, str]]]:
    """The units that are meant, and the deployments of this server."""
    settings, _reason = settings_or_reason()
    deployments = engines(settings)
    edge = settings.citadel.edge if settings else None
    if units and service is None:
        return [unit if "." in unit or "*" in unit else f"{unit}.service" for unit in units], deployments
    if units:
        raise click.UsageError("give a service or --unit, not both")
    if service is None:
        return [
            _ALL,
            *(unit for _name, unit in deployments if not unit.startswith(names.PREFIX)),
        ], deployments
    if service == "edge" and edge:
        return [edge.unit], deployments
    return [names.unit_of(service, deployments)], deployments


def _compile(pattern: str | None) -> re.Pattern[str] | None:
    try:
        return re.compile(pattern, re.IGNORECASE) if pattern is not None else None
    except re.error as error:
        raise click.UsageError(f"--grep {pattern!r}: not a regular expression: {error}") from error


def _print(entry: journal.Entry, as_json: bool, deployments: list[tuple[str, str]], with_host: bool) -> None:
    if as_json:
        click.echo(json.dumps(entry.as_dict(), ensure_ascii=False))
        return
    local = entry.time.astimezone()
    level = click.style(f"{entry.level:<8}", fg=_COLOURS.get(entry.level))
    fields = " ".join(f"{key}={_value(value)}" for key, value in entry.fields.items())
    place = f"{entry.host} " if with_host else ""
    text = (
        f"{local:%m-%d %H:%M:%S} {level} {place}{names.service_of(entry.unit, deployments)}: {entry.message}"
    )
    click.echo(f"{text} {fields}" if fields else text)


def _value(value: object) -> str:
    if isinstance(value, str) and value and not re.search(r"[\s=\"]", value):
        return value
    return json.dumps(value, ensure_ascii=False)

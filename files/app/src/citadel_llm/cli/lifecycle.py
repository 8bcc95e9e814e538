"""`citadel start|stop|restart|reload`: services through systemd."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable

import click

from citadel_llm.cli.common import engines, settings_or_reason
from citadel_llm.services import lifecycle, names
from citadel_llm.services.lifecycle import Outcome
from citadel_llm.services.systemd import Systemd, Verb


def _command(verb: Verb, text: str) -> Callable[..., None]:
    @click.command(name=verb, help=text)
    @click.argument("service", required=False)
    @click.pass_context
    def command(ctx: click.Context, service: str | None) -> None:
        outcomes = asyncio.run(_run(verb, service))
        for outcome in outcomes:
            _say(outcome)
        ctx.exit(0 if all(outcome.ok for outcome in outcomes) else 1)

    return command


async def _run(verb: Verb, service: str | None) -> list[Outcome]:
    settings, reason = settings_or_reason()
    deployments = engines(settings)
    if service is None and settings is None:
        click.echo(
            f"citadel: the settings cannot be read, so only loaded units are known\n{reason}", err=True
        )
    unit = names.unit_of(service, deployments) if service else None
    async with Systemd() as systemd:
        if unit:
            ticker = asyncio.create_task(_tick(f"{verb} {unit}"))
            try:
                return [await lifecycle.control(systemd, verb, unit)]
            finally:
                ticker.cancel()
        units = await lifecycle.known_units(systemd, [unit for _name, unit in deployments])
        if not units:
            raise click.ClickException("no service of Citadel is installed on this server: run the playbook")
        return await lifecycle.control_all(
            systemd, verb, units, lambda text: click.echo(f"{text} …", err=True)
        )


async def _tick(what: str) -> None:
    """Tell a person who waits that something is going on: an engine takes a minute to start or to drain."""
    begin = time.monotonic()
    while sys.stderr.isatty():
        await asyncio.sleep(10)
        click.echo(f"{what}: {time.monotonic() - begin:.0f} s", err=True)


def _say(outcome: Outcome) -> None:
    if outcome.ok:
        note = f" ({outcome.reason})" if outcome.reason else ""
        click.echo(f"{outcome.verb} {outcome.unit}: {outcome.result}{note}")
    else:
        click.echo(f"citadel: {outcome.verb} {outcome.unit}: {outcome.result}: {outcome.reason}", err=True)


_ALL = " Without SERVICE: all services of Citadel, {}."
_NAMES = " SERVICE is `gateway`, the name of a deployment, or a unit citadel-*."

start = _command("start", "Start a service." + _NAMES + _ALL.format("engines first, then the gateway"))
stop = _command(
    "stop",
    "Stop a service; requests in flight are finished first."
    + _NAMES
    + _ALL.format("the gateway first, then engines"),
)
restart = _command(
    "restart", "Restart a service." + _NAMES + _ALL.format("one after the other, engines first")
)
reload = _command(
    "reload", "Make a service read its settings again." + _NAMES + _ALL.format("as far as they can")
)

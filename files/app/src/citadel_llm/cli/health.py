"""`citadel health`: is everything well, and if not, what."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path

import click

from citadel_llm.cli.common import echo_json, echo_table
from citadel_llm.configuration.loader import load
from citadel_llm.schema.settings import Settings
from citadel_llm.services.health import model, plan, recovery
from citadel_llm.services.systemd import Systemd, SystemdError

_EXIT = {"ok": 0, "unknown": 1, "warning": 1, "critical": 2}


@click.command()
@click.argument("checks", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--recover",
    is_flag=True,
    help="Restart units whose checks are critical, within the limits of health.recovery.",
)
@click.pass_context
def health(ctx: click.Context, checks: tuple[str, ...], as_json: bool, recover: bool) -> None:
    """Check services, engines, disks, memory and CPU.

    CHECKS limits it to checks of that name, or whose name begins with it (`engine:`, `disk`).

    Exit status: 0 all is ok, 1 a warning or a check that could not be made, 2 something is critical.
    """
    settings = load()
    results, actions = asyncio.run(_run(settings, checks, recover))
    state = model.worst(result.state for result in results)
    if as_json:
        echo_json(
            {
                "state": state,
                "node": settings.citadel.node,
                "checks": [result.as_dict() for result in results],
                "recovery": [asdict(action) for action in actions],
            }
        )
    else:
        rows = [(result.name, result.state, f"{result.seconds:.2f} s", result.message) for result in results]
        echo_table(("CHECK", "STATE", "TIME", "FOUND"), rows)
        for action in actions:
            click.echo(f"recovery: {action.unit} {action.action}: {action.reason}")
        click.echo(f"health: {state}")
    ctx.exit(_EXIT[state])


async def _run(
    settings: Settings, chosen: Sequence[str], recover: bool
) -> tuple[list[model.Result], list[recovery.Action]]:
    async with AsyncExitStack() as stack:
        systemd: Systemd | None = None
        unreachable = ""
        try:
            systemd = await stack.enter_async_context(Systemd())
        except SystemdError as error:
            if recover:
                raise
            unreachable = str(error)
        checks = _choose(plan.plan(settings, systemd, unreachable), chosen)
        results = await model.run_all(checks)
        actions: list[recovery.Action] = []
        if recover and systemd is not None:
            state = Path(settings.citadel.paths.state)
            actions = await recovery.recover(results, systemd, settings.health.recovery, state)
        return results, actions


def _choose(checks: list[model.Check], chosen: Sequence[str]) -> list[model.Check]:
    for name in chosen:
        if not any(check.name.startswith(name) for check in checks):
            known = ", ".join(check.name for check in checks)
            raise click.UsageError(f"no check is called {name!r} or begins so. Checks: {known}")
    return [check for check in checks if not chosen or check.name.startswith(tuple(chosen))]

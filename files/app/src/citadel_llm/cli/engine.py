"""`citadel engine`: what an engine's unit runs before and after the engine itself."""

from __future__ import annotations

import click

from citadel_llm.cli.common import echo_json
from citadel_llm.configuration.loader import load
from citadel_llm.engine import check as checking
from citadel_llm.engine import probe as probing
from citadel_llm.engine import readiness
from citadel_llm.schema.settings import Deployment, Settings


@click.group()
def engine() -> None:
    """Check and probe one engine. NAME is the name of a deployment in ai_models.deployments."""


def _find(name: str) -> tuple[Settings, Deployment]:
    settings = load()
    deployment = settings.ai_models.find(name)
    if deployment is None:
        known = ", ".join(d.name for d in settings.ai_models.deployments) or "none"
        raise click.ClickException(
            f"no deployment is called {name!r} in ai_models.deployments. Known: {known}"
        )
    return settings, deployment


@engine.command()
@click.argument("name")
@click.pass_context
def check(ctx: click.Context, name: str) -> None:
    """Say whether the engine can start: the model is complete and its port is free (ExecStartPre)."""
    _settings, deployment = _find(name)
    problems = checking.problems(deployment)
    for problem in problems:
        click.echo(f"engine {name}: {problem}", err=True)
    ctx.exit(1 if problems else 0)


@engine.command(name="wait-ready")
@click.argument("name")
@click.option(
    "--pid", type=click.IntRange(min=1), help="Main process of the engine; waiting ends when it does."
)
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=0.1), help="Seconds; default by the weights' size."
)
def wait_ready(name: str, pid: int | None, timeout_s: float | None) -> None:
    """Wait until the engine answers a real request (ExecStartPost).

    Without --timeout it may take ai_models.readiness.base_timeout_s, and the time to load its weights at
    load_mb_per_s.
    """
    settings, deployment = _find(name)
    allowed = timeout_s or readiness.allowance(deployment, settings.ai_models.readiness)
    answer = readiness.wait_ready(deployment, allowed, pid, report=click.echo)
    click.echo(f"engine {name}: ready, {answer.message}")


@engine.command()
@click.argument("name")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=0.1), help="Seconds; default health.engine_timeout_s."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def probe(ctx: click.Context, name: str, timeout_s: float | None, as_json: bool) -> None:
    """Ask the engine for one token. Exit status 1 when it does not answer."""
    settings, deployment = _find(name)
    answer = probing.probe(
        deployment.host,
        deployment.port,
        deployment.model,
        deployment.task,
        timeout_s or settings.health.engine_timeout_s,
    )
    if as_json:
        echo_json({"engine": name, **answer.as_dict()})
    else:
        click.echo(f"engine {name}: {answer.state}: {answer.message}", err=not answer.ready)
    ctx.exit(0 if answer.ready else 1)

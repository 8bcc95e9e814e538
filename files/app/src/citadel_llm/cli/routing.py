"""`citadel routing`: the snapshot that the gateway serves from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from citadel_llm.cli.common import echo_json, echo_table


@click.group()
def routing() -> None:
    """Build, check and show the routing snapshot."""


@routing.command("apply")
@click.option("--check", is_flag=True, help="Change nothing; tell what would change.")
def apply_(check: bool) -> None:
    """Build the snapshot from the configuration and the keys, and print what changed as JSON.

    The gateway notices the new file by itself; `citadel reload gateway` makes it look at once.
    """
    from citadel_llm.configuration.loader import load
    from citadel_llm.keys.store import KeyStore
    from citadel_llm.routing.build import apply
    from citadel_llm.routing.versions import engine_version

    settings = load()
    applied = apply(
        settings.api_gateway.snapshot_path,
        settings.ai_models.deployments,
        KeyStore(Path(settings.citadel.paths.secrets)).records(),
        settings.ai_models.routing,
        engine=engine_version(Path(settings.citadel.paths.home) / "env"),
        check=check,
    )
    echo_json(applied.as_dict())


@routing.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, without the keys' hashes.")
def show(as_json: bool) -> None:
    """Show the snapshot that is in place."""
    from citadel_llm.configuration.loader import load
    from citadel_llm.schema.snapshot import load as load_snapshot

    snapshot = load_snapshot(load().api_gateway.snapshot_path)
    if as_json:
        hidden: Any = {"keys": {"__all__": {"hash": True, "previous": {"__all__": {"hash"}}}}}
        echo_json(snapshot.model_dump(mode="json", exclude=hidden))
        return
    click.echo(f"version {snapshot.version}, built {snapshot.created.isoformat()}, {len(snapshot.keys)} keys")
    rows = [
        [model.name, ", ".join(model.aliases) or "-", model.task, backend.name, backend.url]
        for model in snapshot.models
        for backend in model.backends
    ]
    echo_table(["model", "aliases", "task", "back end", "address"], rows)


@routing.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON with everything that is known.")
def backends(as_json: bool) -> None:
    """Show the back ends as the running gateway sees them: state, load, share."""
    from citadel_llm.services.gateway import ask

    models = ask("GET", "/models")
    if as_json:
        echo_json(models)
        return
    rows = [
        [
            f"{model}{' (paused)' if found['paused_by'] else ''}",
            name,
            backend["state"],
            backend["arm"] or "-",
            f"{backend['in_flight']}/{backend['max_in_flight']}",
            str(found["waiting"]),
            f"{backend['first_byte_s'] * 1000:.0f} ms",
        ]
        for model, found in models.items()
        for name, backend in found["backends"].items()
    ]
    echo_table(["model", "back end", "state", "arm", "in flight", "waiting", "first byte"], rows)


@routing.command()
@click.argument("model")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(min=0),
    default=0,
    help="Wait so many seconds at most until no request of the model is in flight.",
)
def pause(model: str, wait_s: float) -> None:
    """Hold the requests of MODEL, for example while its engine is swapped. `resume` lets them go on."""
    from citadel_llm.services.gateway import ask, until_idle

    found = ask("POST", "/pause", model)
    if wait_s:
        found = until_idle(model, wait_s)
    left = found["in_flight"]
    click.echo(f"{found['model']}: requests are held; {left} in flight, {found['waiting']} waiting")
    if wait_s and left:
        raise click.ClickException(f"{left} requests are still in flight after {wait_s:g} s; they go on")


@routing.command()
@click.argument("model")
def resume(model: str) -> None:
    """Let the requests of MODEL go on."""
    from citadel_llm.services.gateway import ask

    found = ask("POST", "/resume", model)
    if found["paused_by"]:
        click.echo(f"{found['model']}: still paused by its {', '.join(found['paused_by'])}")
    else:
        click.echo(f"{found['model']}: requests go on; {found['waiting']} waiting")


@routing.command()
def schema() -> None:
    """Print the snapshot's JSON Schema."""
    from citadel_llm.schema.snapshot import json_schema

    echo_json(json_schema())

"""`citadel routing`: the snapshot that the gateway serves from."""

from __future__ import annotations

from pathlib import Path

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

    settings = load()
    applied = apply(
        settings.api_gateway.snapshot_path,
        settings.ai_models.deployments,
        KeyStore(Path(settings.citadel.paths.secrets)).records(),
        settings.ai_models.routing,
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
        echo_json(snapshot.model_dump(mode="json", exclude={"keys": {"__all__": {"hash"}}}))
        return
    click.echo(f"version {snapshot.version}, built {snapshot.created.isoformat()}, {len(snapshot.keys)} keys")
    rows = [
        [model.name, ", ".join(model.aliases) or "-", model.task, backend.name, backend.url]
        for model in snapshot.models
        for backend in model.backends
    ]
    echo_table(["model", "aliases", "task", "back end", "address"], rows)


@routing.command()
def schema() -> None:
    """Print the snapshot's JSON Schema."""
    from citadel_llm.schema.snapshot import json_schema

    echo_json(json_schema())

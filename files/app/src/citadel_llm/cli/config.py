"""`citadel config`: the layered settings of this server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from citadel_llm.cli.common import echo_json, echo_table
from citadel_llm.configuration import backup as backups
from citadel_llm.configuration import layers, loader, switching
from citadel_llm.configuration.problems import ConfigurationError
from citadel_llm.schema.settings import Location, dotted

directory_option = click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    help="Configuration directory; default $CITADEL_CONFIG_DIR, else $CITADEL_HOME/config.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
backups_option = click.option(
    "--backups",
    "store",
    type=click.Path(path_type=Path),
    help="Where backups are; default citadel.paths.backups.",
)


@click.group()
def config() -> None:
    """Validate, show, switch, back up and restore the layered settings.

    Order of the layers, a later one wins: global/*.yaml, services/*.yaml, environments/<active>.yaml, and
    variables CITADEL__SECTION__KEY of the process. Mappings are merged, lists are replaced whole.
    """


@config.command()
@directory_option
@json_option
@click.pass_context
def validate(ctx: click.Context, directory: Path | None, as_json: bool) -> None:
    """Check the settings of every environment. Exit status 1 when something is wrong."""
    problems: list[dict[str, Any]] = []
    names: list[str] = []
    try:
        found = layers.find_directory(directory)
        names = sorted(loader.validate_all(found))
    except ConfigurationError as error:
        if not as_json:
            raise
        problems = [problem.as_dict() for problem in error.problems]
    if as_json:
        echo_json({"valid": not problems, "environments": names, "problems": problems})
        ctx.exit(1 if problems else 0)
    click.echo(f"{found}: valid ({', '.join(names)})")


@config.command()
@click.argument("key", required=False)
@click.option(
    "--origin", "with_origin", is_flag=True, help="Say for each value which file and line it came from."
)
@click.option("--environment", help="Show another environment than the active one.")
@directory_option
@json_option
def show(
    key: str | None, with_origin: bool, environment: str | None, directory: Path | None, as_json: bool
) -> None:
    """Print the settings in force, or those below KEY (ai_models.deployments[0].port), secrets masked."""
    loaded = loader.load_with_origin(directory, environment)
    values = loaded.settings.model_dump(mode="json")
    location = _location(key) if key else ()
    chosen = _descend(values, location)
    if with_origin:
        _show_origins([leaf for leaf in loaded.leaves if leaf.location[: len(location)] == location], as_json)
    elif as_json:
        echo_json(chosen)
    elif isinstance(chosen, (dict, list)):
        import yaml

        click.echo(yaml.safe_dump(chosen, sort_keys=False, allow_unicode=True), nl=False)
    else:
        click.echo("null" if chosen is None else chosen)


def _location(key: str) -> Location:
    parts = re.findall(r"[^.\[\]]+", key)
    return tuple(int(part) if part.isdecimal() else part for part in parts)


def _descend(values: Any, location: Location) -> Any:
    """The value at a location, secrets masked. Raises UsageError when there is none."""
    from citadel_llm.telemetry.redaction import redact

    current = redact(values)
    for position, part in enumerate(location):
        here = dotted(location[:position]) or "the settings"
        if isinstance(current, dict) and part in current:
            current = current[str(part)]
        elif isinstance(current, list) and isinstance(part, int) and part < len(current):
            current = current[part]
        elif isinstance(current, dict):
            raise click.UsageError(f"{here} has no key {str(part)!r}. Keys: {', '.join(current)}")
        else:
            raise click.UsageError(f"{here} has no part {str(part)!r}")
    return current


def _show_origins(leaves: list[loader.Leaf], as_json: bool) -> None:
    if as_json:
        echo_json(
            [
                {
                    "key": dotted(leaf.location),
                    "value": leaf.value,
                    "source": leaf.origin.source,
                    "line": leaf.origin.line,
                }
                for leaf in leaves
            ]
        )
        return
    import json

    rows = [
        (dotted(leaf.location), json.dumps(leaf.value, ensure_ascii=False), str(leaf.origin))
        for leaf in leaves
    ]
    echo_table(("KEY", "VALUE", "ORIGIN"), rows)


@config.command()
@click.argument("environment")
@directory_option
def use(environment: str, directory: Path | None) -> None:
    """Make ENVIRONMENT the active one, if its settings are valid. Services take it up at their restart."""
    found = layers.find_directory(directory)
    before, _settings = switching.use(found, environment)
    if before == environment:
        click.echo(f"environment: {environment} (unchanged)")
    else:
        click.echo(f"environment: {environment} (was {before or 'not set'}). Apply it: citadel restart")


@config.command()
def schema() -> None:
    """Print the JSON Schema of the merged settings."""
    echo_json(loader.json_schema())


@config.command()
@directory_option
@backups_option
@json_option
def backup(directory: Path | None, store: Path | None, as_json: bool) -> None:
    """Copy the configuration into a new backup with a manifest."""
    found = layers.find_directory(directory)
    made = backups.create(found, backups.directory_for(found, store))
    if as_json:
        echo_json(made.as_dict())
    else:
        click.echo(f"backup {made.id}: {made.files} files in {made.path}")


@config.command(name="backups")
@directory_option
@backups_option
@json_option
def list_backups(directory: Path | None, store: Path | None, as_json: bool) -> None:
    """List the backups, oldest first."""
    found = layers.find_directory(directory)
    listed = backups.listing(backups.directory_for(found, store))
    if as_json:
        echo_json([entry.as_dict() for entry in listed])
        return
    rows = [(entry.id, str(entry.files), entry.problem or "complete") for entry in listed]
    echo_table(("BACKUP", "FILES", "STATE"), rows)


@config.command()
@click.argument("identity", metavar="BACKUP")
@directory_option
@backups_option
@json_option
def restore(identity: str, directory: Path | None, store: Path | None, as_json: bool) -> None:
    """Verify and validate BACKUP, back up the configuration, and put BACKUP in its place."""
    found = layers.find_directory(directory)
    safety, changed = backups.restore(found, backups.directory_for(found, store), identity)
    if as_json:
        echo_json({"restored": identity, "backup_of_previous": safety.id, "changed": changed})
        return
    for name in changed:
        click.echo(f"changed {name}")
    click.echo(
        f"restored {identity}; the previous configuration is backup {safety.id}. Apply it: citadel restart"
    )

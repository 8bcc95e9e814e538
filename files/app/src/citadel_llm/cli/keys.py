"""`citadel keys`: API keys of this server."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from citadel_llm.cli.common import echo_json, echo_table

if TYPE_CHECKING:
    from citadel_llm.keys.store import KeyStore

_APPLY = "Run `citadel routing apply` to put it into effect."


def _store() -> KeyStore:
    from citadel_llm.configuration.loader import load
    from citadel_llm.keys.store import KeyStore

    return KeyStore(Path(load().citadel.paths.secrets))


@click.group()
def keys() -> None:
    """Manage API keys. They are kept as hashes; changes take effect with `citadel routing apply`."""


@keys.command()
@click.argument("key_id", metavar="ID")
@click.option(
    "--expires",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"]),
    help="Moment in UTC from which the key is refused.",
)
@click.option("--note", default="", help="What the key is for.")
def create(key_id: str, expires: datetime | None, note: str) -> None:
    """Make a key named ID. Its text is written to a file that only the owner can read."""
    store = _store()
    store.create(key_id, expires=expires.replace(tzinfo=UTC) if expires else None, note=note)
    click.echo(f"Created {key_id}; its text is in {store.key_path(key_id)}. {_APPLY}")


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(as_json: bool) -> None:
    """Show the keys, never their texts or hashes."""
    records = _store().records()
    if as_json:
        echo_json([record.model_dump(mode="json", exclude={"hash"}) for record in records])
        return
    now = datetime.now(UTC)
    rows = []
    for record in records:
        expired = record.expires is not None and record.expires <= now
        state = "disabled" if record.disabled else "expired" if expired else "active"
        expires = record.expires.isoformat() if record.expires else "-"
        rows.append([record.id, state, f"{record.prefix}…", record.created.isoformat(), expires, record.note])
    echo_table(["id", "state", "key", "created", "expires", "note"], rows)


@keys.command()
@click.argument("key_id", metavar="ID")
@click.option("--remove", is_flag=True, help="Remove it altogether, its text included.")
def revoke(key_id: str, remove: bool) -> None:
    """Disable the key ID."""
    changed = _store().revoke(key_id, remove=remove)
    done = "removed" if remove else "disabled"
    click.echo(f"{key_id} has been {done}. {_APPLY}" if changed else f"{key_id} was {done} already.")


@keys.command()
@click.option("--check", is_flag=True, help="Change nothing; tell what would change.")
@click.option("--exclusive", is_flag=True, help="Remove keys that are not named.")
def sync(check: bool, exclusive: bool) -> None:
    """Bring keys to the state given on standard input, and print what changed as JSON.

    The input is a JSON list: [{"id": "web", "key": "optional text", "state": "present|disabled|absent",
    "expires": "2030-01-01T00:00:00Z", "note": "…"}]. The output contains no key.
    """
    from citadel_llm.keys.store import parse_desired

    changes = _store().sync(parse_desired(sys.stdin.read()), exclusive=exclusive, check=check)
    echo_json(changes.as_dict())

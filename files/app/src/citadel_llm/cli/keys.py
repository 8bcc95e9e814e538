"""`citadel keys`: API keys of this server."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from citadel_llm.cli.common import echo_json, echo_table

if TYPE_CHECKING:
    from citadel_llm.keys.records import KeyRecord
    from citadel_llm.keys.store import KeyStore
    from citadel_llm.schema.access import Access

_APPLY = "Run `citadel routing apply` to put it into effect."
_UNITS = {"m": 60, "h": 3600, "d": 86_400}
_ID = click.argument("key_id", metavar="ID")
_EXPIRES = click.option(
    "--expires",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"]),
    help="Moment in UTC from which the key is refused.",
)


def _store() -> KeyStore:
    from citadel_llm.configuration.loader import load
    from citadel_llm.keys.store import KeyStore

    return KeyStore(Path(load().citadel.paths.secrets))


def _access_options(command: Callable[..., None]) -> Callable[..., None]:
    """What a key's owner may do, as options."""
    for option in (
        click.option("--model", "models", multiple=True, help="Allow only this model; * and ? match."),
        click.option("--endpoint", "endpoints", multiple=True, help="Allow only this endpoint."),
        click.option(
            "--limit",
            "limits",
            multiple=True,
            metavar="NAME=NUMBER",
            help="Limit the key: requests_per_minute, tokens_per_minute, concurrent_requests, "
            "tokens_per_day, tokens_per_month.",
        ),
        click.option(
            "--user-limit",
            "user_limits",
            multiple=True,
            metavar="NAME=NUMBER",
            help="Limit each user that requests name.",
        ),
        click.option(
            "--model-limit",
            "model_limits",
            multiple=True,
            metavar="MODEL:NAME=NUMBER",
            help="Limit the key on one model.",
        ),
        click.option(
            "--priority",
            type=click.Choice(["high", "normal", "low"]),
            help="Its class in the queue of a busy model.",
        ),
    ):
        command = option(command)
    return command


@click.group()
def keys() -> None:
    """Manage API keys. They are kept as hashes; changes take effect with `citadel routing apply`."""


@keys.command()
@_ID
@_EXPIRES
@click.option("--note", default="", help="What the key is for.")
@_access_options
def create(key_id: str, expires: datetime | None, note: str, **access: Any) -> None:
    """Make a key named ID. Its text is written to a file that only the owner can read."""
    store = _store()
    store.create(key_id, expires=_utc(expires), note=note, access=_access(access))
    click.echo(f"Created {key_id}; its text is in {store.key_path(key_id)}. {_APPLY}")


@keys.command("set")
@_ID
@_EXPIRES
@click.option("--note", help="What the key is for.")
@click.option("--all", "reset", is_flag=True, help="Allow everything and drop every limit first.")
@_access_options
def set_(key_id: str, expires: datetime | None, note: str | None, reset: bool, **access: Any) -> None:
    """Change what the owner of the key ID may do. Each option that is given replaces what was there."""
    given = _access(access)
    fields: dict[str, Any] = {
        name: value for name, value in dict(given).items() if reset or name in given.model_fields_set
    }
    if expires is not None:
        fields["expires"] = _utc(expires)
    if note is not None:
        fields["note"] = note
    _store().change(key_id, **fields)
    click.echo(f"{key_id} has been changed. {_APPLY}")


@keys.command()
@_ID
@click.option(
    "--overlap", default="7d", show_default=True, help="How long the old text stays valid: 30m, 12h, 7d."
)
def rotate(key_id: str, overlap: str) -> None:
    """Give the key ID a new text. Both texts are valid until the overlap ends."""
    span = _span(overlap)
    store = _store()
    record = store.rotate(key_id, span)
    until = record.previous[-1].expires.isoformat() if record.previous else "now"
    click.echo(
        f"{key_id} has a new text, in {store.key_path(key_id)}; the old one is valid until {until}. {_APPLY}"
    )


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(as_json: bool) -> None:
    """Show the keys, never their texts or hashes."""
    records = _store().records()
    if as_json:
        echo_json([_shown(record) for record in records])
        return
    headers = ["id", "state", "key", "created", "expires", "models", "limits", "note"]
    echo_table(headers, [_row(record) for record in records])


@keys.command()
@_ID
def disable(key_id: str) -> None:
    """Refuse the key ID, whatever its text."""
    _store().change(key_id, disabled=True)
    click.echo(f"{key_id} is disabled. {_APPLY}")


@keys.command()
@_ID
def enable(key_id: str) -> None:
    """Accept the key ID again."""
    _store().change(key_id, disabled=False)
    click.echo(f"{key_id} is enabled. {_APPLY}")


@keys.command()
@_ID
@click.option("--remove", is_flag=True, help="Remove it altogether, its text included.")
def revoke(key_id: str, remove: bool) -> None:
    """Disable the key ID."""
    changed = _store().revoke(key_id, remove=remove)
    done = "removed" if remove else "disabled"
    click.echo(f"{key_id} has been {done}. {_APPLY}" if changed else f"{key_id} was {done} already.")


@keys.command()
@click.option("--check", is_flag=True, help="Change nothing; tell what would change.")
def pepper(check: bool) -> None:
    """Make the secret that keys are hashed with, once, and print what changed as JSON.

    The gateway reads it as its credential gateway_pepper. Keys made before stay valid.
    """
    store = _store()
    echo_json({"changed": store.make_pepper(check=check), "path": str(store.pepper_path)})


@keys.command()
@click.option("--check", is_flag=True, help="Change nothing; tell what would change.")
@click.option("--exclusive", is_flag=True, help="Remove keys that are not named.")
def sync(check: bool, exclusive: bool) -> None:
    """Bring keys to the state given on standard input, and print what changed as JSON.

    The input is a JSON list: [{"id": "web", "key": "optional text", "state": "present|disabled|absent",
    "expires": "2030-01-01T00:00:00Z", "note": "…", "overlap_s": 86400, "models": ["chat-*"],
    "endpoints": ["chat_completions"], "limits": {"requests_per_minute": 60}, "user_limits": {…},
    "model_limits": {"big": {…}}}]. The output contains no key.
    """
    from citadel_llm.keys.desired import parse_desired

    changes = _store().sync(parse_desired(sys.stdin.read()), exclusive=exclusive, check=check)
    echo_json(changes.as_dict())


def _utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None else None


def _span(text: str) -> timedelta:
    match = re.fullmatch(r"(\d{1,6})([mhd])", text)
    if match is None:
        raise click.BadParameter(f"{text!r} is no span of time; write 30m, 12h or 7d", param_hint="--overlap")
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]])


def _access(options: dict[str, Any]) -> Access:
    """What the options say. Raises click.BadParameter with the option that cannot be used."""
    from pydantic import ValidationError

    from citadel_llm.keys.records import reasons
    from citadel_llm.schema.access import Access

    fields: dict[str, Any] = {
        name: options[name] for name in ("models", "endpoints", "priority") if options[name]
    }
    for name in ("limits", "user_limits"):
        if options[name]:
            fields[name] = dict(_pair(text, name) for text in options[name])
    for text in options["model_limits"]:
        # Names of models may hold colons, names of limits do not.
        model, colon, limit = text.rpartition(":")
        if not colon:
            raise click.BadParameter(f"{text!r} is not MODEL:NAME=NUMBER", param_hint="--model-limit")
        name, number = _pair(limit, "model_limits")
        fields.setdefault("model_limits", {}).setdefault(model, {})[name] = number
    try:
        return Access.model_validate(fields)
    except ValidationError as error:
        raise click.BadParameter(reasons(error)) from None


def _pair(text: str, what: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if not number.isdigit():
        hint = f"--{what[:-1].replace('_', '-')}"
        raise click.BadParameter(f"{text!r} is not NAME=NUMBER", param_hint=hint)
    return name, int(number)


def _shown(record: KeyRecord) -> dict[str, Any]:
    return record.model_dump(mode="json", exclude={"hash": True, "previous": {"__all__": {"hash"}}})


def _row(record: KeyRecord) -> list[str]:
    expired = record.expires is not None and record.expires <= datetime.now(UTC)
    state = "disabled" if record.disabled else "expired" if expired else "active"
    limits = record.limits.model_dump(exclude_none=True) if record.limits is not None else {}
    shown = ", ".join(f"{name}={number}" for name, number in limits.items())
    if record.user_limits is not None or record.model_limits:
        shown = f"{shown}, …" if shown else "…"
    return [
        record.id,
        state,
        f"{record.prefix}…",
        record.created.isoformat(),
        record.expires.isoformat() if record.expires else "-",
        ", ".join(record.models) if record.models is not None else "all",
        shown or "none",
        record.note,
    ]

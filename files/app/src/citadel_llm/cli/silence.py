"""`citadel silence`: alerts of a time of maintenance that nobody is told of."""

from __future__ import annotations

import getpass
import os
from dataclasses import asdict

import click

from citadel_llm.cli.common import echo_json, echo_table
from citadel_llm.services.silences import Alertmanager, SilenceError, duration

_Url = click.option("--url", help="The Alertmanager; default: monitoring.alertmanager of the configuration.")


@click.group()
def silence() -> None:
    """Silence alerts for a time of maintenance."""


@silence.command()
@click.argument("matchers", nargs=-1)
@click.option("--host", help="Everything of this host.")
@click.option("--alert", help="The alert of this name.")
@click.option("--for", "length", required=True, help="How long, such as 30m, 2h, 1d.")
@click.option("--comment", required=True, help="Why: shown beside the silence.")
@click.option("--author", help="Who; default: the person behind sudo, else the user.")
@_Url
def add(
    matchers: tuple[str, ...],
    host: str | None,
    alert: str | None,
    length: str,
    comment: str,
    author: str | None,
    url: str | None,
) -> None:
    """Silence the alerts whose labels match all of MATCHERS (`label=value`, `label=~regex`)."""
    wanted = [*matchers]
    wanted += [f"host={host}"] if host else []
    wanted += [f"alertname={alert}"] if alert else []
    if not wanted:
        raise click.UsageError("say what to silence: --host, --alert, or label=value")
    person = author or os.environ.get("SUDO_USER") or getpass.getuser()
    click.echo(Alertmanager(_url(url)).add(wanted, duration(length), person, comment))


@silence.command("list")
@click.option("--all", "everything", is_flag=True, help="Those too that have ended.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_Url
def list_(everything: bool, as_json: bool, url: str | None) -> None:
    """List the silences."""
    found = [one for one in Alertmanager(_url(url)).silences() if everything or one.state != "expired"]
    if as_json:
        echo_json(
            [asdict(one) | {"starts": one.starts.isoformat(), "ends": one.ends.isoformat()} for one in found]
        )
        return
    rows = [
        (one.identity, one.state, f"{one.ends.astimezone():%m-%d %H:%M}", one.author, " ".join(one.matchers),
         one.comment)
        for one in found
    ]  # fmt: skip
    echo_table(("ID", "STATE", "UNTIL", "AUTHOR", "ALERTS", "COMMENT"), rows)


@silence.command()
@click.argument("identities", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that have not ended.")
@_Url
def expire(identities: tuple[str, ...], everything: bool, url: str | None) -> None:
    """End silences now, by their IDENTITIES."""
    if bool(identities) == everything:
        raise click.UsageError("give the ids of silences, or --all")
    alertmanager = Alertmanager(_url(url))
    if everything:
        identities = tuple(one.identity for one in alertmanager.silences() if one.state != "expired")
    for identity in identities:
        alertmanager.expire(identity)
        click.echo(f"{identity} ended")


def _url(given: str | None) -> str:
    if given is not None:
        return given.rstrip("/")
    from citadel_llm.configuration.loader import load

    configured = load().monitoring.alertmanager
    if configured is None:
        raise SilenceError(
            "monitoring.alertmanager is not set: run this on the monitoring host, or give --url"
        )
    return configured

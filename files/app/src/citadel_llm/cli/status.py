"""`citadel status`: what runs on this server."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from citadel_llm import __version__
from citadel_llm.cli.common import age, echo_json, echo_table, engines, settings_or_reason, size
from citadel_llm.schema.settings import Settings
from citadel_llm.services import lifecycle, names
from citadel_llm.services.health import checks
from citadel_llm.services.systemd import Systemd, SystemdError, UnitStatus

_READY_TIMEOUT_S = 3.0


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(as_json: bool) -> None:
    """Show services, models and the gateway's readiness. Whether all is well is told by `citadel health`."""
    found = asyncio.run(_collect())
    if as_json:
        echo_json(found)
    else:
        _print(found)


async def _collect() -> dict[str, Any]:
    settings, reason = settings_or_reason()
    problems = reason.splitlines()
    units: list[UnitStatus] = []
    try:
        async with Systemd() as systemd:
            units = await _units(systemd, settings)
    except SystemdError as error:
        problems.append(str(error))
    deployments = engines(settings)
    return {
        "version": __version__,
        "node": settings.citadel.node if settings else None,
        "environment": settings.citadel.environment if settings else None,
        "services": [{"service": _label(unit.unit, settings, deployments), **asdict(unit)} for unit in units],
        "models": _models(settings, units),
        "gateway": await _readiness(settings),
        "snapshot": _snapshot(settings),
        "problems": problems,
    }


async def _units(systemd: Systemd, settings: Settings | None) -> list[UnitStatus]:
    known = await lifecycle.known_units(systemd, [unit for _name, unit in engines(settings)])
    if settings and settings.citadel.edge and settings.citadel.edge.unit not in known:
        known.append(settings.citadel.edge.unit)
    return [await systemd.status(unit) for unit in known]


def _label(unit: str, settings: Settings | None, deployments: list[tuple[str, str]]) -> str:
    if settings and settings.citadel.edge and settings.citadel.edge.unit == unit:
        return "edge"
    return names.service_of(unit, deployments)


def _models(settings: Settings | None, units: list[UnitStatus]) -> list[dict[str, Any]]:
    states = {unit.unit: unit.active for unit in units}
    return [
        {
            "model": deployment.model,
            "aliases": list(deployment.aliases),
            "deployment": deployment.name,
            "address": deployment.base_url,
            "state": states.get(deployment.service_unit, "not installed"),
            "version": _version(Path(deployment.path)),
        }
        for deployment in (settings.ai_models.deployments if settings else ())
    ]


def _version(path: Path) -> str | None:
    """The version of a model, which is the name of the directory that its link leads to."""
    try:
        return path.resolve(strict=True).name
    except OSError:
        return None


async def _readiness(settings: Settings | None) -> dict[str, Any]:
    if settings is None:
        return {"ready": None, "message": "unknown without settings"}
    gateway = settings.api_gateway
    host = f"[{gateway.internal_host}]" if ":" in gateway.internal_host else gateway.internal_host
    finding = await checks.http(f"http://{host}:{gateway.internal_port}/ready", (200,), _READY_TIMEOUT_S)
    return {"ready": finding.state == "ok", "message": finding.message}


def _snapshot(settings: Settings | None) -> dict[str, Any]:
    if settings is None:
        return {"path": None, "version": None, "problem": "unknown without settings"}
    path = settings.api_gateway.snapshot_path
    found: dict[str, Any] = {"path": str(path), "version": None, "problem": None}
    try:
        found["version"] = json.loads(path.read_bytes())["version"]
    except OSError as error:
        found["problem"] = f"{error.strerror}. Make one: citadel routing apply"
    except (ValueError, KeyError, TypeError):
        found["problem"] = "not a routing snapshot. Make a new one: citadel routing apply"
    return found


def _print(found: dict[str, Any]) -> None:
    head = [f"citadel {found['version']}", found["node"], found["environment"]]
    click.echo("  ".join(part for part in head if part))
    if found["services"]:
        echo_table(
            ("SERVICE", "STATE", "SINCE", "MEMORY", "RESTARTS", "PID"),
            [_row(row) for row in found["services"]],
        )
    if found["models"]:
        rows = [
            (m["model"], m["deployment"], m["state"], m["address"], m["version"] or "-")
            for m in found["models"]
        ]
        echo_table(("MODEL", "DEPLOYMENT", "STATE", "ADDRESS", "VERSION"), rows)
    gateway, snapshot = found["gateway"], found["snapshot"]
    ready = {True: "ready", False: "not ready", None: "unknown"}[gateway["ready"]]
    click.echo(f"gateway: {ready} ({gateway['message']})")
    click.echo(f"routing snapshot: {snapshot['version'] or snapshot['problem']}")
    for problem in found["problems"]:
        click.echo(f"citadel: {problem}", err=True)


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    state = row["active"] if row["load"] != "not-found" else "not installed"
    if row["active"] == "failed" and row["result"]:
        state += f" ({row['result']})"
    elif row["sub"] not in ("running", "dead", "failed"):
        state += f" ({row['sub']})"
    restarts = "-" if row["restarts"] is None else str(row["restarts"])
    return row["service"], state, age(row["since"]), size(row["memory"]), restarts, str(row["pid"] or "-")

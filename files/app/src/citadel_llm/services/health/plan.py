"""Which checks follow from the settings."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from citadel_llm.schema import settings as schema
from citadel_llm.schema.settings import Settings
from citadel_llm.services import names
from citadel_llm.services.health import checks
from citadel_llm.services.health.model import Check, Finding
from citadel_llm.services.systemd import Systemd

# Time for a blocking request in a thread to notice its own deadline and say what it met.
_GRACE_S = 1.0


def plan(
    settings: Settings, systemd: Systemd | None, unreachable: str = "systemd cannot be reached"
) -> list[Check]:
    """The checks of this server. Without `systemd`, units are unknown and `unreachable` says why."""
    return [
        *_units(settings, systemd, unreachable),
        *_services(settings),
        *_machine(settings),
        *(_configured(check, settings, systemd, unreachable) for check in settings.health.checks),
    ]


def _units(settings: Settings, systemd: Systemd | None, unreachable: str) -> list[Check]:
    timeout = settings.health.timeout_s
    watched = [(f"unit:engine@{d.name}", d.service_unit, True) for d in settings.ai_models.deployments]
    watched.append(("unit:gateway", names.GATEWAY, True))
    if settings.citadel.edge is not None:
        watched.append(("unit:edge", settings.citadel.edge.unit, _ours(settings.citadel.edge.unit)))
    return [
        Check(
            name,
            "process",
            partial(checks.process, systemd, unit, unreachable),
            timeout,
            unit if ours else None,
            late="unknown",
        )
        for name, unit, ours in watched
    ]


def _services(settings: Settings) -> list[Check]:
    health, gateway, edge = settings.health, settings.api_gateway, settings.citadel.edge
    found: list[Check] = []
    for deployment in settings.ai_models.deployments:
        url = f"{deployment.base_url}/health"
        found.append(
            _http(f"engine:{deployment.name}:health", url, (200,), health.timeout_s, deployment.service_unit)
        )
        found.append(_engine(deployment, health.engine_timeout_s))
    host = f"[{gateway.internal_host}]" if ":" in gateway.internal_host else gateway.internal_host
    ready = f"http://{host}:{gateway.internal_port}/ready"
    # Not ready is most often an engine's fault, so recovery restarts the gateway only when it is not live.
    found.append(_http("gateway:ready", ready, (200,), health.timeout_s, None))
    found.append(
        _http("gateway:live", ready.replace("/ready", "/live"), (200,), health.timeout_s, names.GATEWAY)
    )
    if edge is not None:
        unit = edge.unit if _ours(edge.unit) else None
        found.append(
            Check("edge:tcp", "tcp", partial(checks.tcp, edge.host, edge.port), health.timeout_s, unit)
        )
    return found


def _ours(unit: str) -> bool:
    """Whether Citadel controls a unit, and recovery may restart it."""
    return unit.startswith(names.PREFIX)


def _engine(deployment: schema.Deployment, timeout_s: float) -> Check:
    return Check(
        f"engine:{deployment.name}:request",
        "engine",
        partial(checks.engine, deployment, timeout_s),
        timeout_s + _GRACE_S,
        deployment.service_unit,
    )


def _http(name: str, url: str, status: tuple[int, ...], timeout_s: float, unit: str | None) -> Check:
    return Check(name, "http", partial(checks.http, url, status, timeout_s), timeout_s + _GRACE_S, unit)


def _machine(settings: Settings) -> list[Check]:
    health, paths = settings.health, settings.citadel.paths
    found = [
        Check(
            f"disk:{label}", "disk", partial(checks.disk, path, health.disk), health.timeout_s, late="unknown"
        )
        for label, path in _file_systems(
            [("home", paths.home), ("models", paths.models), ("logs", paths.logs)]
        )
    ]
    found.append(Check("memory", "memory", partial(checks.memory, health.memory), health.timeout_s))
    found.append(Check("cpu", "cpu", partial(checks.cpu, health.cpu), health.timeout_s))
    return found


def _file_systems(paths: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The paths without those on a file system that is in the list already; ones that do not exist stay."""
    seen: set[int] = set()
    found: list[tuple[str, str]] = []
    for label, path in paths:
        try:
            device = Path(path).stat().st_dev
        except OSError:
            found.append((label, path))
            continue
        if device not in seen:
            found.append((label, path))
        seen.add(device)
    return found


def _configured(check: schema.Check, settings: Settings, systemd: Systemd | None, unreachable: str) -> Check:
    timeout = check.timeout_s or settings.health.timeout_s
    run: Callable[[], Awaitable[Finding]]
    match check:
        case schema.HttpCheck():
            run = partial(checks.http, check.url, check.expect_status, timeout)
        case schema.TcpCheck():
            run = partial(checks.tcp, check.host, check.port)
        case schema.ProcessCheck():
            run = partial(checks.process, systemd, check.unit, unreachable)
        case schema.DiskCheck():
            run = partial(checks.disk, check.path, check.thresholds or settings.health.disk)
        case schema.CommandCheck():
            run = partial(checks.command, check.argv)
    return Check(check.name, check.kind, run, timeout, check.unit, check.critical)

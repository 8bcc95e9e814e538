"""What people call a service, and the systemd unit that it is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

PREFIX = "citadel-"
GATEWAY = "citadel-gateway.service"
_NAMED = ("edge", "engine", "gateway")
ENGINE = "citadel-engine@{}.service"
_SUFFIXES = (".service", ".timer", ".socket", ".target", ".path")
_PART = re.compile(r"[A-Za-z0-9:_.\\-]+")


class UnknownServiceError(Exception):
    """No unit of Citadel has this name; the message says which names there are."""


def unit_of(name: str, deployments: Sequence[tuple[str, str]] = ()) -> str:
    """The unit that a service name stands for.

    `gateway` is citadel-gateway.service, `edge` likewise; `engine@NAME` and, for a deployment, `NAME` alone
    are its engine; the full name of a unit is accepted too. `deployments` are pairs of name and unit. Raises
    UnknownServiceError for anything that is not a unit of Citadel.
    """
    engines = dict(deployments)
    bare = name
    for suffix in _SUFFIXES:
        if name.endswith(suffix):
            bare = name.removesuffix(suffix)
    if bare == name and name in engines:
        return engines[name]
    if bare.startswith("engine@") and bare.removeprefix("engine@") in engines:
        return engines[bare.removeprefix("engine@")]
    if name in engines.values():
        return name
    stem, at, instance = bare.removeprefix(PREFIX).partition("@")
    if not _PART.fullmatch(stem) or (at and not _PART.fullmatch(instance)):
        raise UnknownServiceError(_unknown(name, engines))
    known = stem in _NAMED or bare.startswith(PREFIX)
    if not known or (stem == "engine" and not instance):
        raise UnknownServiceError(_unknown(name, engines))
    return PREFIX + bare.removeprefix(PREFIX) + (name.removeprefix(bare) or ".service")


def _unknown(name: str, engines: Iterable[str]) -> str:
    names = ", ".join(["edge", "gateway", *sorted(engines)])
    return f"{name!r} is no service of Citadel. Services: {names}, or a unit citadel-*.service"


def service_of(unit: str, deployments: Sequence[tuple[str, str]] = ()) -> str:
    """The short name of a unit: `gateway`, `engine@smollm2`."""
    for name, engine in deployments:
        if engine == unit:
            return f"engine@{name}"
    return unit.removeprefix(PREFIX).removesuffix(".service")


def start_order(units: Iterable[str], engines: Iterable[str] = ()) -> list[str]:
    """Units in the order of starting: engines, the gateway, then what uses it; stopping is the reverse."""
    engine_units = set(engines)

    def rank(unit: str) -> tuple[int, str]:
        if unit in engine_units or unit.startswith(f"{PREFIX}engine@"):
            return 0, unit
        return (1 if unit == GATEWAY else 2), unit

    return sorted(units, key=rank)

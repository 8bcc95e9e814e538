# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a unit shall be, and whether its process is older than what it reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.citadel.llm.plugins.module_utils._known_good import (
    Record,
    StoredFile,
    changed_at,
    fingerprint,
)
from ansible_collections.citadel.llm.plugins.module_utils._systemd import Unit

UNIT_FOLDERS = ("/etc/systemd/system", "/run/systemd/system")


@dataclass(frozen=True)
class UnitSpec:
    """A unit as it shall be. Times are seconds.

    One that is `retired` was made by an earlier call and is absent because nobody names it any more.
    """

    name: str
    state: str = "started"
    enabled: Optional[bool] = None
    files: Dict[str, StoredFile] = field(default_factory=dict)
    restart_on: Tuple[str, ...] = ()
    reload_on: Tuple[str, ...] = ()
    health: Tuple[Tuple[str, ...], ...] = ()
    timeout: float = 600
    retired: bool = False


@dataclass(frozen=True)
class Request:
    """One call: the units, in the order in which they are started, and what they share.

    `before_retirement` are commands that are run before a retired unit that runs is stopped.
    """

    units: Tuple[UnitSpec, ...]
    state_dir: str
    links: Tuple[str, ...] = ()
    health: Tuple[Tuple[str, ...], ...] = ()
    health_timeout: float = 30
    journal_lines: int = 30
    before_retirement: Tuple[Tuple[str, ...], ...] = ()


@dataclass
class Step:
    """What is (or would be) done with one unit, and why."""

    name: str
    action: str = "none"
    reasons: List[str] = field(default_factory=list)


def inputs(
    spec: UnitSpec, unit: Unit, links: Sequence[str], record: Optional[Record] = None
) -> Dict[str, str]:
    """What the unit reads at its start, and what its record saw it read: path and kind."""
    found: Dict[str, str] = dict.fromkeys(record.inputs if record is not None else (), "input")
    found.update({path: "unit file" for path in (unit.fragment, *unit.drop_ins) if path})
    for name in sorted({unit.name, _template(unit.name)}):
        found.update({f"{folder}/{name}.d": "drop-ins" for folder in UNIT_FOLDERS})
    found.update(dict.fromkeys(unit.environment_files, "environment file"))
    found.update(dict.fromkeys((*spec.files, *spec.restart_on), "file"))
    found.update(dict.fromkeys(links, "link"))
    # Nothing is read through a link by a socket, and its restart would refuse those who wait in it.
    unread = {*spec.reload_on, *(links if spec.name.endswith(".socket") else ())}
    return {path: kind for path, kind in found.items() if path not in unread}


def _stale(paths: Dict[str, str], since: float, record: Optional[Record]) -> List[str]:
    """Why the unit's process is older than these inputs.

    What is the same as it was when this very process passed its gate is not stale: only its time is new.
    """
    reasons = []
    for path, kind in sorted(paths.items()):
        time, seen = changed_at(path), None if record is None else record.inputs.get(path)
        if time is None and seen is not None:
            reasons.append(f"{kind} {path} was removed")
        elif time is not None and time > since and (seen is None or seen != fingerprint(path)):
            reasons.append(f"{kind} {path} is newer than the process")
    return reasons


def decide(
    spec: UnitSpec, units: Mapping[str, Unit], links: Sequence[str], record: Optional[Record], outdated: bool
) -> Step:
    """What has to be done with a unit that shall run, and why.

    `units` holds it and the sockets that trigger it; `outdated` says that systemd had an older unit file.
    """
    unit = units[spec.name]
    if not unit.is_active:
        return _decide_inactive(spec, unit, units)
    if record is not None and record.invocation != unit.invocation:
        record = None  # it tells what was good, but nothing of this process
    since = unit.started or 0.0
    reasons = _stale(inputs(spec, unit, links, record), since, record)
    if not reasons and record is None and (outdated or unit.needs_daemon_reload):
        reasons = ["its unit file or a drop-in changed on disk"]
    if reasons:
        return Step(spec.name, "restarted", reasons)
    since = max(since, record.reloaded) if record is not None else since
    reasons = _stale(dict.fromkeys(spec.reload_on, "file"), since, record)
    return Step(spec.name, "reloaded" if reasons else "none", reasons)


def _decide_inactive(spec: UnitSpec, unit: Unit, units: Mapping[str, Unit]) -> Step:
    sockets = [name for name in unit.triggered_by if units.get(name, Unit(name)).is_active]
    # A unit that starts with the host does not wait for its first client either.
    if sockets and unit.active == "inactive" and not spec.enabled:
        return Step(unit.name, "none", [f"waits for {', '.join(sockets)}"])
    if unit.active in ("activating", "deactivating"):
        return Step(unit.name, "restarted", [f"is {unit.active} ({unit.sub})"])
    return Step(unit.name, "started", [f"is {unit.active} ({unit.sub})"])


def _template(name: str) -> str:
    """``engine@.service`` for ``engine@small-1.7b.service``; a name without an instance as it is."""
    prefix, separator, rest = name.partition("@")
    return f"{prefix}@.{rest.rpartition('.')[2]}" if separator else name

# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Python environments as releases: built beside the running one, tried, and only then switched to."""

from __future__ import annotations

import os
import shlex
import time
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional

from ansible_collections.citadel.llm.plugins.module_utils._files import replace_link, write_atomic
from ansible_collections.citadel.llm.plugins.module_utils._release import ReleaseError, ReleaseStore
from ansible_collections.citadel.llm.plugins.module_utils._venv_builder import FREEZE, Builder, usable
from ansible_collections.citadel.llm.plugins.module_utils._venv_plan import (
    MissingInputError,
    Spec,
    make_plan,
    require_inputs,
)


@dataclass
class Wanted:
    """What the host shall have: ``present``, ``current`` or ``rolled_back``, and the files about it."""

    state: str
    keep: int = 3
    freeze_path: Optional[str] = None
    activate_path: Optional[str] = None


@dataclass
class Outcome:
    """What was done, or in check mode what would be done."""

    id: Optional[str] = None
    before: Optional[str] = None
    built: bool = False
    switched: bool = False
    pruned: List[str] = field(default_factory=list)
    packages_changed: List[str] = field(default_factory=list)
    files: List[Dict[str, str]] = field(default_factory=list)
    manifest: Mapping[str, Any] = field(default_factory=dict)
    note: Optional[str] = None

    @property
    def changed(self) -> bool:
        return bool(self.built or self.switched or self.pruned or self.files)


def deploy(spec: Spec, store: ReleaseStore, wanted: Wanted, check: bool) -> Outcome:
    """Bring the store and the link to the wanted state; in check mode only say what would change.

    Raises ReleaseError: whatever the link named before, it still names.
    """
    if check:
        return _deploy(spec, store, wanted, True)
    with store.locked(spec.build_timeout):
        return _deploy(spec, store, wanted, False)


def _deploy(spec: Spec, store: ReleaseStore, wanted: Wanted, check: bool) -> Outcome:
    outcome = Outcome(before=store.current())
    locked_before = (store.manifest(outcome.before) or {}).get("locked", {})
    try:
        if wanted.state == "rolled_back":
            _roll_back(spec, store, outcome, check)
        else:
            _provide(spec, store, wanted, outcome, check)
    except MissingInputError as error:
        if not check:
            raise ReleaseError("missing", str(error)) from error
        outcome.built, outcome.switched, outcome.note = True, wanted.state == "current", str(error)
        return outcome
    if wanted.state != "present":
        outcome.packages_changed = version_changes(
            locked_before, outcome.manifest.get("locked", locked_before)
        )
        _write_files(spec, store, wanted, outcome, check)
    outcome.pruned = (
        store.prunable(wanted.keep, outcome.id) if check else store.prune(wanted.keep, outcome.id)
    )
    return outcome


def _provide(spec: Spec, store: ReleaseStore, wanted: Wanted, outcome: Outcome, check: bool) -> None:
    plan = make_plan(spec)
    outcome.id = plan.id
    builder = Builder(spec, store)
    manifest = usable(store, plan.id)
    outcome.built = manifest is None
    if outcome.built:
        try:
            require_inputs(spec)
        except MissingInputError as error:
            if not check or spec.expected is None:
                raise
            outcome.note = str(error)
    outcome.switched = wanted.state == "current" and outcome.before != plan.id
    outcome.manifest = manifest or {"id": plan.id, "locked": plan.locked}
    if check:
        return
    if manifest is None:
        if plan.id in store.in_use():
            raise ReleaseError(
                "damaged",
                f"{store.path(plan.id)} is incomplete and a running process uses it: stop that process first,"
                " then run this again",
            )
        outcome.manifest = builder.build(plan)
    elif outcome.switched:
        builder.try_out(plan.id)
    if outcome.switched:
        store.switch(plan.id, time.time())


def _roll_back(spec: Spec, store: ReleaseStore, outcome: Outcome, check: bool) -> None:
    outcome.id = outcome.before
    outcome.manifest = store.manifest(outcome.before) or {}
    if spec.lock is not None and make_plan(spec).id != outcome.before:
        return
    target = store.previous()
    if target is None:
        if check and outcome.before is None:
            outcome.switched, outcome.note = True, "there is no release on this host yet"
            return
        raise ReleaseError(
            "no_previous", f"there is no complete release under {store.root} from before the current one"
        )
    outcome.id, outcome.switched, outcome.manifest = target, True, store.manifest(target) or {}
    if not check:
        Builder(spec, store).try_out(target)
        store.roll_back(target)


def _write_files(spec: Spec, store: ReleaseStore, wanted: Wanted, outcome: Outcome, check: bool) -> None:
    if wanted.freeze_path is not None:
        # A link: whoever points the environment's link elsewhere, the file says what is really installed.
        target = os.path.join(store.link, FREEZE)
        if not os.path.islink(wanted.freeze_path) or os.readlink(wanted.freeze_path) != target:
            before = _read(wanted.freeze_path)
            outcome.files.append(
                {"path": wanted.freeze_path, "before": before, "after": f"link to {target}\n"}
            )
            if not check:
                os.makedirs(os.path.dirname(wanted.freeze_path), mode=0o755, exist_ok=True)
                replace_link(wanted.freeze_path, target)
    if wanted.activate_path is not None:
        before, text = _read(wanted.activate_path), activate_text(store.link, wanted.activate_path)
        if before != text:
            outcome.files.append({"path": wanted.activate_path, "before": before, "after": text})
            if not check:
                os.makedirs(os.path.dirname(wanted.activate_path), mode=0o755, exist_ok=True)
                write_atomic(wanted.activate_path, text.encode(), mode=0o755, uid=spec.uid, gid=spec.gid)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except FileNotFoundError:
        return ""


def version_changes(before: Mapping[str, str], after: Mapping[str, str]) -> List[str]:
    """``-torch==2.7.0``, ``+torch==2.8.0``: what differs, by name."""
    changes = []
    for name in sorted(set(before) | set(after)):
        if before.get(name) != after.get(name):
            changes += [f"-{name}=={before[name]}"] if name in before else []
            changes += [f"+{name}=={after[name]}"] if name in after else []
    return changes


def activate_text(link: str, path: str) -> str:
    """The script at `path` that people source to work in the environment."""
    return (
        f"# Use it with: . {path}\n"
        f"CITADEL_ENV={shlex.quote(link)}\n"
        "export CITADEL_ENV\n"
        '. "$CITADEL_ENV/bin/activate"\n'
    )

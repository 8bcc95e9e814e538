# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Units behind a health gate, as one transaction: all pass, or what was known to be good is put back."""

from __future__ import annotations

import contextlib
import fcntl
import os
from dataclasses import dataclass, field
from typing import Dict, Iterator, List, Optional, Set, Tuple

from ansible_collections.citadel.llm.plugins.module_utils._known_good import (
    KnownGood,
    Record,
    StoredFile,
    changed_at,
    fingerprint,
    put_file,
    put_links,
    read_file,
    read_link,
)
from ansible_collections.citadel.llm.plugins.module_utils._systemd import Systemd, SystemdError, Unit
from ansible_collections.citadel.llm.plugins.module_utils._unit_state import (
    UNIT_FOLDERS,
    Request,
    Step,
    UnitSpec,
    decide,
    inputs,
)

_ANNOUNCE_TIMEOUT = 120.0


@dataclass
class FileChange:
    """A file that is (or would be) written; `after` is None for one that is removed."""

    path: str
    before: Optional[bytes]
    after: Optional[bytes]


@dataclass
class Report:
    """What the whole call did, or in check mode would do."""

    steps: Dict[str, Step] = field(default_factory=dict)
    files: List[FileChange] = field(default_factory=list)
    enabled: List[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        return bool(self.files or self.enabled or any(step.action != "none" for step in self.steps.values()))


class GateError(Exception):
    """A unit did not pass its gate."""

    def __init__(self, unit: str, message: str) -> None:
        super().__init__(message)
        self.unit = unit
        self.reason = message
        self.outcome = ""
        self.journal: List[str] = []
        self.rolled_back = False
        self.restored: List[str] = []


class Transaction:
    """Applies a request."""

    def __init__(self, request: Request, systemd: Systemd) -> None:
        self.request = request
        self.systemd = systemd
        self.known_good = KnownGood(request.state_dir)
        self.report = Report(steps={unit.name: Step(unit.name) for unit in request.units})
        self._reloaded: Dict[str, float] = {}
        self._outdated: Set[str] = set()
        self._before: Dict[str, Optional[StoredFile]] = {}
        self._seen: Optional[Dict[str, Unit]] = None

    def _decide(self, spec: UnitSpec, units: Dict[str, Unit]) -> Step:
        record = self.known_good.load(spec.name)
        return decide(spec, units, self.request.links, record, spec.name in self._outdated)

    def _show(self) -> Dict[str, Unit]:
        """The units and the sockets that trigger them, asked again after this call has done something."""
        if self._seen is None:
            units = self.systemd.show([spec.name for spec in self.request.units])
            sockets = sorted({name for unit in units.values() for name in unit.triggered_by} - set(units))
            self._seen = {**units, **self.systemd.show(sockets)}
        return self._seen

    def _control(self, verb: str, spec: UnitSpec) -> None:
        self._seen = None
        self.systemd.control(verb, spec.name, spec.timeout)

    def _plan_files(self) -> None:
        seen = set()
        for spec in self.request.units:
            for path, file in spec.files.items():
                if path in seen or (spec.state == "absent" and path in self._shared()):
                    continue
                seen.add(path)
                present = self._before[path] = read_file(path)
                before = None if present is None else present.content
                if spec.state == "absent":
                    if present is not None:
                        self.report.files.append(FileChange(path, before, None))
                elif present is None or not _same(present, file):
                    self.report.files.append(FileChange(path, before, file.content))

    def _shared(self) -> Set[str]:
        """The files that units still need which are not absent, such as a template's."""
        return {path for spec in self.request.units if spec.state != "absent" for path in spec.files}

    # Check mode

    def predict(self) -> Report:
        """What `apply` would do. Also on a host where nothing is installed yet."""
        self._plan_files()
        units = self._show() if self.systemd.is_running else {}
        written = {change.path for change in self.report.files}
        for spec in self.request.units:
            unit = units.get(spec.name, Unit(spec.name))
            self.report.steps[spec.name] = self._predict_step(spec, unit, units, written)
            if spec.enabled is not None and spec.state != "absent" and unit.is_enabled != spec.enabled:
                self.report.enabled.append(spec.name)
        return self.report

    def _predict_step(self, spec: UnitSpec, unit: Unit, units: Dict[str, Unit], written: Set[str]) -> Step:
        if spec.state != "started":
            return _stopped(spec) if unit.is_running else Step(spec.name)
        step = self._decide(spec, {**units, spec.name: unit})
        restart = sorted(written & set(inputs(spec, unit, self.request.links)))
        reload = sorted(written & set(spec.reload_on))
        if step.action in ("none", "reloaded") and unit.is_active:
            if restart:
                return Step(spec.name, "restarted", [f"file {path} would change" for path in restart])
            if reload:
                return Step(spec.name, "reloaded", [f"file {path} would change" for path in reload])
        return step

    # A run

    def apply(self) -> Report:
        """Bring the units to the wanted state. Raises GateError, SystemdError or OSError."""
        with self._locked():
            self._plan_files()
            self._retire()
            for spec in self._wanted():
                for path, file in spec.files.items():
                    put_file(path, file)
            self._reload_manager()
            self._run_units()
            for spec in self._wanted():
                self._record(spec)
                self._enable(spec)
        return self.report

    def _wanted(self) -> List[UnitSpec]:
        return [spec for spec in self.request.units if spec.state == "started"]

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        os.makedirs(self.request.state_dir, mode=0o755, exist_ok=True)
        descriptor = os.open(
            os.path.join(self.request.state_dir, ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _retire(self) -> None:
        """Stop what shall not run, before anything else needs its memory or its GPU."""
        specs = [spec for spec in self.request.units if spec.state != "started"]
        units = self._show() if specs else {}
        self._announce([spec.name for spec in specs if spec.retired and units[spec.name].is_running])
        for spec in specs:
            unit = units[spec.name]
            if unit.is_running:
                self._control("stop", spec)
                self.report.steps[spec.name] = _stopped(spec)
            if spec.state == "absent":
                self._disable(spec, unit)
                for path in (path for path in spec.files if path not in self._shared()):
                    put_file(path, None)
                    if os.path.basename(os.path.dirname(path)) == f"{spec.name}.d":
                        with contextlib.suppress(OSError):  # others' drop-ins keep it
                            os.rmdir(os.path.dirname(path))
                self.systemd.reset_failed(spec.name)
                self.known_good.forget(spec.name)
            else:
                for path, file in spec.files.items():
                    put_file(path, file)
                self._enable(spec)

    def _announce(self, names: List[str]) -> None:
        """Let those who use the retired units know, such as a router, before the units stop."""
        for command in self.request.before_retirement if names else ():
            said = self.systemd.check(command, _ANNOUNCE_TIMEOUT)
            if said is not None:
                raise SystemdError(
                    f"{', '.join(names)} must go, but what has to be done before failed: {said}"
                )

    def _disable(self, spec: UnitSpec, unit: Unit) -> None:
        if unit.is_enabled:
            self._control("disable", spec)
            self.report.enabled.append(spec.name)

    def _enable(self, spec: UnitSpec) -> None:
        if spec.enabled is None:
            return
        if self._show()[spec.name].is_enabled != spec.enabled:
            self._control("enable" if spec.enabled else "disable", spec)
            self.report.enabled.append(spec.name)

    def _reload_manager(self) -> None:
        units = self._show()
        # Noted before the reload: systemd forgets with it that a drop-in was removed.
        self._outdated = {name for name, unit in units.items() if unit.needs_daemon_reload}
        if self._outdated or any(change.path.startswith(UNIT_FOLDERS) for change in self.report.files):
            self.systemd.daemon_reload()
            self._seen = None

    def _run_units(self) -> None:
        """Start, restart or reload one after another: two engines loading at once need twice the memory."""
        acted: List[UnitSpec] = []
        for spec in self._wanted():
            units = self._show()
            step = self.report.steps[spec.name] = self._decide(spec, units)
            if step.action == "none" and (self._is_verified(spec) or not units[spec.name].is_active):
                continue
            acted.append(spec)
            began = self.systemd.now()
            try:
                self._act(spec, step.action)
                self._pass_gate(spec)
            except GateError as error:
                error.journal = self.systemd.journal(spec.name, began, self.request.journal_lines)
                self._roll_back(spec, acted, error)
                raise

    def _is_verified(self, spec: UnitSpec) -> bool:
        """Whether what is in place passed the gate: an interrupted run may have ended before its gate."""
        record = self.known_good.load(spec.name)
        return record is not None and record.holds(*self._present(spec))

    def _present(self, spec: UnitSpec) -> Tuple[Dict[str, Optional[StoredFile]], Dict[str, Optional[str]]]:
        files = {path: read_file(path) for path in spec.files}
        return files, {link: read_link(link) for link in self.request.links}

    def _act(self, spec: UnitSpec, action: str) -> None:
        verbs = {"started": "start", "restarted": "restart", "reloaded": "reload"}
        if action not in verbs:
            return
        try:
            if action == "reloaded":
                self._reloaded[spec.name] = self.systemd.now()
            else:
                self.systemd.reset_failed(spec.name)
            self._control(verbs[action], spec)
        except SystemdError as error:
            unit = self.systemd.show([spec.name])[spec.name]
            raise GateError(spec.name, f"{error} ({_ended(unit)})") from error

    def _pass_gate(self, spec: UnitSpec) -> None:
        """The unit is active and every health command exits with 0 before the health timeout."""
        self._seen = None
        deadline = self.systemd.now() + self.request.health_timeout
        commands = [*spec.health, *self.request.health]
        while True:
            unit = self.systemd.show([spec.name])[spec.name]
            if not unit.is_active:
                raise GateError(spec.name, f"it did not stay active ({_ended(unit)})")
            left = deadline - self.systemd.now()
            said = None
            while commands and said is None:
                said = self.systemd.check(commands[0], max(left, 1.0))
                if said is None:
                    commands.pop(0)
            if said is None:
                return
            if self.systemd.now() >= deadline:
                raise GateError(
                    spec.name, f"it was not healthy after {self.request.health_timeout:.0f} s: {said}"
                )
            self.systemd.sleep(1.0)

    def _record(self, spec: UnitSpec) -> None:
        """Note what is in place as known good, and which process was seen with it."""
        unit = self._show()[spec.name]
        old = self.known_good.load(spec.name)
        files, links = self._present(spec)
        same_process = old is not None and old.invocation == unit.invocation != ""
        reloaded = self._reloaded.get(spec.name, old.reloaded if old is not None and same_process else 0.0)
        watched = set(inputs(spec, unit, self.request.links)) | set(spec.reload_on)
        if (
            old is not None
            and same_process
            and old.reloaded == reloaded
            and old.holds(files, links)
            and set(old.watched) == watched
        ):
            return
        seen = {}
        for path in watched if unit.is_active else ():
            loaded = max(unit.started or 0.0, reloaded if path in spec.reload_on else 0.0)
            time, digest = changed_at(path), fingerprint(path)
            # What changed after the process started is not what the process has read.
            if time is not None and digest is not None:
                if time <= loaded:
                    seen[path] = digest
                elif old is not None and same_process and path in old.inputs:
                    seen[path] = old.inputs[path]
        self.known_good.save(
            Record(
                unit=spec.name,
                time=self.systemd.now(),
                invocation=unit.invocation,
                reloaded=reloaded,
                files={path: file for path, file in files.items() if file is not None},
                links={path: target for path, target in links.items() if target is not None},
                inputs=seen,
                watched=sorted(watched),
            )
        )

    # The way back

    def _roll_back(self, failed: UnitSpec, acted: List[UnitSpec], error: GateError) -> None:
        """Put back what was known to be good, restart what this call had touched, and hold it to the gate."""
        record = self.known_good.load(failed.name)
        if record is None:
            error.outcome = "There is no known good state of it yet: its files are left as they are"
            return
        if record.holds(*self._present(failed)):
            error.outcome = (
                "What failed is what was known to be good before, so there is nothing to go back to"
            )
            return
        error.restored = self._restore(record)
        self.systemd.daemon_reload()
        failures = []
        for spec in acted:
            try:
                self._act(spec, "restarted")
                self._pass_gate(spec)
                self._record(spec)
                self.report.steps[spec.name].action = "rolled_back"
            except GateError as again:
                failures.append(f"{again.unit}: {again.reason}")
        error.rolled_back = not failures
        put_back = f"Put back: {', '.join(error.restored)}"
        if failures:
            error.outcome = f"{put_back}; but with that, too, the gate fails: {'; '.join(failures)}"
        else:
            names = ", ".join(spec.name for spec in acted)
            error.outcome = f"{put_back}; with that the gate is passed again by {names}"

    def _restore(self, failed: Record) -> List[str]:
        restored = put_links(failed.links)
        for spec in self._wanted():
            record = failed if spec.name == failed.unit else self.known_good.load(spec.name)
            if record is None:
                continue
            for path in sorted({*spec.files, *record.files}):
                if put_file(path, self._good_file(record, path)):
                    restored.append(path)
        return restored

    def _good_file(self, record: Record, path: str) -> Optional[StoredFile]:
        """What to put back: what the unit read then, but what was not recorded yet, as this call found it."""
        if path not in record.files and path in record.watched:
            return self._before[path] if path in self._before else read_file(path)
        return record.files.get(path)


def _same(present: StoredFile, wanted: StoredFile) -> bool:
    """Whether content, mode and owner are as wanted; an owner of -1 is not asked for."""
    return (
        present.content == wanted.content
        and present.mode == wanted.mode
        and wanted.uid in (-1, present.uid)
        and wanted.gid in (-1, present.gid)
    )


def _stopped(spec: UnitSpec) -> Step:
    return Step(spec.name, "stopped", ["is no longer wanted" if spec.retired else "is running"])


def _ended(unit: Unit) -> str:
    return f"{unit.active}, Result={unit.result}, exit status {unit.exit_status}"

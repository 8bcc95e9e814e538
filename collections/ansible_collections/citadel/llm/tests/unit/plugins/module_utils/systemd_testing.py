# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host's systemd, as far as the gate needs it, behind the runner's interface."""

from __future__ import annotations

import datetime
import os
import time
from dataclasses import dataclass, field
from typing import Callable, Dict, List, Mapping, Optional, Sequence

from ansible_collections.citadel.llm.plugins.module_utils._command import Completed


@dataclass
class FakeUnit:
    """A unit of the fake host. `works` says at a start or reload whether it succeeds."""

    active: str = "inactive"
    sub: str = "dead"
    result: str = "success"
    status: str = "0"
    file_state: str = "disabled"
    started: Optional[float] = None
    invocation: int = 0
    fragment: str = ""
    environment_files: List[str] = field(default_factory=list)
    triggered_by: str = ""
    needs_reload: bool = False
    works: Callable[[], bool] = lambda: True


class FakeHost:
    """Runs systemctl, journalctl and health commands; notes each call that changes something."""

    def __init__(self) -> None:
        self.units: Dict[str, FakeUnit] = {}
        self.calls: List[str] = []
        self.health: Dict[str, Callable[[], bool]] = {}
        self.hangs: List[str] = []

    def run(self, argv: Sequence[str], environment: Mapping[str, str], timeout: float) -> Completed:
        words = [word for word in argv if word != "--" and not word.startswith("--no-ask")]
        if words[0] == "journalctl":
            return Completed(0, "the last words\n")
        if words[0] != "systemctl":
            return Completed(0, "") if self.health[words[0]]() else Completed(1, "not well\n")
        if words[1] == "show":
            names = [word for word in words[2:] if not word.startswith("--")]
            return Completed(0, "\n".join(self._show(name) for name in names))
        self.calls.append(" ".join(words[1:]))
        if words[1] == "daemon-reload":
            for unit in self.units.values():
                unit.needs_reload = False
            return Completed(0, "")
        if words[-1] in self.hangs:
            return Completed(None, "")
        return self._control(words[1], self.units.setdefault(words[2], FakeUnit()), words[2])

    def _control(self, verb: str, unit: FakeUnit, name: str) -> Completed:
        if verb == "stop":
            unit.active, unit.sub = "inactive", "dead"
        elif verb in ("enable", "disable"):
            unit.file_state = f"{verb}d"
        elif verb in ("start", "restart", "reload"):
            if not unit.works():
                unit.active, unit.sub, unit.result, unit.status = "failed", "failed", "exit-code", "3"
                return Completed(1, f"Job for {name} failed.\nSee the journal.\n")
            unit.active, unit.sub, unit.result, unit.status = "active", "running", "success", "0"
            if verb != "reload":
                settle()
                unit.started = time.time()
                unit.invocation += 1
                settle()
        return Completed(0, "")

    def _show(self, name: str) -> str:
        unit = self.units.get(name)
        if unit is None:
            return f"Id={name}\nLoadState=not-found\nActiveState=inactive\nSubState=dead\n"
        moment = datetime.datetime.fromtimestamp(unit.started or 0, datetime.timezone.utc)
        started = moment.strftime("%a %Y-%m-%d %H:%M:%S.%f UTC") if unit.started else ""
        files = "".join(f"EnvironmentFiles={path} (ignore_errors=no)\n" for path in unit.environment_files)
        return (
            f"Id={name}\nLoadState=loaded\nActiveState={unit.active}\nSubState={unit.sub}\n"
            f"UnitFileState={unit.file_state}\nResult={unit.result}\nExecMainStatus={unit.status}\n"
            f"ExecMainStartTimestamp={started}\nActiveEnterTimestamp={started}\nFragmentPath={unit.fragment}\n"
            f"DropInPaths=\n{files}NeedDaemonReload={'yes' if unit.needs_reload else 'no'}\n"
            f"TriggeredBy={unit.triggered_by}\nInvocationID={unit.invocation or ''}\n"
        )


def settle() -> None:
    """Let the kernel's coarse clock, which gives files their ctime, go on."""
    start = time.time()
    while time.time() < start + 0.015:
        time.sleep(0.005)


def write(path: "os.PathLike[str]", text: str) -> None:
    settle()
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(text)
    settle()

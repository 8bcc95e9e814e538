# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd says about units, and what it is told to do with them."""

from __future__ import annotations

import datetime
import os
import re
import time
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Protocol, Sequence, Tuple

from ansible_collections.citadel.llm.plugins.module_utils._command import Completed

_PROPERTIES = (
    "Id",
    "LoadState",
    "ActiveState",
    "SubState",
    "UnitFileState",
    "Result",
    "ExecMainStatus",
    "ExecMainStartTimestamp",
    "ActiveEnterTimestamp",
    "FragmentPath",
    "DropInPaths",
    "EnvironmentFiles",
    "NeedDaemonReload",
    "TriggeredBy",
    "InvocationID",
)
_QUERY_TIMEOUT = 60.0
_CONTROL_TIMEOUT = 300.0


class CommandRunner(Protocol):
    """Whatever runs a command: the real runner, or a test's."""

    def run(self, argv: Sequence[str], environment: Mapping[str, str], timeout: float) -> Completed: ...


class SystemdError(Exception):
    """systemd refused or failed; the message holds its own words."""


@dataclass(frozen=True)
class Unit:
    """A unit's live state. `started` is in seconds since the epoch, None for a unit that never ran."""

    name: str
    load: str = "not-found"
    active: str = "inactive"
    sub: str = "dead"
    file_state: str = ""
    result: str = "success"
    exit_status: str = "0"
    started: Optional[float] = None
    fragment: Optional[str] = None
    drop_ins: Tuple[str, ...] = ()
    environment_files: Tuple[str, ...] = ()
    needs_daemon_reload: bool = False
    triggered_by: Tuple[str, ...] = ()
    invocation: str = ""

    @property
    def is_active(self) -> bool:
        return self.active in ("active", "reloading", "refreshing")

    @property
    def is_running(self) -> bool:
        """Whether there is something to stop: also while it starts or fails to."""
        return self.active not in ("inactive", "failed")

    @property
    def is_enabled(self) -> bool:
        return self.file_state in ("enabled", "enabled-runtime", "static", "generated", "linked-runtime")


def parse_timestamp(text: str) -> Optional[float]:
    """A ``--timestamp=us+utc`` time stamp in seconds since the epoch; None where there is none."""
    try:
        moment = datetime.datetime.strptime(text.replace(" UTC", " +0000"), "%a %Y-%m-%d %H:%M:%S.%f %z")
    except ValueError:
        return None
    return moment.timestamp()


def _parse_unit(name: str, properties: Mapping[str, str]) -> Unit:
    started = properties.get("ExecMainStartTimestamp") or properties.get("ActiveEnterTimestamp", "")
    files = re.findall(r"(/.*?) \(ignore_errors=\w+\)", properties.get("EnvironmentFiles", ""))
    return Unit(
        name=name,
        load=properties.get("LoadState", "not-found"),
        active=properties.get("ActiveState", "inactive"),
        sub=properties.get("SubState", "dead"),
        file_state=properties.get("UnitFileState", ""),
        result=properties.get("Result", "success"),
        exit_status=properties.get("ExecMainStatus", "0"),
        started=parse_timestamp(started),
        fragment=properties.get("FragmentPath") or None,
        drop_ins=tuple(properties.get("DropInPaths", "").split()),
        environment_files=tuple(files),
        needs_daemon_reload=properties.get("NeedDaemonReload") == "yes",
        triggered_by=tuple(properties.get("TriggeredBy", "").split()),
        invocation=properties.get("InvocationID", ""),
    )


class Systemd:
    """systemctl and journalctl behind one interface."""

    def __init__(self, runner: CommandRunner, running: Optional[bool] = None) -> None:
        self._runner = runner
        self.is_running = os.path.isdir("/run/systemd/system") if running is None else running

    def _run(self, *argv: str, timeout: float = _CONTROL_TIMEOUT) -> Completed:
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": "cat"}
        try:
            return self._runner.run(argv, environment, timeout)
        except OSError as error:
            raise SystemdError(f"{argv[0]} cannot be run: {error.strerror}") from error

    def show(self, names: Sequence[str]) -> Dict[str, Unit]:
        """The state of each unit, unknown units included. Raises SystemdError."""
        if not names:
            return {}
        completed = self._run(
            "systemctl",
            "show",
            "--timestamp=us+utc",
            *(f"--property={name}" for name in _PROPERTIES),
            "--",
            *names,
            timeout=_QUERY_TIMEOUT,
        )
        blocks = [block for block in re.split(r"\n\s*\n", completed.output.strip()) if block.strip()]
        if completed.returncode != 0 or len(blocks) != len(names):
            raise SystemdError(f"systemctl show {' '.join(names)}: {completed.tail(5)}")
        units = {}
        for name, block in zip(names, blocks):  # noqa: B905 (Python 3.9 has no strict, the lengths are equal)
            pairs: Dict[str, str] = {}
            for line in block.splitlines():
                key, separator, value = line.partition("=")
                if separator:  # EnvironmentFiles is told once for each file
                    pairs[key] = f"{pairs[key]} {value}" if key in pairs else value
            units[name] = _parse_unit(name, pairs)
        return units

    def control(self, verb: str, name: str, timeout: float) -> None:
        """start, stop, restart, reload, enable or disable a unit and wait. Raises SystemdError."""
        completed = self._run("systemctl", "--no-ask-password", verb, "--", name, timeout=timeout)
        if completed.returncode is None:
            raise SystemdError(f"systemctl {verb} {name} had not ended after {timeout:.0f} s")
        if completed.returncode != 0:
            # The further lines only advise to look where the journal's lines of the report come from.
            said = completed.output.strip().splitlines() or ["no message"]
            raise SystemdError(f"systemctl {verb} {name}: {said[0]}")

    def daemon_reload(self) -> None:
        completed = self._run("systemctl", "daemon-reload")
        if completed.returncode != 0:
            raise SystemdError(f"systemctl daemon-reload: {completed.tail(5)}")

    def reset_failed(self, name: str) -> None:
        """Forget a failure and the start limit, so that a start is really tried."""
        self._run("systemctl", "reset-failed", "--", name, timeout=_QUERY_TIMEOUT)

    def check(self, argv: Sequence[str], timeout: float) -> Optional[str]:
        """Run a health command; None when it exits with 0, else what it said."""
        completed = self._run(*argv, timeout=timeout)
        if completed.returncode == 0:
            return None
        ended = "time limit" if completed.returncode is None else f"exit {completed.returncode}"
        said = completed.tail(5)
        return f"{' '.join(argv)}: {ended}" + (f": {said}" if said else "")

    def journal(self, name: str, since: float, lines: int) -> List[str]:
        """The unit's last journal lines since a time in seconds since the epoch."""
        if lines == 0:
            return []
        completed = self._run(
            "journalctl",
            f"--unit={name}",
            f"--lines={lines}",
            f"--since=@{int(since)}",
            "--no-pager",
            "--quiet",
            "--output=short-iso",
            timeout=_QUERY_TIMEOUT,
        )
        return completed.output.rstrip().splitlines()[-lines:]

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def now(self) -> float:
        return time.time()

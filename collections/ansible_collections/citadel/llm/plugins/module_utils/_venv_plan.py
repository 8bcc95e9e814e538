# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an environment release is made from, and the id that follows from it."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from typing import Dict, List, Mapping, Optional

from ansible_collections.citadel.llm.plugins.module_utils._command import Runner
from ansible_collections.citadel.llm.plugins.module_utils._files import sha256_file
from ansible_collections.citadel.llm.plugins.module_utils._release import ReleaseError
from ansible_collections.citadel.llm.plugins.module_utils._uv import (
    Lock,
    LockError,
    canonical_name,
    parse_lock,
)

FORMAT = 1  # part of every id: raise it when the same inputs give another environment

_PROBE = """
import json, platform, sys
print(json.dumps({
    "implementation": platform.python_implementation(),
    "version": platform.python_version(),
    "machine": platform.machine(),
    "executable": sys.executable,
}))
"""


@dataclass(frozen=True)
class Python:
    """The interpreter that environments are built for."""

    implementation: str
    version: str
    machine: str
    executable: str

    @property
    def tag(self) -> str:
        """What an environment depends on: a patch release of Python is used without a rebuild."""
        return f"{self.implementation.lower()}-{'.'.join(self.version.split('.')[:2])}-{self.machine}"

    def __str__(self) -> str:
        return f"{self.implementation} {self.version} on {self.machine}"


@dataclass(frozen=True)
class Spec:
    """What is asked for. Paths are absolute paths on the host; times are seconds."""

    lock: Optional[str]
    python: str
    uv: str
    wheels: List[str] = field(default_factory=list)
    index_url: Optional[str] = None
    extra_index_urls: List[str] = field(default_factory=list)
    wheelhouse: Optional[str] = None
    offline: bool = False
    only_binary: bool = True
    cache_dir: Optional[str] = None
    imports: List[str] = field(default_factory=list)
    commands: List[List[str]] = field(default_factory=list)
    trial_environment: Mapping[str, str] = field(default_factory=dict)
    trial_timeout: float = 300
    build_timeout: float = 3600
    gpu_count: Optional[int] = None
    free_space: int = 0
    uid: int = -1
    gid: int = -1


@dataclass(frozen=True)
class Plan:
    """A release that is wanted: its id and everything that the id was made from."""

    id: str
    lock: Lock
    python: Python
    wheels: Dict[str, str]

    @property
    def locked(self) -> Dict[str, str]:
        """Version by name, local wheels included."""
        versions = self.lock.versions
        for wheel in self.wheels:
            parts = os.path.basename(wheel).split("-")
            if len(parts) >= 5:
                versions[canonical_name(parts[0])] = parts[1]
        return versions


class MissingInputError(Exception):
    """An input is not on the host (yet). Check mode predicts from it, a run fails with it."""


def probe_python(path: str) -> Python:
    """Ask the interpreter what it is. Raises MissingInputError or ReleaseError."""
    try:
        completed = Runner().run([path, "-I", "-c", _PROBE], dict(os.environ), 60)
    except OSError as error:
        raise MissingInputError(
            f"the Python interpreter {path} cannot be run ({error.strerror}): install it, or set python"
        ) from error
    try:
        found = json.loads(completed.output)
        found["executable"] = os.path.realpath(found["executable"])
        return Python(**found)
    except (ValueError, KeyError, TypeError) as error:
        raise ReleaseError(
            "python", f"{path} is not a usable Python 3 interpreter: {completed.tail(3)}"
        ) from error


def make_plan(spec: Spec) -> Plan:
    """Read the inputs. Raises MissingInputError for what is not there, ReleaseError for what is unusable."""
    if spec.lock is None:
        raise ReleaseError("lock", "lock is required for this state")
    try:
        with open(spec.lock, encoding="utf-8") as stream:
            lock = parse_lock(stream.read())
        wheels = {wheel: sha256_file(wheel) for wheel in spec.wheels}
    except FileNotFoundError as error:
        raise MissingInputError(f"{error.filename} is not on this host: copy it there first") from error
    except (LockError, UnicodeDecodeError) as error:
        raise ReleaseError("lock", f"the lock {spec.lock} cannot be used: {error}") from error
    python = probe_python(spec.python)
    inputs = {"format": FORMAT, "lock": lock.digest, "wheels": sorted(wheels.values()), "python": python.tag}
    digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
    return Plan(digest[:16], lock, python, wheels)


def require_tools(spec: Spec) -> None:
    """What only a build needs. Raises MissingInputError for what is not there."""
    if not os.access(spec.uv, os.X_OK):
        raise MissingInputError(f"uv is not at {spec.uv}: install it there, or set uv")
    if spec.wheelhouse is not None and not os.path.isdir(spec.wheelhouse):
        raise MissingInputError(f"the wheelhouse {spec.wheelhouse} is not a directory on this host")

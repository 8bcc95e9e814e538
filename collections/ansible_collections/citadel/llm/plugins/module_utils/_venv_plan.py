# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an environment release is made from, and the id that follows from it."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from typing import Dict, List, Mapping, Optional, Sequence

from ansible_collections.citadel.llm.plugins.module_utils._command import Runner
from ansible_collections.citadel.llm.plugins.module_utils._files import sha256_file
from ansible_collections.citadel.llm.plugins.module_utils._release import ReleaseError
from ansible_collections.citadel.llm.plugins.module_utils._uv import (
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
class Inputs:
    """What a lock and local wheels mean: a digest, version by name, and sha256 by the wheel's file name."""

    lock_digest: str
    versions: Dict[str, str]
    wheels: Dict[str, str]


@dataclass(frozen=True)
class Spec:
    """What is asked for. Paths are absolute paths on the host; times are seconds.

    With `expected` the id follows from it, and the files are only read for a build.
    """

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
    expected: Optional[Inputs] = None


@dataclass(frozen=True)
class Plan:
    """A release that is wanted: its id and everything that the id was made from."""

    id: str
    inputs: Inputs
    python: Python

    @property
    def locked(self) -> Dict[str, str]:
        """Version by name, local wheels included."""
        versions = dict(self.inputs.versions)
        for wheel in self.inputs.wheels:
            parts = wheel.split("-")
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


def read_inputs(lock: str, wheels: Sequence[str]) -> Inputs:
    """Read a lock and hash the wheels. Raises OSError, and ReleaseError for a lock that is unusable."""
    try:
        with open(lock, encoding="utf-8") as stream:
            parsed = parse_lock(stream.read())
    except (LockError, UnicodeDecodeError) as error:
        raise ReleaseError("lock", f"the lock {lock} cannot be used: {error}") from error
    digests = {os.path.basename(wheel): sha256_file(wheel) for wheel in wheels}
    return Inputs(parsed.digest, parsed.versions, digests)


def _inputs_of(spec: Spec) -> Inputs:
    if spec.lock is None:
        raise ReleaseError("lock", "lock is required for this state")
    try:
        return read_inputs(spec.lock, spec.wheels)
    except FileNotFoundError as error:
        raise MissingInputError(f"{error.filename} is not on this host: copy it there first") from error


def make_plan(spec: Spec) -> Plan:
    """Read the inputs. Raises MissingInputError for what is not there, ReleaseError for what is unusable."""
    inputs = spec.expected or _inputs_of(spec)
    python = probe_python(spec.python)
    content = {
        "format": FORMAT,
        "lock": inputs.lock_digest,
        "wheels": sorted(inputs.wheels.values()),
        "python": python.tag,
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return Plan(digest[:16], inputs, python)


def require_inputs(spec: Spec) -> None:
    """What only a build needs: the tools, and what was expected on this host.

    Raises MissingInputError for what is not there or is another.
    """
    require_tools(spec)
    if spec.expected is None:
        return
    found = _inputs_of(spec)
    names = [name for name, digest in spec.expected.wheels.items() if found.wheels.get(name) != digest]
    if found.lock_digest != spec.expected.lock_digest:
        names.append(str(spec.lock))
    if names or len(found.wheels) != len(spec.expected.wheels):
        raise MissingInputError(
            f"another on this host than on the controller: {', '.join(names) or 'wheels'}; copy it again"
        )


def require_tools(spec: Spec) -> None:
    """What only a build needs. Raises MissingInputError for what is not there."""
    if not os.access(spec.uv, os.X_OK):
        raise MissingInputError(f"uv is not at {spec.uv}: install it there, or set uv")
    if spec.wheelhouse is not None and not os.path.isdir(spec.wheelhouse):
        raise MissingInputError(f"the wheelhouse {spec.wheelhouse} is not a directory on this host")

# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions to the compatibility table: does this build run on this GPU with this driver, and what would."""

from __future__ import annotations

import re
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.citadel.llm.plugins.module_utils import _compatibility_table as table
from ansible_collections.citadel.llm.plugins.module_utils._compatibility_table import Stack, Version

BINARY = "binary"
PTX = "ptx"


def version(text: str) -> Version:
    """``575.57.08`` as (575, 57, 8). Raises ValueError for what does not begin with a number."""
    match = re.match(r"^\s*v?(\d+(?:\.\d+)*)", text)
    if match is None:
        raise ValueError(f"{text!r} is not a version such as 575.57.08 or 12.6")
    return tuple(int(part) for part in match.group(1).split("."))


def at_least(found: str, wanted: str) -> bool:
    """Whether a version is the wanted one or newer; missing parts count as zero."""
    first, second = version(found), version(wanted)
    length = max(len(first), len(second))
    return first + (0,) * (length - len(first)) >= second + (0,) * (length - len(second))


def _between(found: str, first: str, last: str) -> bool:
    """Whether a version lies in a range whose ends stand for everything that begins with them."""
    return at_least(found, first) and version(found)[: len(version(last))] <= version(last)


class Wheel(NamedTuple):
    """A torch build: its version and CUDA; ``cuda`` is None for a CPU build."""

    torch: str
    cuda: Optional[str]

    def __str__(self) -> str:
        return f"torch {self.torch}+" + ("cpu" if self.cuda is None else "cu" + self.cuda.replace(".", ""))


def wheel(text: str) -> Wheel:
    """``2.7.0+cu126`` or ``2.14.0`` (PyPI's build). Raises ValueError for what is neither."""
    release, _plus, local = text.strip().partition("+")
    version(release)
    if local == "cpu":
        return Wheel(release, None)
    match = re.match(r"^cu(\d{2})(\d)$", local)
    if match:
        return Wheel(release, f"{match.group(1)}.{match.group(2)}")
    if local:
        raise ValueError(f"torch {text!r}: the part after + has to be cpu or cuNNN, such as cu128")
    cuda = None
    for first, candidate in table.PYPI_CUDA:
        if at_least(release, first):
            cuda = candidate
    if cuda is None:
        raise ValueError(
            f"torch {text!r}: PyPI's build of it is older than the table; name it, such as {text}+cu118"
        )
    return Wheel(release, cuda)


def kernels(build: Wheel, machine: str = "x86_64") -> Optional[str]:
    """The capabilities that a build has kernels for, as torch lists them; None for one not in the table."""
    for row in table.TORCH:
        if row.machine == machine and row.cuda == build.cuda and _between(build.torch, row.first, row.last):
            return row.kernels
    return None


def runs_on(capability: str, listed: str) -> Optional[str]:
    """How kernels run on a GPU: ``binary``, ``ptx`` (compiled by the driver at the first start), or None.

    A binary runs on its own capability and on higher ones of the same major number; PTX on every higher one.
    """
    wanted = version(capability)
    for entry in listed.split():
        have = version(entry)
        if have[0] == wanted[0] and have <= wanted:
            return BINARY
    for entry in listed.split():
        if entry.endswith("+PTX") and version(entry) <= wanted:
            return PTX
    return None


def cuda_row(cuda: str) -> Optional[table.Cuda]:
    """The table's row for a CUDA release, or the last one of its major number that is not newer."""
    best = None
    for row in table.CUDA:
        if version(row.version)[0] == version(cuda)[0] and at_least(cuda, row.version):
            best = row
    return best


def driver_row(capability: str) -> Optional[table.Architecture]:
    """What a compute capability asks of the driver."""
    best = None
    for row in table.DRIVERS:
        if version(row.capability)[0] == version(capability)[0] and at_least(capability, row.capability):
            best = row
    return best


def driver_too_old(driver: str, row: table.Architecture) -> bool:
    """Whether a driver is older than a GPU."""
    return not at_least(driver, row.driver_min)


def driver_too_new(driver: str, row: table.Architecture) -> bool:
    """Whether a driver's branch has dropped a GPU."""
    return row.driver_max is not None and version(driver)[:1] > version(row.driver_max)


def last_branch(capabilities: Sequence[str]) -> Optional[str]:
    """The last driver branch that supports all of these GPUs; None when that is still open."""
    rows = [driver_row(capability) for capability in capabilities]
    return lowest([row.driver_max for row in rows if row is not None and row.driver_max is not None])


def stack(given: Dict[str, Any]) -> Stack:
    """The stack that ``name``, ``vllm`` and ``torch`` describe; what is not given is taken from the table.

    Raises ValueError when that is not enough to know the torch build.
    """
    known = {row.name: row for row in table.STACKS}
    name, vllm, torch = given.get("name"), given.get("vllm"), given.get("torch")
    row = known.get(name) if name else None
    if torch:
        build = wheel(torch)
        return Stack(name or str(build), vllm or (row.vllm if row else ""), build.torch, build.cuda)
    if row and not vllm:
        return row
    release = vllm_release(vllm) if vllm else None
    if release is None:
        said = f"stack {name!r}" if name else f"vllm {vllm!r}"
        raise ValueError(
            f"stack: {said} is not in the compatibility table (known stacks: {', '.join(sorted(known))}); "
            "give torch, such as 2.7.0+cu126"
        )
    return Stack(name or f"vllm {vllm}", str(vllm), release.torch, release.cuda)


def vllm_release(text: str) -> Optional[table.Release]:
    """The row of a vLLM release, or None."""
    for row in table.VLLM:
        if at_least(text, row.first) and version(text) <= version(row.last):
            return row
    return None


def stack_wheel(wanted: Stack) -> Wheel:
    """The torch build of a stack."""
    return Wheel(wanted.torch, wanted.cuda)


def supports(build: Wheel, capabilities: Sequence[str], machine: str = "x86_64") -> Optional[bool]:
    """Whether a build has kernels for every capability; None when the build is not in the table."""
    listed = kernels(build, machine)
    if listed is None:
        return None
    return all(runs_on(capability, listed) for capability in capabilities)


def driver_runs(driver: str, cuda: str) -> Optional[bool]:
    """Whether a driver runs programs of a CUDA release; None when the release is not in the table."""
    row = cuda_row(cuda)
    return None if row is None else at_least(driver, row.minimum)


def newest_vllm(capabilities: Sequence[str], driver: str, machine: str = "x86_64") -> Optional[str]:
    """The newest vLLM release, with its torch build, that runs on these GPUs with this driver."""
    for row in reversed(table.VLLM):
        build = Wheel(row.torch, row.cuda)
        if supports(build, capabilities, machine) and driver_runs(driver, row.cuda):
            return f"vLLM {row.last} ({build})"
    return None


def too_low_for_vllm(capabilities: Sequence[str]) -> List[str]:
    """Those capabilities for which vLLM has no kernels at all."""
    return [value for value in capabilities if not at_least(value, table.VLLM_LEAST_CAPABILITY)]


def _fitting(capabilities: Sequence[str], machine: str) -> List[Stack]:
    builds = (row for row in table.STACKS if row.cuda is not None)
    return [row for row in builds if supports(stack_wheel(row), capabilities, machine)]


def recommend(capabilities: Sequence[str], driver: Optional[str], machine: str = "x86_64") -> str:
    """One sentence that names the stack to choose for these GPUs, and what it asks of the driver."""
    fitting = [] if too_low_for_vllm(capabilities) else _fitting(capabilities, machine)
    if not fitting:
        return (
            f"No stack has kernels for compute capability {', '.join(sorted(set(capabilities)))}: "
            "choose other GPUs, or build torch and vLLM for them"
        )
    best = fitting[0]
    said = f"Choose the stack {best.name} (vLLM {best.vllm}, {stack_wheel(best)})"
    row = cuda_row(str(best.cuda))
    if driver is None or row is None:
        return said + (f", which needs driver {row.minimum} or newer" if row else "")
    if at_least(driver, row.minimum):
        return said
    said += f" and update the driver from {driver} to {row.minimum} or newer, which CUDA {best.cuda} needs"
    older = newest_vllm(capabilities, driver, machine)
    if older is not None:
        said += f"; with driver {driver} the newest that runs is {older}"
    return said


def lowest(versions: Sequence[str]) -> Optional[str]:
    """The lowest of some versions; None of none."""
    return min(versions, key=version) if versions else None


def distinct(values: Sequence[Optional[str]]) -> List[str]:
    """The known values, each once, in ascending order of their version."""
    return sorted({value for value in values if value}, key=version)


def split(listed: str) -> Tuple[str, ...]:
    """A kernel list as torch names its architectures: ``sm_75``, ``sm_120``, ``compute_120``."""
    names: List[str] = []
    for entry in listed.split():
        number = "".join(str(part) for part in version(entry))
        names.append("sm_" + number)
        if entry.endswith("+PTX"):
            names.append("compute_" + number)
    return tuple(names)

# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is the driver the expected one, does it suit GPUs and stack, and will it stay as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Optional

from ansible_collections.citadel.llm.plugins.module_utils import _compatibility as compatibility
from ansible_collections.citadel.llm.plugins.module_utils import _compatibility_table as table
from ansible_collections.citadel.llm.plugins.module_utils import _driver_upkeep as upkeep
from ansible_collections.citadel.llm.plugins.module_utils._findings import Finding
from ansible_collections.citadel.llm.plugins.module_utils._gpu_rules import broken, kept, unseen

DRIVER = "driver"


@dataclass(frozen=True)
class Expected:
    """None is not checked. ``version_min`` and ``version_max`` are inclusive; ``branch`` is a beginning."""

    version: Optional[str] = None
    version_min: Optional[str] = None
    version_max: Optional[str] = None
    branch: Optional[str] = None
    flavour: Optional[str] = None
    cuda_min: Optional[str] = None
    stack: Optional[table.Stack] = None
    held: Optional[bool] = None

    @property
    def needs_driver(self) -> bool:
        """Whether a driver is expected, even on a host whose bus shows no GPU."""
        stack = self.stack is not None and self.stack.cuda is not None
        return stack or any((self.version, self.version_min, self.branch, self.flavour, self.cuda_min))


def _state(info: Dict[str, Any]) -> Dict[str, Any]:
    return dict(info["driver"] or {})


def _gpus_on_bus(info: Dict[str, Any]) -> Optional[bool]:
    """Whether there are NVIDIA GPUs; None when nobody can tell."""
    if info["gpus"]:
        return True
    return None if info["pci_gpus"] is None else bool(info["pci_gpus"])


def present(info: Dict[str, Any]) -> Iterable[Finding]:
    """Whether a driver is installed and loaded."""
    state = _state(info)
    version, code = info["driver_version"], info["error_code"]
    if version and (code is None or state.get("loaded")):
        yield kept("driver.loaded", DRIVER, found=version)
        return
    if code in ("timeout", "no_permission", "unreadable", "failed", "nvml_unavailable"):
        yield unseen(
            "driver.loaded",
            DRIVER,
            expected="a loaded driver",
            why=f"nvidia-smi gave no answer that could be read: {info['error']}",
            remedy="Run nvidia-smi by hand and see the kernel log.",
        )
        return
    installed = (
        state.get("module_version") or state.get("library_version") or state.get("module_package_version")
    )
    if installed or code in ("driver_not_loaded", "version_mismatch", "library_missing"):
        lines = info["module_messages"]
        yield broken(
            "driver.loaded",
            DRIVER,
            expected="the NVIDIA kernel module loaded",
            found="not loaded",
            why=f"The driver {installed or ''} is installed and its module is not loaded.".replace("  ", " ")
            + (f" The kernel log says: {lines[-1]}" if lines else ""),
            remedy="Run modprobe nvidia and see the kernel log; after a kernel upgrade, dkms autoinstall.",
        )
    else:
        yield broken(
            "driver.installed",
            DRIVER,
            expected="an NVIDIA driver",
            found="none",
            why="There is no NVIDIA driver.",
            remedy=_install(info),
        )


def _install(info: Dict[str, Any]) -> str:
    needed = _required_flavour(info)
    return f"Install an NVIDIA driver{f' with the {needed} kernel module' if needed else ''}, then restart."


def _required_flavour(info: Dict[str, Any]) -> Optional[str]:
    """The kernel module's flavour that the GPUs work with; None when either does, or nobody knows."""
    for gpu in info["gpus"]:
        if any(word in (gpu["name"] or "") for word in table.OPEN_ONLY_NAMES):
            return "open"
        row = compatibility.driver_row(gpu["compute_capability"]) if gpu["compute_capability"] else None
        if row is not None and row.flavour is not None:
            return row.flavour
    return None


def versions(info: Dict[str, Any], wanted: Expected) -> Iterable[Finding]:
    """The driver's version against version, branch and range."""
    found = info["driver_version"]
    asked = wanted.version or wanted.branch or wanted.version_min or wanted.version_max
    if asked is None:
        return
    if found is None:
        yield unseen(
            "driver.version",
            DRIVER,
            expected=asked,
            why="No driver is loaded that could tell its version.",
            remedy="Put the driver right first.",
        )
        return
    yield from _range(found, wanted)
    exact = wanted.version or wanted.branch
    if exact is None:
        return
    length = len(compatibility.version(exact))
    if compatibility.version(found)[:length] == compatibility.version(exact):
        yield kept("driver.branch", DRIVER, expected=exact, found=found)
    else:
        yield broken(
            "driver.branch",
            DRIVER,
            expected=exact,
            found=found,
            why="It is another driver; whether it suits GPUs and stack is said by the other findings.",
            remedy="Correct the expected version in the inventory, or install that driver and restart.",
        )


def _range(found: str, wanted: Expected) -> Iterable[Finding]:
    least, most = wanted.version_min, wanted.version_max
    if least is None and most is None:
        return
    said = " to ".join(part for part in (least or "any", most or "any"))
    too_new = most is not None and compatibility.version(found)[: len(compatibility.version(most))] > (
        compatibility.version(most)
    )
    if (least is None or compatibility.at_least(found, least)) and not too_new:
        yield kept("driver.version", DRIVER, expected=said, found=found)
    else:
        yield broken(
            "driver.version",
            DRIVER,
            expected=said,
            found=found,
            why=f"The driver is too {'new' if too_new else 'old'} for what was tested.",
            remedy=f"Install a driver from {said} and restart.",
        )


def flavour(info: Dict[str, Any], wanted: Expected) -> Iterable[Finding]:
    """Open or proprietary, as the GPUs need it and as it was asked for."""
    found, needed = info["kernel_module_flavour"], _required_flavour(info)
    if found is None:
        if wanted.flavour is not None and info["driver"] is not None:
            yield unseen(
                "driver.flavour",
                "kernel module",
                expected=wanted.flavour,
                why="No NVIDIA kernel module is loaded, or /proc/driver/nvidia is hidden.",
                remedy="Put the driver right first; in a container, run the check on the host.",
            )
        return
    if needed is not None and found != needed:
        yield broken(
            "driver.flavour_required",
            "kernel module",
            expected=needed,
            found=found,
            why=f"These GPUs work with the {needed} kernel module only.",
            remedy=f"Install the {needed} flavour of the driver's packages and restart.",
        )
    elif wanted.flavour is not None and found != wanted.flavour:
        yield broken(
            "driver.flavour",
            "kernel module",
            expected=wanted.flavour,
            found=found,
            why="The GPUs work with it; it is not the flavour that was asked for.",
            remedy=f"Install the {wanted.flavour} flavour of the driver's packages and restart.",
        )
    elif wanted.flavour is not None or needed is not None:
        yield kept("driver.flavour", "kernel module", expected=wanted.flavour or needed, found=found)


def gpu_support(info: Dict[str, Any]) -> Iterable[Finding]:
    """Whether the driver's branch supports each kind of GPU: too old, or dropped."""
    driver = info["driver_version"]
    if driver is None:
        return
    for capability in compatibility.distinct([gpu["compute_capability"] for gpu in info["gpus"]]):
        row = compatibility.driver_row(capability)
        if row is None:
            continue
        named = f"{row.name} (compute capability {capability})"
        said = (
            f"branch {row.driver_min} or newer"
            if row.driver_max is None
            else (f"branches {row.driver_min} to {row.driver_max}")
        )
        if compatibility.driver_too_old(driver, row) or compatibility.driver_too_new(driver, row):
            yield broken(
                "driver.gpu_support",
                named,
                expected=said,
                found=driver,
                why="The driver does not support these GPUs.",
                remedy=f"Install a driver of {said} and restart.",
            )
        else:
            yield kept("driver.gpu_support", named, expected=said, found=driver)


def cuda(info: Dict[str, Any], wanted: Expected) -> Iterable[Finding]:
    """Whether the driver runs the CUDA of the stack, or the least one that was asked for."""
    chosen = wanted.stack
    asked = [(f"CUDA {wanted.cuda_min}", wanted.cuda_min)] if wanted.cuda_min else []
    if chosen is not None and chosen.cuda is not None:
        asked.append((f"stack {chosen.name} ({compatibility.stack_wheel(chosen)})", chosen.cuda))
    for name, version in asked:
        row = compatibility.cuda_row(version)
        if row is None or info["driver_version"] is None:
            yield unseen(
                "driver.cuda",
                name,
                expected=f"CUDA {version}",
                why="No driver is loaded that could tell its version."
                if row is not None
                else f"CUDA {version} is not in the compatibility table.",
                remedy="Put the driver right first."
                if row is not None
                else "See NVIDIA's CUDA release notes.",
            )
        else:
            yield from _cuda_on(info, name, row)
    if chosen is not None and chosen.cuda is not None:
        yield from _ptx(info, chosen)


def _cuda_on(info: Dict[str, Any], name: str, row: table.Cuda) -> Iterable[Finding]:
    driver = info["driver_version"]
    if compatibility.at_least(driver, row.minimum):
        yield kept("driver.cuda", name, expected=f"driver {row.minimum} or newer", found=driver)
        return
    capabilities = compatibility.distinct([gpu["compute_capability"] for gpu in info["gpus"]])
    instead = compatibility.newest_vllm(capabilities, driver) if capabilities else None
    other = f", or choose {instead}, the newest that runs with this driver" if instead else ""
    remedy = f"Install driver {row.minimum} or newer and restart{other}."
    last = compatibility.last_branch(capabilities)
    if last is not None and not compatibility.at_least(f"{last}.999", row.minimum):
        remedy = f"Branch {last} is the last for these GPUs: choose a stack of an older CUDA, or other GPUs."
    yield broken(
        "driver.cuda",
        name,
        expected=f"driver {row.minimum} or newer",
        found=driver,
        why=f"CUDA {row.version} does not run with this driver: the engine says that the driver is too old.",
        remedy=remedy,
    )


def _ptx(info: Dict[str, Any], chosen: table.Stack) -> Iterable[Finding]:
    """GPUs for which the build has PTX only, which a driver older than the build's CUDA cannot compile."""
    build, driver = compatibility.stack_wheel(chosen), info["driver_version"]
    listed, row = compatibility.kernels(build), compatibility.cuda_row(str(chosen.cuda))
    if listed is None or row is None or driver is None or compatibility.at_least(driver, row.own):
        return
    for capability in compatibility.distinct([gpu["compute_capability"] for gpu in info["gpus"]]):
        if compatibility.runs_on(capability, listed) == compatibility.PTX:
            yield broken(
                "driver.ptx",
                f"stack {chosen.name} on compute capability {capability}",
                expected=f"driver {row.own} or newer",
                found=driver,
                why="The build has only PTX for this GPU, and the driver is too old to compile it.",
                remedy=f"Install driver {row.own} or newer and restart.",
            )


def check(info: Dict[str, Any], wanted: Expected) -> List[Finding]:
    """Every finding about the driver. A host without NVIDIA GPUs needs none, unless one is expected."""
    nothing = _gpus_on_bus(info) is False and info["error_code"] == "command_missing"
    if nothing and not _state(info).get("loaded") and not wanted.needs_driver:
        return [kept("driver.installed", DRIVER, expected="none without GPUs", found="none")]
    found = [*present(info), *versions(info, wanted), *flavour(info, wanted)]
    found += gpu_support(info)
    found += cuda(info, wanted)
    found += upkeep.check(info, wanted.held)
    return found

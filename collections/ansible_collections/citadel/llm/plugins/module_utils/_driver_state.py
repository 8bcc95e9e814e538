# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The NVIDIA driver as it is loaded and as it is installed, and whether the two are one.

Nothing is remembered between runs: whether a reboot is needed follows from the live state alone.
"""

from __future__ import annotations

import glob
import os
import re
from typing import Any, Dict, List, Optional, Tuple

from ansible_collections.citadel.llm.plugins.module_utils import _driver_packages as packages
from ansible_collections.citadel.llm.plugins.module_utils import _gpu_smi as smi
from ansible_collections.citadel.llm.plugins.module_utils._gpu_pci import read

OPEN = "open"
PROPRIETARY = "proprietary"
_SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
_LIBRARIES = (
    "usr/lib/*-linux-gnu/libnvidia-ml.so.[0-9]*.*",
    "usr/lib64/libnvidia-ml.so.[0-9]*.*",
    "usr/lib/libnvidia-ml.so.[0-9]*.*",
    "usr/lib/*-linux-gnu/nvidia/current/libnvidia-ml.so.[0-9]*.*",
)


def loaded_module(root: str = "/") -> Dict[str, Any]:
    """The module in the kernel: ``version`` and ``flavour`` (open, proprietary), None when none is loaded."""
    text = read(root, "proc/driver/nvidia/version") or ""
    line = next((line for line in text.splitlines() if "NVRM version" in line), "")
    match = re.search(r"\b(\d{3}\.\d+(?:\.\d+)?)\b", line)
    version = match.group(1) if match else read(root, "sys/module/nvidia/version")
    flavour = None
    if line:
        flavour = OPEN if "Open Kernel Module" in line else PROPRIETARY
    elif version:
        flavour = _flavour_of_license(read(root, "sys/module/nvidia/license"))
    return {"version": version, "flavour": flavour}


def _flavour_of_license(text: Optional[str]) -> Optional[str]:
    if not text:
        return None
    return OPEN if "GPL" in text else PROPRIETARY


def kernel_release(root: str = "/") -> str:
    """The running kernel's release."""
    return read(root, "proc/sys/kernel/osrelease") or os.uname().release


def _natural(text: str) -> List[Tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.findall(r"\d+|[^\d]+", text)]


def _kernels(root: str) -> List[str]:
    try:
        names = os.listdir(os.path.join(root, "lib/modules"))
    except OSError:
        return []
    with_modules = [
        name for name in names if os.path.exists(os.path.join(root, "lib/modules", name, "modules.dep"))
    ]
    return sorted(with_modules, key=_natural)


def _has_module(root: str, release: str) -> Optional[bool]:
    path = os.path.join(root, "lib/modules", release, "modules.dep")
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return re.search(r"(?:^|/)nvidia\.ko[.a-z]*:", stream.read(1 << 24), re.MULTILINE) is not None
    except OSError:
        return None


def module_on_disk(root: str, release: str, timeout: float) -> Dict[str, Any]:
    """The module that the running kernel would load next: ``version``, ``flavour``, ``signer``."""
    command = ["modinfo", "-k", release]
    if root != "/":
        command += ["-b", root]
    answer = smi.run([*command, "nvidia"], timeout)
    fields: Dict[str, str] = {}
    if answer.status == smi.OK:
        text = answer.output.decode("utf-8", "replace")
        fields = dict(re.findall(r"^(version|license|signer):\s*(.*)$", text, re.MULTILINE))
    return {
        "version": fields.get("version") or None,
        "flavour": _flavour_of_license(fields.get("license")),
        "signer": fields.get("signer") or None,
    }


def library_version(root: str = "/") -> Optional[str]:
    """The version of the user-space library (libnvidia-ml) that programs load."""
    versions = []
    for pattern in _LIBRARIES:
        for path in glob.glob(os.path.join(root, pattern)):
            match = re.search(r"\.so\.(\d{3}\.\d+(?:\.\d+)?)$", path)
            if match:
                versions.append(match.group(1))
    return max(versions, key=_natural) if versions else None


def secure_boot(root: str = "/") -> Optional[bool]:
    """Whether the firmware enforces signatures; None when that cannot be seen."""
    try:
        with open(os.path.join(root, _SECURE_BOOT), "rb") as stream:
            data = stream.read(5)
    except OSError:
        return None
    return len(data) == 5 and data[4] == 1


def fabric_manager(root: str, timeout: float) -> Dict[str, Any]:
    """The fabric manager's unit as systemd sees it: ``installed, active, enabled, state``."""
    unit = "nvidia-fabricmanager.service"
    places = ("lib/systemd/system", "usr/lib/systemd/system", "etc/systemd/system")
    installed = any(os.path.exists(os.path.join(root, place, unit)) for place in places)
    state: Dict[str, str] = {}
    if installed and root == "/":
        answer = smi.run(["systemctl", "show", "-p", "ActiveState,SubState,UnitFileState", unit], timeout)
        if answer.status == smi.OK:
            state = dict(re.findall(r"^(\w+)=(.*)$", answer.output.decode("utf-8", "replace"), re.MULTILINE))
    active = state.get("ActiveState")
    return {
        "installed": installed,
        "active": None if active is None else active == "active",
        "enabled": None if active is None else state.get("UnitFileState") in ("enabled", "enabled-runtime"),
        "state": active,
    }


def _first(*values: Optional[str]) -> Optional[str]:
    return next((value for value in values if value), None)


def _package_version(found: Optional[List[Dict[str, Any]]], kind: str) -> Optional[str]:
    versions = {
        entry["driver_version"] for entry in found or [] if entry["kind"] == kind and entry["driver_version"]
    }
    return max(versions, key=_natural) if versions else None


def reboot_reasons(state: Dict[str, Any]) -> List[str]:
    """Why the host has to be restarted (or the module reloaded), out of what ``describe`` found."""
    reasons = []
    loaded = state["loaded_version"]
    for what, version in (
        ("kernel module on disk", state["module_version"]),
        ("user-space library", state["library_version"]),
        ("module package", state["module_package_version"]),
    ):
        if loaded and version and version != loaded:
            reasons.append(f"the loaded kernel module is {loaded}, the {what} is {version}")
    if state["reboot_flag"]:
        packages_named = ", ".join(state["reboot_flag_packages"][:5])
        reasons.append("/run/reboot-required is there" + (f" ({packages_named})" if packages_named else ""))
    return reasons


def describe(root: str = "/", timeout: float = 2.0) -> Dict[str, Any]:
    """The driver's live state as plain JSON values; what cannot be seen is None."""
    loaded = loaded_module(root)
    release = kernel_release(root)
    disk = module_on_disk(root, release, timeout)
    debian = packages.describe(root)
    kernels = _kernels(root)
    newest = kernels[-1] if kernels else None
    fabric = fabric_manager(root, timeout)
    fabric["version"] = _package_version(debian["packages"], "fabricmanager")
    flag = any(os.path.exists(os.path.join(root, run, "reboot-required")) for run in ("run", "var/run"))
    named = _first(read(root, "run/reboot-required.pkgs"), read(root, "var/run/reboot-required.pkgs")) or ""
    state = {
        "loaded": loaded["version"] is not None,
        "loaded_version": loaded["version"],
        "flavour": loaded["flavour"],
        "module_version": disk["version"],
        "module_flavour": disk["flavour"],
        "module_signer": disk["signer"],
        "library_version": library_version(root),
        "module_package_version": _package_version(debian["packages"], "module"),
        "nouveau_loaded": os.path.isdir(os.path.join(root, "sys/module/nouveau")),
        "secure_boot": secure_boot(root),
        "kernel": release,
        "kernel_newest": newest,
        "kernel_has_module": _has_module(root, release),
        "kernel_newest_has_module": _has_module(root, newest) if newest else None,
        "reboot_flag": flag,
        "reboot_flag_packages": sorted(set(named.split())),
        "fabric_manager": fabric,
    }
    state.update(debian)
    return state

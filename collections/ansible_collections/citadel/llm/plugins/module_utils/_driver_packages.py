# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The driver's Debian packages: versions, holds, pins, and what unattended upgrades would do to them.

Reads dpkg's status file and apt's configuration itself: no command, no lock, a few milliseconds.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from typing import Any, Dict, List, NamedTuple, Optional

STATUS = "var/lib/dpkg/status"
# Packages that only depend on others: to hold one of them holds nothing else.
_METAPACKAGE = re.compile(
    r"^(?:cuda-drivers(?:-\d+)?|nvidia-open(?:-\d+)?|nvidia-driver(?:-full)?(?:-\d+)?(?:-open)?(?:-server)?(?:-open)?"
    r"|nvidia-headless(?:-no-dkms)?-\d+(?:-server)?(?:-open)?"
    r"|linux-modules-nvidia-\d+(?:-server)?(?:-open)?-(?:generic|lowlatency|aws|azure|gcp|oracle)[a-z0-9.-]*)$"
)
# The kernel module and the user-space library that have to be of one version.
_MODULE = re.compile(
    r"^(?:nvidia-dkms|nvidia-kernel-dkms|nvidia-kernel-open-dkms|nvidia-open-kernel-dkms|nvidia-kernel-source"
    r"|nvidia-kernel-open|linux-modules-nvidia|linux-objects-nvidia|linux-signatures-nvidia)"
)
_LIBRARY = re.compile(
    r"^(?:libnvidia-compute|libnvidia-ml1|libcuda1|nvidia-utils|nvidia-smi|nvidia-compute-utils)"
)
_OURS = re.compile(r"nvidia|^cuda-drivers|^libcuda1$")
_VERSION = re.compile(r"(?:^|[:~-])(\d{3}\.\d+(?:\.\d+)?)")


class Package(NamedTuple):
    """An installed package; ``kind`` is metapackage, module, library, fabricmanager or other."""

    name: str
    version: str
    driver_version: Optional[str]
    kind: str
    held: bool


def driver_version(version: str) -> Optional[str]:
    """``575.57.08`` from a package version such as ``575.57.08-0ubuntu0.24.04.2``."""
    match = _VERSION.search(version)
    return match.group(1) if match else None


def kind(name: str) -> str:
    """What a package is to the driver."""
    if "fabricmanager" in name or "fabric-manager" in name:
        return "fabricmanager"
    if _METAPACKAGE.match(name):
        return "metapackage"
    if _MODULE.match(name):
        return "module"
    return "library" if _LIBRARY.match(name) else "other"


def installed(root: str = "/") -> Optional[List[Package]]:
    """The installed NVIDIA packages, by name. None where dpkg does not manage the host."""
    try:
        with open(os.path.join(root, STATUS), encoding="utf-8", errors="replace") as stream:
            text = stream.read()
    except OSError:
        return None
    result: Dict[str, Package] = {}
    for paragraph in re.split(r"\n\n+", text):
        head = re.match(r"Package: (\S+)", paragraph)
        if head is None or not _OURS.search(head.group(1)):
            continue
        fields = dict(re.findall(r"^(Status|Version): (.+)$", paragraph, re.MULTILINE))
        status = fields.get("Status", "").split()
        if len(status) != 3 or status[2] not in ("installed", "triggers-awaited", "triggers-pending"):
            continue
        name, version = head.group(1), fields.get("Version", "")
        result[name] = Package(name, version, driver_version(version), kind(name), status[0] == "hold")
    return [result[name] for name in sorted(result)]


def _texts(root: str, *patterns: str) -> List[str]:
    texts = []
    for pattern in patterns:
        for path in sorted(glob.glob(os.path.join(root, pattern))):
            try:
                with open(path, encoding="utf-8", errors="replace") as stream:
                    lines = stream.read(1 << 20).splitlines()
            except OSError:
                continue
            texts.append("\n".join(line for line in lines if not re.match(r"\s*(?://|#)", line)))
    return texts


class Upgrades(NamedTuple):
    """Whether packages are upgraded unattended, and which names are excepted (regular expressions)."""

    enabled: bool
    excepted: List[str]


def unattended_upgrades(root: str = "/") -> Upgrades:
    """Read apt's configuration in apt's order: the last value counts."""
    enabled = False
    excepted: List[str] = []
    for text in _texts(root, "etc/apt/apt.conf.d/*", "etc/apt/apt.conf"):
        for value in re.findall(r'APT::Periodic::Unattended-Upgrade\s+"([^"]*)"', text):
            enabled = value.strip() not in ("", "0", "false", "no")
        for block in re.findall(r"Unattended-Upgrade::Package-Blacklist\s*\{([^}]*)\}", text):
            excepted.extend(re.findall(r'"([^"]+)"', block))
        excepted.extend(re.findall(r'Unattended-Upgrade::Package-Blacklist::\s+"([^"]+)"', text))
    has_program = os.path.exists(os.path.join(root, "usr/bin/unattended-upgrade"))
    return Upgrades(enabled and has_program, excepted)


def pins(root: str = "/") -> List[str]:
    """Name patterns that apt's preferences pin to a version (a pin of 1000 or more, or one below 0)."""
    found: List[str] = []
    for text in _texts(root, "etc/apt/preferences", "etc/apt/preferences.d/*"):
        for paragraph in re.split(r"\n\s*\n", text):
            fields = dict(re.findall(r"^([A-Za-z-]+):\s*(.+)$", paragraph, re.MULTILINE))
            priority = re.match(r"-?\d+", fields.get("Pin-Priority", ""))
            fixed = fields.get("Pin", "").strip().startswith("version")
            if priority and fixed and (int(priority.group()) >= 1000 or int(priority.group()) < 0):
                found.extend(fields.get("Package", "").split())
    return found


def flavour(found: Optional[List[Dict[str, Any]]]) -> Optional[str]:
    """The flavour that the installed module packages have by their names; None when that is not one."""
    names = {entry["name"] for entry in found or [] if entry["kind"] == "module"}
    flavours = {"open" if re.search(r"\bopen\b", name) else "proprietary" for name in names}
    return flavours.pop() if len(flavours) == 1 else None


def is_fixed(package: Package, excepted: List[str], pinned: List[str]) -> bool:
    """Whether a package stays as it is: held, pinned, or excepted from unattended upgrades."""
    if package.held or any(fnmatch.fnmatchcase(package.name, pattern) for pattern in pinned):
        return True
    for expression in excepted:
        try:
            if re.match(expression, package.name):
                return True
        except re.error:
            if package.name.startswith(expression):
                return True
    return False


def describe(root: str = "/") -> Dict[str, Any]:
    """Everything about the packages, as plain JSON values; ``packages`` is None without dpkg."""
    found = installed(root)
    upgrades = unattended_upgrades(root)
    pinned = pins(root)
    packages = None
    if found is not None:
        packages = [
            dict(package._asdict(), fixed=is_fixed(package, upgrades.excepted, pinned)) for package in found
        ]
    return {"packages": packages, "unattended_upgrades": upgrades.enabled if found is not None else None}

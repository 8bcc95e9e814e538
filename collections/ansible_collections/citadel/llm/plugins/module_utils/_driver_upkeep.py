# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is the driver of one piece now, and will it be after the next upgrade and the next start."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Optional

from ansible_collections.citadel.llm.plugins.module_utils._findings import Finding
from ansible_collections.citadel.llm.plugins.module_utils._gpu_rules import broken, kept, unseen

PACKAGES = "driver packages"


def pieces(info: Dict[str, Any], state: Dict[str, Any]) -> Iterable[Finding]:
    """Module and library of one version; a restart that waits."""
    loaded, library = state["loaded_version"], state["library_version"]
    mismatch = bool(loaded and library and loaded != library)
    if mismatch or info["error_code"] == "version_mismatch":
        yield broken(
            "driver.mismatch",
            "kernel module and library",
            expected=loaded or "one version",
            found=library or info["error"],
            why="The driver was upgraded under the running system: new programs do not find the GPU.",
            remedy="Restart the server, and hold the driver's packages.",
        )
    elif loaded and library:
        yield kept("driver.mismatch", "kernel module and library", expected=loaded, found=library)
    if info["reboot_required"]:
        yield broken(
            "driver.reboot",
            "server",
            expected="nothing that waits for a restart",
            found=info["reboot_reasons"],
            why="; ".join(info["reboot_reasons"]) + ".",
            remedy="Restart the server when no work runs.",
        )
    elif info["reboot_required"] is False:
        yield kept("driver.reboot", "server", found=[])


def kernels(state: Dict[str, Any]) -> Iterable[Finding]:
    """Whether the kernel that starts next has a driver module."""
    newest, running = state["kernel_newest"], state["kernel"]
    if newest is None or newest == running or not state["loaded"]:
        return
    if state["kernel_newest_has_module"] is False and state["kernel_has_module"]:
        yield broken(
            "driver.next_kernel",
            f"kernel {newest}",
            expected="a module nvidia.ko",
            found="none",
            why=f"The next start takes kernel {newest}, for which no driver module is built: no GPU then.",
            remedy=f"Install linux-headers-{newest} and run dkms autoinstall, or hold the kernel packages.",
        )
    elif state["kernel_newest_has_module"]:
        yield kept("driver.next_kernel", f"kernel {newest}", expected="a module nvidia.ko", found="there")


def loading(info: Dict[str, Any], state: Dict[str, Any]) -> Iterable[Finding]:
    """What keeps the module out: nouveau, secure boot."""
    if state["nouveau_loaded"]:
        yield broken(
            "driver.nouveau",
            "kernel module nouveau",
            expected="not loaded",
            found="loaded",
            why="nouveau holds the GPU, so that the NVIDIA driver cannot drive it.",
            remedy="Write 'blacklist nouveau' to /etc/modprobe.d/, run update-initramfs -u, restart.",
        )
    refused = [
        line for line in info["module_messages"] if "key" in line.lower() or "unsigned" in line.lower()
    ]
    installed = state["module_version"] is not None
    if (
        state["secure_boot"]
        and not state["loaded"]
        and (refused or (installed and not state["module_signer"]))
    ):
        yield broken(
            "driver.secure_boot",
            "secure boot",
            expected="a module signed with an enrolled key",
            found=refused[-1] if refused else "a module without a signature",
            why="Secure boot lets only signed modules in, and the NVIDIA module is not.",
            remedy="Install signed modules (linux-modules-nvidia-*), or enrol the key with mokutil.",
        )


def packages(state: Dict[str, Any], wanted: Optional[bool]) -> Iterable[Finding]:
    """Whether an upgrade that nobody watches would exchange the driver."""
    found = state["packages"]
    if not found:
        return
    parts = [entry for entry in found if entry["kind"] in ("module", "library")]
    free = [entry["name"] for entry in parts if not entry["fixed"]]
    meta = [entry["name"] for entry in found if entry["kind"] == "metapackage" and entry["fixed"]]
    if not parts:
        return
    if meta and free:
        yield broken(
            "driver.metapackage",
            PACKAGES,
            expected="module and library packages held",
            found=f"held: {', '.join(meta)}; free: {', '.join(free)}",
            why="Only the metapackage is held: what it depends on can still be upgraded.",
            remedy=f"Run apt-mark hold {' '.join(free)}",
        )
    elif free and (state["unattended_upgrades"] or wanted):
        yield broken(
            "driver.held",
            PACKAGES,
            expected="held, pinned or excepted from unattended upgrades",
            found=free,
            why="Unattended upgrades exchange the driver under the running engine, which then fails."
            if state["unattended_upgrades"]
            else "Any upgrade exchanges the driver under the running engine.",
            remedy=f"Run apt-mark hold {' '.join(free)}, or except them from unattended upgrades.",
        )
    else:
        how = "held" if not free else "unattended upgrades are off"
        yield kept("driver.held", PACKAGES, expected="no upgrade that nobody watches", found=how)


def fabric(info: Dict[str, Any]) -> Iterable[Finding]:
    """The fabric manager, where NVSwitches need one."""
    state = info["fabric_manager"]
    if not state["needed"]:
        return
    name, driver = "fabric manager", info["driver_version"]
    why = "Without it CUDA says 'Error 802: system not yet initialized'."
    if state["installed"] is False:
        found, remedy = "not installed", f"Install the fabric manager of version {driver}."
    elif state["active"] is False:
        found, remedy = f"unit is {state['state']}", "Run systemctl enable --now nvidia-fabricmanager"
    elif state["version"] and driver and state["version"] != driver:
        found, remedy = state["version"], f"Install the fabric manager of version {driver}, and hold both."
        why = "It works only with the driver of exactly its own version."
    elif state["active"] is None:
        yield unseen(
            "driver.fabric_manager",
            name,
            expected=f"active, version {driver}",
            why="systemd could not be asked.",
            remedy="Run systemctl status nvidia-fabricmanager",
        )
        return
    else:
        yield kept("driver.fabric_manager", name, expected=f"active, version {driver}", found=state["state"])
        return
    yield broken(
        "driver.fabric_manager",
        name,
        expected=f"active, version {driver}",
        found=found,
        why=why,
        remedy=remedy,
    )


def check(info: Dict[str, Any], held: Optional[bool]) -> List[Finding]:
    """Every finding about the driver's upkeep; none for a recording, which has no host."""
    state = info["driver"]
    if state is None:
        return list(fabric(info)) if info["fabric_manager"]["installed"] is not None else []
    return [
        *pieces(info, state),
        *kernels(state),
        *loading(info, state),
        *packages(state, held),
        *fabric(info),
    ]

# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Could the GPUs be asked, and did each of them answer."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

from ansible_collections.citadel.llm.plugins.module_utils import _gpu_smi as smi
from ansible_collections.citadel.llm.plugins.module_utils._findings import Finding
from ansible_collections.citadel.llm.plugins.module_utils._gpu_rules import broken, kept, unseen

# Why nvidia-smi did not answer: what that means, what to do, and whether it is known what is wrong.
_UNREADABLE: Dict[str, Tuple[str, str, bool]] = {
    "command_missing": ("nvidia-smi is not installed.", "Install the NVIDIA driver and its utilities.", True),
    "driver_not_loaded": (
        "The NVIDIA kernel module is not loaded.",
        "Load it with modprobe nvidia; when that fails, the kernel log says why.",
        True,
    ),
    "version_mismatch": (
        "The driver was upgraded under the running system: module and library are of different versions.",
        "Restart the server, and hold the driver's packages so that it does not happen again.",
        True,
    ),
    "library_missing": (
        "The driver's library is missing.",
        "Install the driver's libraries completely.",
        True,
    ),
    "gpu_lost": (
        "A GPU no longer answers on the bus.",
        "Drain the server and restart it; check the GPU's seat, power cables, power supply and cooling.",
        True,
    ),
    "reset_required": ("A GPU has to be reset.", "Drain the server and restart it.", True),
    "interrupts": (
        "The driver gets no interrupts from a GPU.",
        "Restart the server; check interrupt and IOMMU settings in the firmware.",
        True,
    ),
    "no_devices": (
        "The driver is loaded and finds no GPU that it supports.",
        "See the driver's list of supported products; Blackwell needs the open kernel module.",
        True,
    ),
    "timeout": (
        "nvidia-smi did not answer in time.",
        "Run it by hand; when it hangs, look for Xid events in the kernel log and restart the server.",
        False,
    ),
    "no_permission": (
        "This user may not ask the driver.",
        "Run the check as root; in a container, pass the GPU devices in.",
        False,
    ),
    "blocked_by_system": (
        "The system keeps the GPU from this guest.",
        "Update the host system's driver.",
        True,
    ),
    "nvml_unavailable": (
        "The driver's management library could not be started.",
        "Run it by hand; a container may have lost its devices at systemctl daemon-reload.",
        False,
    ),
    "unreadable": (
        "What nvidia-smi wrote could not be read.",
        "Run nvidia-smi -q -x by hand; report output that looks whole.",
        False,
    ),
}
_FAILED = ("nvidia-smi failed.", "Run nvidia-smi by hand and see the kernel log.", False)


def readable(info: Dict[str, Any]) -> List[Finding]:
    """Whether the GPUs could be asked and each of them answered. No GPU on the bus: nothing to ask."""
    code = info["error_code"]
    if code:
        if code == "command_missing" and info["pci_gpus"] == []:
            return []
        why, remedy, known = _UNREADABLE.get(code, _FAILED)
        said = str(info["error"]).splitlines()[0] if info["error"] else code
        expected = "an answer of nvidia-smi"
        if not known:
            why = f"{why} It said: {said}"
            return [unseen("gpu.readable", "nvidia-smi", expected=expected, why=why, remedy=remedy)]
        return [broken("gpu.readable", "nvidia-smi", expected=expected, found=said, why=why, remedy=remedy)]
    found = [kept("gpu.readable", "nvidia-smi", found=f"driver {info['driver_version']}")]
    silent = [
        gpu
        for gpu in info["gpus"]
        if gpu["lost"] or (gpu["name"] is None and gpu["memory_total_mib"] is None)
    ]
    attached, answered = info["attached_gpus"], len(info["gpus"]) - len(silent)
    lost = any(smi.classify(line) == "gpu_lost" for line in info["messages"])
    if silent or lost or (attached is not None and attached > answered):
        found.append(
            broken(
                "gpu.attached",
                "GPUs",
                expected=attached,
                found=answered,
                why=f"nvidia-smi counts {attached} GPUs and {answered} answer; the others are lost.",
                remedy="See the kernel log for Xid 79, restart the server, check seat and power of the GPUs.",
            )
        )
    return found

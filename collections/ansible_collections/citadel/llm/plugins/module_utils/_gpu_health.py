# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of one GPU's state: link, memory errors, heat, modes, processes, Xid events."""

from __future__ import annotations

import os
from typing import Any, Dict, Iterable, List, Optional, Sequence

from ansible_collections.citadel.llm.plugins.module_utils import _gpu_xid as xid
from ansible_collections.citadel.llm.plugins.module_utils._findings import Finding
from ansible_collections.citadel.llm.plugins.module_utils._gpu_rules import broken, kept, unseen

# Reasons that mean heat or a weak supply; the power cap alone is how a GPU works under load.
SLOWED = {
    "hw_slowdown": "the hardware slows the GPU down (heat, or the power supply)",
    "hw_thermal_slowdown": "the GPU is too hot",
    "sw_thermal_slowdown": "the GPU is too hot",
    "hw_power_brake_slowdown": "the server's power supply asks for less",
}
BUSY_PERCENT = 20


def subject(gpu: Dict[str, Any]) -> str:
    """How a finding names a GPU."""
    return f"GPU {gpu['index']} ({gpu['name'] or 'unnamed'}, {gpu['pci_bus_id'] or 'no address'})"


def link(gpu: Dict[str, Any]) -> List[Finding]:
    """PCIe lanes; the generation only while the GPU works, for it drops when idle."""
    pcie, name = gpu["pcie"], subject(gpu)
    found = []
    width, best = pcie["width"], pcie["width_max"]
    if width is not None and best is not None:
        if width < best:
            found.append(
                broken(
                    "gpu.pcie_width",
                    name,
                    expected=f"x{best}",
                    found=f"x{width}",
                    why=f"The link has {width} of {best} lanes: loading and traffic between GPUs are slower.",
                    remedy="Reseat the GPU, try another slot or riser, see how the firmware divides lanes.",
                )
            )
        else:
            found.append(kept("gpu.pcie_width", name, expected=f"x{best}", found=f"x{width}"))
    now, most = pcie["generation"], pcie["generation_max"]
    if now is not None and most is not None and now < most and _busy(gpu):
        found.append(
            broken(
                "gpu.pcie_generation",
                name,
                expected=most,
                found=now,
                why=f"The link runs at generation {now} of {most} although the GPU is busy.",
                remedy="Let the firmware choose the slot's speed; look for PCIe errors in the kernel log.",
            )
        )
    return found


def _busy(gpu: Dict[str, Any]) -> bool:
    working = gpu["performance_state"] in ("P0", "P1", "P2", "P3")
    return working and (gpu["utilization_percent"] or 0) >= BUSY_PERCENT


def program(process: Dict[str, Any]) -> str:
    """A process's program without path and arguments, which may hold secrets."""
    words = (process["name"] or "").split()
    return f"{os.path.basename(words[0]) if words else 'unnamed'} (pid {process['pid']})"


def memory_errors(gpu: Dict[str, Any]) -> List[Finding]:
    """Uncorrected errors, rows that wait for a remapping, remapping that failed."""
    name, errors, rows, pages = subject(gpu), gpu["ecc_errors"], gpu["row_remap"], gpu["retired_pages"]
    found = []
    now, ever = errors["volatile"]["uncorrected"], errors["aggregate"]["uncorrected"]
    if now or errors["sram_threshold_exceeded"]:
        found.append(
            broken(
                "gpu.ecc_errors",
                name,
                expected=0,
                found=now,
                why="The GPU's memory had errors that could not be corrected: results may be wrong.",
                remedy="Drain the server and restart it; replace the GPU when the counter grows again.",
            )
        )
    elif ever:
        found.append(
            broken(
                "gpu.ecc_history",
                name,
                expected=0,
                found=ever,
                why=f"{ever} errors in the GPU's life could not be corrected, none since the driver came up.",
                remedy="Watch the counter; plan a replacement when it grows.",
            )
        )
    elif now == 0:
        found.append(kept("gpu.ecc_errors", name, expected=0, found=0))
    if rows["failed"] or errors["unrepairable_memory"]:
        found.append(
            broken(
                "gpu.row_remap_failed",
                name,
                expected=False,
                found=True,
                why="A broken part of the GPU's memory could not be replaced by a spare one.",
                remedy="Replace the GPU.",
            )
        )
    elif rows["pending"] or pages["pending"]:
        found.append(
            broken(
                "gpu.row_remap",
                name,
                expected="nothing pending",
                found="pending",
                why="A broken part of the GPU's memory is put out of use at the next reset, not before.",
                remedy="Stop the work on the GPU and run nvidia-smi --gpu-reset, or restart the server.",
            )
        )
    return found


def speed(gpu: Dict[str, Any]) -> List[Finding]:
    """Slow-down by heat or supply."""
    reasons = [reason for reason in gpu["throttle_reasons"] or [] if reason in SLOWED]
    if not reasons:
        return [] if gpu["throttle_reasons"] is None else [kept("gpu.throttling", subject(gpu), found=[])]
    at = f" at {gpu['temperature_c']} °C" if gpu["temperature_c"] is not None else ""
    return [
        broken(
            "gpu.throttling",
            subject(gpu),
            expected=[],
            found=reasons,
            why="; ".join(sorted({SLOWED[reason] for reason in reasons})).capitalize() + at + ".",
            remedy="Check fans, dust and the air's way through the server, power cables and the power limit.",
        )
    ]


def modes(gpu: Dict[str, Any], expected: Dict[str, Optional[bool]]) -> List[Finding]:
    """Persistence, ECC and MIG mode, each where an expectation is given and the GPU has the mode."""
    rows = (
        (
            "gpu.persistence",
            "persistence",
            gpu["persistence_enabled"],
            "Without persistence mode the driver goes down with the last program: starts take longer.",
            "Run systemctl enable --now nvidia-persistenced",
        ),
        (
            "gpu.ecc_mode",
            "ecc",
            gpu["ecc_enabled"],
            "Error correction decides between a little more memory and wrong results that nobody sees.",
            "Run nvidia-smi --ecc-config with 1 or 0 and reset the GPU",
        ),
        (
            "gpu.mig",
            "mig",
            gpu["mig_enabled"],
            "In MIG mode a program sees one instance, not the GPU, and tensor parallelism does not work.",
            "Run nvidia-smi --multi-instance-gpu with 1 or 0 and reset the GPU, or correct the expectation",
        ),
    )
    found = []
    for rule, option, value, why, remedy in rows:
        wanted = expected.get(option)
        if wanted is None or value is None:
            continue
        words = {True: "enabled", False: "disabled"}
        if value == wanted:
            found.append(kept(rule, subject(gpu), expected=words[wanted], found=words[value]))
        else:
            found.append(
                broken(
                    rule,
                    subject(gpu),
                    expected=words[wanted],
                    found=words[value],
                    why=why,
                    remedy=remedy + ".",
                )
            )
    return found


def reset(gpu: Dict[str, Any]) -> List[Finding]:
    """Whether the GPU asks to be reset."""
    if not gpu["reset_required"] and gpu["recovery_action"] is None:
        return []
    return [
        broken(
            "gpu.reset",
            subject(gpu),
            expected=None,
            found=gpu["recovery_action"] or "reset required",
            why="The GPU says that it does not work rightly before it is reset.",
            remedy="Drain the server, then run nvidia-smi --gpu-reset for this GPU or restart the server.",
        )
    ]


def links(gpu: Dict[str, Any]) -> List[Finding]:
    """NVLinks that are down, where some are up (none at all: no bridge is fitted)."""
    state = gpu["nvlink"]
    if not state or not state["active"]:
        return []
    if state["active"] < state["links"]:
        return [
            broken(
                "gpu.nvlink",
                subject(gpu),
                expected=state["links"],
                found=state["active"],
                why="Some NVLinks are down: traffic between GPUs is slower, or fails.",
                remedy="See nvidia-smi nvlink --status and --errorcounters; reseat the bridge, restart.",
            )
        ]
    return [kept("gpu.nvlink", subject(gpu), expected=state["links"], found=state["active"])]


def in_use(gpu: Dict[str, Any], allowed: Sequence[str], free_mib: int) -> List[Finding]:
    """Memory that other programs hold. Programs whose name contains one of ``allowed`` do not count."""
    used, processes = gpu["memory_used_mib"], gpu["processes"]
    if used is None:
        return []
    others = [
        entry for entry in processes or [] if not any(word in (entry["name"] or "") for word in allowed)
    ]
    known = sum(entry["memory_mib"] or 0 for entry in others)
    ours = bool(processes) and not others
    if ours or used <= free_mib or (others and known and known <= free_mib):
        return [
            kept("gpu.memory_in_use", subject(gpu), expected=f"at most {free_mib} MiB", found=f"{used} MiB")
        ]
    names = ", ".join(program(entry) for entry in others[:5])
    return [
        broken(
            "gpu.memory_in_use",
            subject(gpu),
            expected=f"at most {free_mib} MiB",
            found=f"{used} MiB: {names}" if names else f"{used} MiB by programs without a name",
            why="The engine plans with the whole memory and does not start when others hold some of it.",
            remedy="Stop these programs, or lower gpu_memory_utilization by their share.",
        )
    ]


def _matches(event: Dict[str, Any], gpu: Dict[str, Any]) -> bool:
    """``0000:01:00`` of an event and ``00000000:01:00.0`` of a GPU."""
    mine = str(gpu["pci_bus_id"] or "").lower().rpartition(".")[0][-10:]
    address = str(event["pci_bus_id"])
    return bool(mine) and mine in (address.rpartition(".")[0][-10:], address[-10:])


def xid_events(info: Dict[str, Any]) -> Iterable[Finding]:
    """Xid events of the running kernel, or that they could not be seen."""
    events = info["xid_events"]
    if events is None:
        if info["kernel_log_error"]:
            yield unseen(
                "gpu.xid",
                "kernel log",
                expected="no Xid events",
                why=f"The kernel log could not be read: {info['kernel_log_error']}.",
                remedy="Run the check as root, or put the user into the group adm.",
            )
        return
    if not events:
        yield kept("gpu.xid", "kernel log", expected="no Xid events", found=[])
    for event in events:
        named = next(
            (subject(gpu) for gpu in info["gpus"] if _matches(event, gpu)), f"GPU at {event['pci_bus_id']}"
        )
        told = xid.meaning(event["xid"])
        yield broken(
            "gpu.xid_hardware" if told.hardware else "gpu.xid",
            named,
            expected="no Xid events",
            found=f"Xid {event['xid']}, {event['count']} times: {event['message']}",
            why=f"Xid {event['xid']} since the last restart: {told.text}.",
            remedy=told.remedy,
        )

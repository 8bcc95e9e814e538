# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every finding of gpu_check and driver_check, and how grave it is: the one place where that is decided.

Blocking is what keeps the engine from starting or makes its answers wrong; what only makes it slower,
less safe or different from what was written down is a deviation.
"""

from __future__ import annotations

from typing import Any, Dict, NamedTuple

from ansible_collections.citadel.llm.plugins.module_utils import _findings as findings
from ansible_collections.citadel.llm.plugins.module_utils._findings import BLOCKING, DEVIATION, Finding


class Rule(NamedTuple):
    """How grave it is when the rule is broken, and what the rule is."""

    severity: str
    meaning: str


RULES: Dict[str, Rule] = {
    "gpu.readable": Rule(BLOCKING, "nvidia-smi answers and its answer can be read"),
    "gpu.attached": Rule(BLOCKING, "every GPU that is attached answers"),
    "gpu.count": Rule(BLOCKING, "at least as many GPUs as expected"),
    "gpu.surplus": Rule(DEVIATION, "no more GPUs than expected"),
    "gpu.model": Rule(DEVIATION, "the expected product"),
    "gpu.memory": Rule(BLOCKING, "at least the expected memory"),
    "gpu.memory_label": Rule(DEVIATION, "a memory size that the product was sold with"),
    "gpu.compute_capability": Rule(BLOCKING, "at least the expected compute capability"),
    "gpu.record": Rule(DEVIATION, "a hardware record that is possible and agrees with what is there"),
    "gpu.group": Rule(BLOCKING, "a tensor-parallel group of GPUs that exist"),
    "gpu.mixed": Rule(DEVIATION, "one product with one memory size in a tensor-parallel group"),
    "gpu.pcie_width": Rule(DEVIATION, "all lanes of the PCIe link in use"),
    "gpu.pcie_generation": Rule(DEVIATION, "the best PCIe generation while the GPU is busy"),
    "gpu.memory_in_use": Rule(DEVIATION, "no memory used by other programs"),
    "gpu.ecc_errors": Rule(BLOCKING, "no uncorrected memory errors since the driver was loaded"),
    "gpu.ecc_history": Rule(DEVIATION, "no uncorrected memory errors ever"),
    "gpu.ecc_mode": Rule(DEVIATION, "error correction as expected"),
    "gpu.row_remap": Rule(DEVIATION, "no row remapping or page retirement that waits for a reset"),
    "gpu.row_remap_failed": Rule(BLOCKING, "no failed row remapping"),
    "gpu.throttling": Rule(DEVIATION, "no slow-down by heat or power supply"),
    "gpu.persistence": Rule(DEVIATION, "persistence mode as expected"),
    "gpu.mig": Rule(BLOCKING, "MIG mode as expected"),
    "gpu.reset": Rule(BLOCKING, "no GPU that asks for a reset"),
    "gpu.nvlink": Rule(DEVIATION, "every NVLink up"),
    "gpu.xid": Rule(DEVIATION, "no Xid events that a program can cause"),
    "gpu.xid_hardware": Rule(BLOCKING, "no Xid events that mean broken hardware or a GPU that needs a reset"),
    "stack.known": Rule(DEVIATION, "a torch build that is in the compatibility table"),
    "stack.architecture": Rule(BLOCKING, "a torch build with kernels for every GPU"),
    "stack.vllm": Rule(BLOCKING, "GPUs of the compute capability that vLLM needs"),
    "driver.installed": Rule(BLOCKING, "a driver"),
    "driver.loaded": Rule(BLOCKING, "the NVIDIA kernel module is loaded and answers"),
    "driver.mismatch": Rule(BLOCKING, "kernel module and library of one version"),
    "driver.reboot": Rule(DEVIATION, "no restart that waits"),
    "driver.version": Rule(BLOCKING, "a driver version within the expected range"),
    "driver.branch": Rule(DEVIATION, "the expected driver version or branch"),
    "driver.flavour": Rule(DEVIATION, "the expected flavour of the kernel module, open or proprietary"),
    "driver.flavour_required": Rule(BLOCKING, "the flavour of the kernel module that the GPU works with"),
    "driver.gpu_support": Rule(BLOCKING, "a driver branch that supports every GPU"),
    "driver.cuda": Rule(BLOCKING, "a driver that runs the CUDA of the stack"),
    "driver.ptx": Rule(DEVIATION, "a driver that can compile the PTX that a GPU depends on"),
    "driver.held": Rule(DEVIATION, "driver packages that unattended upgrades leave alone"),
    "driver.metapackage": Rule(DEVIATION, "the driver's packages held, not only its metapackage"),
    "driver.fabric_manager": Rule(
        BLOCKING, "a fabric manager of the driver's version where NVSwitches need one"
    ),
    "driver.nouveau": Rule(BLOCKING, "nouveau not loaded"),
    "driver.secure_boot": Rule(BLOCKING, "a kernel module that secure boot lets in"),
    "driver.next_kernel": Rule(DEVIATION, "a driver module for the kernel that starts next"),
}


def broken(rule: str, subject: str, *, expected: Any, found: Any, why: str, remedy: str) -> Finding:
    """A rule is broken: the finding with the rule's severity."""
    return Finding(rule, RULES[rule].severity, subject, expected, found, why, remedy)


def unseen(rule: str, subject: str, *, why: str, remedy: str, expected: Any = None) -> Finding:
    """It could not be seen whether a rule is kept: unknown, as grave as the rule when broken."""
    severity = RULES[rule].severity
    return findings.unknown(rule, subject, expected=expected, why=why, remedy=remedy, severity=severity)


def kept(rule: str, subject: str, *, expected: Any = None, found: Any = None) -> Finding:
    """A rule is kept. Raises KeyError for one that is not in the table."""
    return findings.ok(
        rule, subject, expected=expected, found=found, why=f"As it should be: {RULES[rule].meaning}."
    )

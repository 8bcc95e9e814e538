# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does the stack's torch build run on these GPUs."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Sequence

from ansible_collections.citadel.llm.plugins.module_utils import _compatibility as compatibility
from ansible_collections.citadel.llm.plugins.module_utils._compatibility_table import Stack
from ansible_collections.citadel.llm.plugins.module_utils._findings import Finding
from ansible_collections.citadel.llm.plugins.module_utils._gpu_expected import Expected
from ansible_collections.citadel.llm.plugins.module_utils._gpu_rules import broken, kept, unseen


def stack(info: Dict[str, Any], wanted: Expected) -> Iterable[Finding]:
    """Whether the stack's torch build has kernels for the GPUs: one finding for each kind of GPU."""
    chosen = wanted.stack
    if chosen is None or chosen.cuda is None:
        return
    build = compatibility.stack_wheel(chosen)
    listed = compatibility.kernels(build, wanted.machine)
    if listed is None:
        yield unseen(
            "stack.known",
            f"stack {chosen.name}",
            expected="a torch build in the compatibility table",
            why=f"{build} for {wanted.machine} is not in the table: nobody knows here which GPUs it runs on.",
            remedy="Ask the build itself: python -c 'import torch; print(torch.cuda.get_arch_list())'",
        )
        return
    if not info["gpus"] and info["pci_gpus"] == [] and not wanted.count:
        yield broken(
            "gpu.count",
            f"stack {chosen.name}",
            expected="at least one GPU",
            found=0,
            why="The stack needs a GPU and the PCI bus shows none.",
            remedy="Choose the stack cpu for this host, or fit a GPU.",
        )
    for name, gpus in _kinds(info["gpus"]).items():
        yield from _stack_on(info, chosen, listed, name, gpus, wanted.machine)


def _kinds(gpus: Sequence[Dict[str, Any]]) -> Dict[str, List[Dict[str, Any]]]:
    kinds: Dict[str, List[Dict[str, Any]]] = {}
    for gpu in gpus:
        kinds.setdefault(gpu["name"] or gpu["pci_device_id"] or "unnamed GPU", []).append(gpu)
    return kinds


def _stack_on(
    info: Dict[str, Any],
    chosen: Stack,
    listed: str,
    name: str,
    gpus: Sequence[Dict[str, Any]],
    machine: str,
) -> Iterable[Finding]:
    build = compatibility.stack_wheel(chosen)
    where = f"stack {chosen.name} on {len(gpus)} x {name}"
    architectures = ", ".join(compatibility.split(listed))
    capability = gpus[0]["compute_capability"]
    if capability is None:
        yield unseen(
            "stack.architecture",
            where,
            expected=architectures,
            why="The GPU's compute capability is not known.",
            remedy="Look it up in NVIDIA's list of CUDA GPUs; drivers from 510 on tell it.",
        )
        return
    kernel = "sm_" + capability.replace(".", "")
    advice = compatibility.recommend([capability], info["driver_version"], machine) + "."
    if compatibility.too_low_for_vllm([capability]):
        yield broken(
            "stack.vllm",
            where,
            expected="compute capability 7.0 or higher",
            found=capability,
            why="vLLM has no kernels for GPUs of this age.",
            remedy=advice,
        )
    elif compatibility.runs_on(capability, listed) is None:
        yield broken(
            "stack.architecture",
            where,
            expected=f"kernels for {kernel}",
            found=f"{build}: {architectures}",
            why=(
                f"{build} has no kernels for compute capability {capability}: "
                "every start ends with 'no kernel image is available for execution on the device'."
            ),
            remedy=advice,
        )
    else:
        yield kept(
            "stack.architecture", where, expected=f"kernels for {kernel}", found=f"{build}: {architectures}"
        )

# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Are the GPUs the expected ones, are they sound, and does the stack run on them."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List

from ansible_collections.citadel.llm.plugins.module_utils import _compatibility as compatibility
from ansible_collections.citadel.llm.plugins.module_utils import _gpu_health as health
from ansible_collections.citadel.llm.plugins.module_utils import _gpu_products as products
from ansible_collections.citadel.llm.plugins.module_utils._findings import Finding
from ansible_collections.citadel.llm.plugins.module_utils._gpu_expected import Expected
from ansible_collections.citadel.llm.plugins.module_utils._gpu_health import subject
from ansible_collections.citadel.llm.plugins.module_utils._gpu_readable import readable
from ansible_collections.citadel.llm.plugins.module_utils._gpu_records import groups, records, sizes_sold
from ansible_collections.citadel.llm.plugins.module_utils._gpu_rules import broken, kept, unseen
from ansible_collections.citadel.llm.plugins.module_utils._gpu_stack import stack

HOST = "GPUs"


def count(info: Dict[str, Any], wanted: Expected) -> List[Finding]:
    """The number of GPUs; from the PCI bus when nvidia-smi does not answer."""
    if wanted.count is None:
        nothing = info["error_code"] == "command_missing" and info["pci_gpus"] == []
        return [kept("gpu.count", HOST, found=0)] if nothing else []
    if info["error_code"] and info["pci_gpus"] is None:
        return [
            unseen(
                "gpu.count",
                HOST,
                expected=wanted.count,
                why="Neither nvidia-smi nor the PCI bus could be asked.",
                remedy="Put nvidia-smi right first.",
            )
        ]
    found = len(info["gpus"])
    if found == wanted.count:
        return [kept("gpu.count", HOST, expected=wanted.count, found=found)]
    if found > wanted.count:
        return [
            broken(
                "gpu.surplus",
                HOST,
                expected=wanted.count,
                found=found,
                why="There are more GPUs than were expected; the engine uses only those that it is told.",
                remedy="Correct the expected number in the inventory.",
            )
        ]
    return [
        broken(
            "gpu.count",
            HOST,
            expected=wanted.count,
            found=found,
            why=f"{wanted.count - found} GPUs are missing.",
            remedy="See lspci -d 10de: and the kernel log; check seat and power, or correct the inventory.",
        )
    ]


def identity(gpu: Dict[str, Any], wanted: Expected) -> List[Finding]:
    """Product, memory and compute capability of one GPU."""
    return [
        *_model(gpu, wanted),
        *_memory(gpu, wanted),
        *_label(gpu),
        *_capability(gpu, wanted),
    ]


def _model(gpu: Dict[str, Any], wanted: Expected) -> Iterable[Finding]:
    if wanted.name is None:
        return
    if gpu["name"] is None:
        yield unseen(
            "gpu.model",
            subject(gpu),
            expected=wanted.name,
            why="The GPU's name is not known without a working driver.",
            remedy="Put nvidia-smi right first.",
        )
    elif products.same_product(wanted.name, gpu["name"]):
        yield kept("gpu.model", subject(gpu), expected=wanted.name, found=gpu["name"])
    else:
        yield broken(
            "gpu.model",
            subject(gpu),
            expected=wanted.name,
            found=gpu["name"],
            why="It is another product; whether it suits is said by memory, compute capability and stack.",
            remedy="Correct the expected name in the inventory, or fit the expected GPU.",
        )


def _memory(gpu: Dict[str, Any], wanted: Expected) -> Iterable[Finding]:
    least = wanted.memory_mib
    said = f"{least} MiB" if least is not None else ""
    if least is None and wanted.memory_gb is not None:
        least = int(wanted.memory_gb * 1024 * products.LEAST_OF_LABEL)
        said = f"{wanted.memory_gb:g} GB"
    if least is None:
        return
    total = gpu["memory_total_mib"]
    if total is None:
        yield unseen(
            "gpu.memory",
            subject(gpu),
            expected=said,
            why="The driver does not tell the GPU's memory.",
            remedy="Put nvidia-smi right first; on systems with shared memory, do not expect a size.",
        )
    elif total >= least:
        yield kept("gpu.memory", subject(gpu), expected=said, found=f"{total} MiB")
    else:
        yield broken(
            "gpu.memory",
            subject(gpu),
            expected=said,
            found=f"{total} MiB",
            why="The GPU has less memory than the models were planned for.",
            remedy="Plan with the memory that is there (citadel.llm.model_fit), or fit larger GPUs.",
        )


def _label(gpu: Dict[str, Any]) -> Iterable[Finding]:
    name, total = gpu["name"], gpu["memory_total_mib"]
    if not name or total is None or products.memory_fits(name, total) is not False:
        return
    yield broken(
        "gpu.memory_label",
        subject(gpu),
        expected=sizes_sold(name),
        found=f"{total} MiB",
        why=f"No {name} was sold with this memory: it is not what it says, or it is modified.",
        remedy="Read the label on the card, and compare the PCI device number with the PCI ID Repository.",
    )


def _capability(gpu: Dict[str, Any], wanted: Expected) -> Iterable[Finding]:
    least, found = wanted.compute_capability, gpu["compute_capability"]
    if least is None:
        return
    if found is None:
        yield unseen(
            "gpu.compute_capability",
            subject(gpu),
            expected=least,
            why="The GPU is not in the product table and the driver does not tell its compute capability.",
            remedy="Look it up in NVIDIA's list of CUDA GPUs; drivers from 510 on tell it.",
        )
    elif compatibility.at_least(found, least):
        yield kept("gpu.compute_capability", subject(gpu), expected=least, found=found)
    else:
        yield broken(
            "gpu.compute_capability",
            subject(gpu),
            expected=least,
            found=found,
            why="The GPU is older than what is needed (bfloat16 needs 8.0, FP8 needs 8.9).",
            remedy="Use --dtype half and a quantisation that the GPU knows, or fit a newer GPU.",
        )


def check(info: Dict[str, Any], wanted: Expected) -> List[Finding]:
    """Every finding about the GPUs."""
    found = [*readable(info), *count(info, wanted)]
    modes = {"persistence": wanted.persistence, "ecc": wanted.ecc, "mig": wanted.mig}
    for gpu in info["gpus"]:
        found += identity(gpu, wanted)
        found += health.link(gpu)
        found += health.memory_errors(gpu)
        found += health.speed(gpu)
        found += health.modes(gpu, modes)
        found += health.reset(gpu)
        found += health.links(gpu)
        found += health.in_use(gpu, wanted.allowed_processes, wanted.free_mib)
    found += groups(info, wanted)
    found += records(info, wanted)
    found += stack(info, wanted)
    found += health.xid_events(info)
    return found

# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Do the GPUs agree with what is written about them, and with each other."""

from __future__ import annotations

from typing import Any, Dict, Iterable

from ansible_collections.citadel.llm.plugins.module_utils import _gpu_products as products
from ansible_collections.citadel.llm.plugins.module_utils._findings import Finding
from ansible_collections.citadel.llm.plugins.module_utils._gpu_expected import Expected, Record
from ansible_collections.citadel.llm.plugins.module_utils._gpu_rules import broken, kept


def groups(info: Dict[str, Any], wanted: Expected) -> Iterable[Finding]:
    """Tensor-parallel groups: every GPU exists, and all of them are alike."""
    by_index = {gpu["index"]: gpu for gpu in info["gpus"]}
    for group in wanted.tensor_parallel:
        name = "tensor-parallel group " + ",".join(str(index) for index in group)
        missing = [index for index in group if index not in by_index]
        if missing:
            yield broken(
                "gpu.group",
                name,
                expected=list(group),
                found=sorted(by_index),
                why=f"There is no GPU {', '.join(str(index) for index in missing)}.",
                remedy="Correct the group, or the tensor parallel size, in the inventory.",
            )
            continue
        kinds = {_kind(by_index[index]) for index in group}
        if len(kinds) == 1:
            yield kept("gpu.mixed", name, expected="one kind", found=kinds.pop())
            continue
        yield broken(
            "gpu.mixed",
            name,
            expected="one kind",
            found=sorted(kinds),
            why="All work as slowly as the slowest and hold as much as the smallest, and kernels may differ.",
            remedy="Group like with like, or use pipeline parallelism between unlike GPUs.",
        )


def _kind(gpu: Dict[str, Any]) -> str:
    memory = f"{gpu['memory_total_mib'] / 1024:.0f} GiB" if gpu["memory_total_mib"] else "memory unknown"
    return f"{gpu['name'] or gpu['pci_device_id'] or 'unnamed'}, {memory}"


def records(info: Dict[str, Any], wanted: Expected) -> Iterable[Finding]:
    """Hardware records: possible in themselves, and in agreement with what is there."""
    for record in wanted.records:
        said = _record_text(record)
        sizes = products.memory_sizes(record.name) if record.name else ()
        if record.name and record.memory_gb is not None and sizes and record.memory_gb not in sizes:
            yield broken(
                "gpu.record",
                record.source,
                expected=f"{record.name} with {sizes_sold(record.name)}",
                found=said,
                why=f"No {record.name} was sold with {record.memory_gb:g} GB: the record cannot be right.",
                remedy="Correct the record" + _actual(info),
            )
        elif info["error_code"] is None and not _agrees(info, record):
            yield broken(
                "gpu.record",
                record.source,
                expected=said,
                found=_inventory(info),
                why="The record does not agree with the GPUs that are there.",
                remedy="Correct the record" + _actual(info),
            )
        elif info["error_code"] is None:
            yield kept("gpu.record", record.source, expected=said, found=_inventory(info))


def _record_text(record: Record) -> str:
    number = f"{record.count} x " if record.count is not None else ""
    memory = f", {record.memory_gb:g} GB" if record.memory_gb is not None else ""
    return f"{number}{record.name or 'GPU'}{memory}"


def _inventory(info: Dict[str, Any]) -> str:
    kinds = [_kind(gpu) for gpu in info["gpus"]]
    return "; ".join(f"{kinds.count(kind)} x {kind}" for kind in sorted(set(kinds))) or "no GPU"


def _actual(info: Dict[str, Any]) -> str:
    return f": there are {_inventory(info)}." if info["error_code"] is None else "."


def _agrees(info: Dict[str, Any], record: Record) -> bool:
    gpus = info["gpus"]
    if record.count is not None and record.count != len(gpus):
        return False
    for gpu in gpus:
        if record.name and gpu["name"] and not products.same_product(record.name, gpu["name"]):
            return False
        total = gpu["memory_total_mib"]
        if record.memory_gb is not None and total is not None:
            least, most = products.LEAST_OF_LABEL, products.MOST_OF_LABEL
            if not record.memory_gb * least <= total / 1024 <= record.memory_gb * most:
                return False
    return True


def sizes_sold(name: str) -> str:
    """The memory sizes of a product, in words."""
    return " or ".join(f"{size:g} GB" for size in products.memory_sizes(name))

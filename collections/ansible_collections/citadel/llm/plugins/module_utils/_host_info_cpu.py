# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processor and memory of a host, from /proc and /sys."""

from __future__ import annotations

import re
import struct
from typing import Any, Dict, Iterator, List, Optional, Tuple

from ansible_collections.citadel.llm.plugins.module_utils._host_info_tree import Tree

# What CPU kernels of inference engines ask for.
FLAGS = (
    "avx",
    "avx2",
    "avx512f",
    "avx512_bf16",
    "avx512_fp16",
    "avx512_vnni",
    "avx_vnni",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
    "f16c",
    "asimd",
    "bf16",
    "i8mm",
    "sve",
    "sve2",
)
ARM_PARTS = {
    ("0x41", "0xd0c"): "Arm Neoverse N1",
    ("0x41", "0xd40"): "Arm Neoverse V1",
    ("0x41", "0xd49"): "Arm Neoverse N2",
    ("0x41", "0xd4f"): "Arm Neoverse V2",
    ("0x41", "0xd8e"): "Arm Neoverse N3",
    ("0x41", "0xd84"): "Arm Neoverse V3",
    ("0xc0", "0xac3"): "Ampere-1",
}
MEMORY_TYPES = {0x18: "DDR3", 0x1A: "DDR4", 0x1E: "LPDDR4", 0x22: "DDR5", 0x23: "LPDDR5"}


def cpu(tree: Tree) -> Dict[str, Any]:
    """``model, vendor, sockets, cores, threads, numa_nodes, flags, governor``; what is not told is None."""
    blocks = _cpu_blocks(tree.text("/proc/cpuinfo") or "")
    first = blocks[0] if blocks else {}
    present = set((first.get("flags") or first.get("Features") or "").split())
    sockets, cores = _topology(tree, blocks)
    return {
        "model": _cpu_model(tree, first),
        "vendor": first.get("vendor_id") or first.get("CPU implementer"),
        "sockets": sockets,
        "cores": cores,
        "threads": len(blocks) or None,
        "numa_nodes": _numa_nodes(tree),
        "flags": [flag for flag in FLAGS if flag in present],
        "governor": tree.text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
    }


def _cpu_blocks(text: str) -> List[Dict[str, str]]:
    blocks = []
    for part in re.split(r"\n\s*\n", text):
        pairs = (line.split(":", 1) for line in part.splitlines() if ":" in line)
        block = {key.strip(): value.strip() for key, value in pairs}
        if "processor" in block:
            blocks.append(block)
    return blocks


def _cpu_model(tree: Tree, first: Dict[str, str]) -> Optional[str]:
    name = first.get("model name") or first.get("cpu model")
    if name:
        return re.sub(r"\s+", " ", name)
    part = (first.get("CPU implementer", ""), first.get("CPU part", ""))
    return ARM_PARTS.get(part) or tree.text("/sys/firmware/devicetree/base/model")


def _topology(tree: Tree, blocks: List[Dict[str, str]]) -> Tuple[Optional[int], Optional[int]]:
    pairs = set()
    for block in blocks:
        base = "/sys/devices/system/cpu/cpu%s/topology" % block["processor"]
        package = block.get("physical id") or tree.text(base + "/physical_package_id")
        core = block.get("core id") or tree.text(base + "/core_id")
        if package is None or core is None:
            return None, len(blocks) or None
        pairs.add((package, core))
    if not pairs:
        return None, None
    return len({package for package, _core in pairs}), len(pairs)


def _numa_nodes(tree: Tree) -> Optional[int]:
    names = [name for name in tree.names("/sys/devices/system/node") if re.fullmatch(r"node\d+", name)]
    return len(names) or None


def memory(tree: Tree) -> Dict[str, Any]:
    """Sizes in MiB, and what the firmware and the error counters tell of the modules; else None."""
    info = _meminfo(tree)
    modules = _dmi_memory(tree.data("/sys/firmware/dmi/tables/DMI") or b"")
    edac = _edac(tree)
    return {
        "total_mib": info.get("MemTotal"),
        "available_mib": info.get("MemAvailable"),
        "swap_total_mib": info.get("SwapTotal"),
        "swap_free_mib": info.get("SwapFree"),
        "installed_mib": modules["installed_mib"],
        "type": modules["type"],
        "ecc": modules["ecc"] if modules["ecc"] is not None else (True if edac else None),
        "ecc_errors": edac,
    }


def huge_pages(tree: Tree) -> Dict[str, Any]:
    """``total, free, size_kib`` of the reserved pages, and the mode of transparent ones."""
    counts = dict.fromkeys(("HugePages_Total", "HugePages_Free", "Hugepagesize"))  # type: Dict[str, Optional[int]]
    for line in tree.lines("/proc/meminfo"):
        name, _colon, rest = line.partition(":")
        if name in counts and rest.split():
            counts[name] = _integer(rest.split()[0])
    chosen = re.search(r"\[(\w+)\]", tree.text("/sys/kernel/mm/transparent_hugepage/enabled") or "")
    return {
        "total": counts["HugePages_Total"],
        "free": counts["HugePages_Free"],
        "size_kib": counts["Hugepagesize"],
        "transparent": chosen.group(1) if chosen else None,
    }


def _meminfo(tree: Tree) -> Dict[str, int]:
    """The sizes of /proc/meminfo in MiB."""
    result = {}
    for line in tree.lines("/proc/meminfo"):
        match = re.match(r"(\w+):\s+(\d+) kB", line)
        if match:
            result[match.group(1)] = int(match.group(2)) // 1024
    return result


def _integer(text: str) -> Optional[int]:
    return int(text) if text.isdigit() else None


def _edac(tree: Tree) -> Optional[Dict[str, int]]:
    base = "/sys/devices/system/edac/mc"
    controllers = [name for name in tree.names(base) if re.fullmatch(r"mc\d+", name)]
    if not controllers:
        return None

    def total(counter: str) -> int:
        return sum(tree.number("%s/%s/%s" % (base, name, counter)) or 0 for name in controllers)

    return {"correctable": total("ce_count"), "uncorrectable": total("ue_count")}


def _dmi_structures(table: bytes) -> Iterator[Tuple[int, bytes]]:
    """The (type, formatted area) pairs of an SMBIOS table; ends at the first damaged one."""
    offset = 0
    while offset + 4 <= len(table):
        kind, length = table[offset], table[offset + 1]
        if length < 4:
            return
        yield kind, table[offset : offset + length]
        end = table.find(b"\0\0", offset + length)
        if end < 0 or kind == 127:
            return
        offset = end + 2


def _dmi_memory(table: bytes) -> Dict[str, Any]:
    """Installed size, kind and error correction, from SMBIOS structures 16 (array) and 17 (module)."""
    sizes, kinds, corrections = [], [], []
    for kind, area in _dmi_structures(table):
        if kind == 16 and len(area) >= 7 and area[5] == 3:  # system memory, not video or cache
            corrections.append(area[6])
        if kind == 17 and len(area) >= 0x13:
            size = _dmi_module_mib(area)
            if size:
                sizes.append(size)
                kinds.append(MEMORY_TYPES.get(area[0x12]))
    known = [value for value in corrections if value not in (1, 2)]  # 1 is other, 2 is unknown
    return {
        "installed_mib": sum(sizes) or None,
        "type": kinds[0] if len(set(kinds)) == 1 else None,
        "ecc": any(value in (5, 6) for value in known) if known else None,
    }


def _dmi_module_mib(area: bytes) -> int:
    (size,) = struct.unpack_from("<H", area, 0x0C)
    if size in (0, 0xFFFF):  # empty, unknown
        return 0
    if size == 0x7FFF and len(area) >= 0x20:
        return int(struct.unpack_from("<I", area, 0x1C)[0] & 0x7FFFFFFF)
    return (size & 0x7FFF) // 1024 if size & 0x8000 else int(size)

# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One ``gpu`` element of nvidia-smi's XML as a dictionary, for every generation of the schema.

Numbers are numbers, in the unit that the key names; what the driver does not tell is None.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Optional

from ansible_collections.citadel.llm.plugins.module_utils import _gpu_products as products
from ansible_collections.citadel.llm.plugins.module_utils._gpu_values import (
    absent,
    enabled,
    integer,
    mebibytes,
    number,
    text,
    watts,
)
from ansible_collections.citadel.llm.plugins.module_utils._gpu_xml import Node

# Reasons that say how the GPU is set or that it idles, not that anything slows it down.
HARMLESS_REASONS = frozenset(
    {"gpu_idle", "applications_clocks_setting", "sync_boost", "display_clocks_setting"}
)


def _pcie(gpu: Node) -> Dict[str, Any]:
    link = gpu.find("pci", "pci_gpu_link_info")
    return {
        "generation": integer(link, "pcie_gen", "current_link_gen"),
        "generation_max": integer(link, "pcie_gen", "max_link_gen"),
        "generation_device_max": integer(link, "pcie_gen", "max_device_link_gen"),
        "generation_host_max": integer(link, "pcie_gen", "max_host_link_gen") or None,
        "width": integer(link, "link_widths", "current_link_width"),
        "width_max": integer(link, "link_widths", "max_link_width"),
        "replays": integer(gpu, "pci", "replay_counter"),
    }


def _power(gpu: Node) -> Dict[str, Any]:
    section = gpu.first("gpu_power_readings", "power_readings")
    module = gpu.find("module_power_readings")

    ceiling = None if section is None else section.find("gpu_ceiling_power_limit")

    def first(node: Optional[Node], *tags: str) -> Optional[float]:
        """The first of these that has a value: the driver leaves some empty and fills others."""
        return next((value for value in (watts(node, tag) for tag in tags) if value is not None), None)

    limit = first(section, "current_power_limit", "power_limit")
    return {
        "power_limit_w": first(ceiling, "current_power_limit") if limit is None else limit,
        "power_draw_w": first(section, "instant_power_draw", "power_draw", "average_power_draw"),
        "power": {
            "draw_average_w": first(section, "average_power_draw"),
            "limit_requested_w": first(section, "requested_power_limit"),
            "limit_enforced_w": first(section, "enforced_power_limit", "current_power_limit"),
            "limit_default_w": first(section, "default_power_limit"),
            "limit_min_w": first(section, "min_power_limit"),
            "limit_max_w": first(section, "max_power_limit"),
            "module_draw_w": first(module, "instant_power_draw", "power_draw", "average_power_draw"),
            "module_limit_w": first(module, "current_power_limit"),
        },
    }


def _reasons(gpu: Node) -> Optional[List[str]]:
    section = gpu.first("clocks_event_reasons", "clocks_throttle_reasons")
    if section is None or not section.children:
        return None
    prefix = re.compile(r"^clocks_(?:throttle|event)_reasons?_")
    states = {prefix.sub("", child.tag): enabled(child) for child in section.children}
    if all(state is None for state in states.values()):
        return None
    return [name for name, state in states.items() if state]


def _sum(node: Optional[Node], *tags: str) -> Optional[int]:
    values = [integer(node, tag) for tag in tags]
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _ecc_counts(errors: Optional[Node], scope: str) -> Dict[str, Optional[int]]:
    node = None if errors is None else errors.find(scope)
    if node is not None and node.find("single_bit") is not None:
        return {
            "corrected": integer(node, "single_bit", "total"),
            "uncorrected": integer(node, "double_bit", "total"),
            "sram_corrected": None,
            "sram_uncorrected": None,
            "dram_corrected": integer(node, "single_bit", "device_memory"),
            "dram_uncorrected": integer(node, "double_bit", "device_memory"),
        }
    sram_uncorrected = _sum(
        node, "sram_uncorrectable", "sram_uncorrectable_parity", "sram_uncorrectable_secded"
    )
    return {
        "corrected": _sum(node, "sram_correctable", "dram_correctable"),
        "uncorrected": _sum(
            node,
            "sram_uncorrectable",
            "sram_uncorrectable_parity",
            "sram_uncorrectable_secded",
            "dram_uncorrectable",
        ),
        "sram_corrected": integer(node, "sram_correctable"),
        "sram_uncorrected": sram_uncorrected,
        "dram_corrected": integer(node, "dram_correctable"),
        "dram_uncorrected": integer(node, "dram_uncorrectable"),
    }


def _ecc(gpu: Node) -> Dict[str, Any]:
    errors = gpu.find("ecc_errors")
    return {
        "ecc_enabled": enabled(gpu, "ecc_mode", "current_ecc"),
        "ecc_pending": enabled(gpu, "ecc_mode", "pending_ecc"),
        "ecc_errors": {
            "volatile": _ecc_counts(errors, "volatile"),
            "aggregate": _ecc_counts(errors, "aggregate"),
            "sram_threshold_exceeded": enabled(errors, "aggregate", "sram_threshold_exceeded"),
            "channel_repair_pending": enabled(errors, "channel_repair_pending"),
            "tpc_repair_pending": enabled(errors, "tpc_repair_pending"),
            "unrepairable_memory": enabled(errors, "unrepairable_memory"),
        },
    }


def _memory_health(gpu: Node) -> Dict[str, Any]:
    rows = gpu.find("remapped_rows")
    pages = gpu.find("retired_pages")
    return {
        "row_remap": {
            "corrected": integer(rows, "remapped_row_corr"),
            "uncorrected": integer(rows, "remapped_row_unc"),
            "pending": enabled(rows, "remapped_row_pending"),
            "failed": enabled(rows, "remapped_row_failure"),
        },
        "retired_pages": {
            "single_bit": integer(pages, "multiple_single_bit_retirement", "retired_count"),
            "double_bit": integer(pages, "double_bit_retirement", "retired_count"),
            "pending": enabled(
                None if pages is None else pages.first("pending_retirement", "pending_blacklist")
            ),
        },
    }


def _mig_device(node: Node) -> Dict[str, Any]:
    attributes = node.find("device_attributes", "shared")
    return {
        "index": integer(node, "index"),
        "uuid": text(node, "uuid"),
        "gpu_instance_id": integer(node, "gpu_instance_id"),
        "compute_instance_id": integer(node, "compute_instance_id"),
        "multiprocessors": integer(attributes, "multiprocessor_count"),
        "memory_total_mib": mebibytes(node, "fb_memory_usage", "total"),
        "memory_used_mib": mebibytes(node, "fb_memory_usage", "used"),
    }


def _mig(gpu: Node) -> Dict[str, Any]:
    devices = gpu.find("mig_devices")
    return {
        "mig_enabled": enabled(gpu, "mig_mode", "current_mig"),
        "mig_pending": enabled(gpu, "mig_mode", "pending_mig"),
        "mig_devices": [] if devices is None else [_mig_device(node) for node in devices.all("mig_device")],
    }


def _process(node: Node) -> Dict[str, Any]:
    return {
        "pid": integer(node, "pid"),
        "name": text(node, "process_name"),
        "type": text(node, "type"),
        "memory_mib": mebibytes(node, "used_memory"),
        "gpu_instance_id": integer(node, "gpu_instance_id"),
        "compute_instance_id": integer(node, "compute_instance_id"),
    }


def _processes(gpu: Node) -> Optional[List[Dict[str, Any]]]:
    """The processes, in the order of the document; None when the driver cannot tell."""
    section = gpu.first("processes", "compute_processes")
    if section is None:
        return None
    found = [_process(node) for node in section.all("process_info")]
    if not found and section.text.strip() and section.text.strip().lower() != "none":
        return None
    return found


def _fabric(gpu: Node) -> Dict[str, Any]:
    fabric = gpu.find("fabric")
    cluster = text(fabric, "clusterUuid") or ""
    return {
        "state": text(fabric, "state"),
        "status": text(fabric, "status"),
        "health": text(fabric, "health", "summary") or text(fabric, "health", "bandwidth"),
        "cluster_uuid": cluster if re.search("[1-9a-f]", cluster.lower()) else None,
    }


def _clocks(gpu: Node) -> Dict[str, Any]:
    return {
        "graphics_mhz": integer(gpu, "clocks", "graphics_clock"),
        "sm_mhz": integer(gpu, "clocks", "sm_clock"),
        "memory_mhz": integer(gpu, "clocks", "mem_clock"),
        "graphics_max_mhz": integer(gpu, "max_clocks", "graphics_clock"),
        "sm_max_mhz": integer(gpu, "max_clocks", "sm_clock"),
        "memory_max_mhz": integer(gpu, "max_clocks", "mem_clock"),
    }


def _temperatures(gpu: Node) -> Dict[str, Any]:
    section = gpu.find("temperature")
    return {
        "temperature_c": integer(section, "gpu_temp"),
        "temperature_memory_c": integer(section, "memory_temp"),
        "temperature_slowdown_c": integer(section, "gpu_temp_slow_threshold"),
        "temperature_shutdown_c": integer(section, "gpu_temp_max_threshold"),
        "temperature_margin_c": integer(section, "gpu_temp_tlimit"),
    }


def _nvlink(gpu: Node) -> Optional[Dict[str, Any]]:
    """The links' number and how many are up, where the document has them (newer drivers, not all)."""
    section = gpu.first("nvlink", "nvlinks", "nvlink_status")
    if section is None or not section.children:
        return None
    states = [enabled(node, "state") or bool(number(node, "speed")) for node in section.children]
    return {"links": len(states), "active": sum(states)}


def _device_id(gpu: Node) -> Optional[str]:
    """``0x2d04`` from ``2D0410DE`` (device and vendor in one number)."""
    value = text(gpu, "pci", "pci_device_id")
    match = re.match(r"^(?:0x)?([0-9a-fA-F]{4})10[dD][eE]$", value or "")
    return None if match is None else "0x" + match.group(1).lower()


def _text_name(gpu: Node) -> Optional[str]:
    node = gpu.first("product_name", "prod_name")
    return None if node is None or absent(node.text) else node.text


def _identity(gpu: Node) -> Dict[str, Any]:
    name = _text_name(gpu)
    device = _device_id(gpu)
    told = text(gpu, "product_architecture")
    product = products.identify(name, device, told)
    return {
        "name": name,
        "brand": text(gpu, "product_brand"),
        "uuid": text(gpu, "uuid"),
        "serial": text(gpu, "serial"),
        "pci_bus_id": text(gpu, "pci", "pci_bus_id") or gpu.attributes.get("id"),
        "pci_device_id": device,
        "minor_number": integer(gpu, "minor_number"),
        "architecture": told or product.architecture,
        "compute_capability": product.compute_capability,
        "compute_capability_source": product.source,
        "vbios_version": text(gpu, "vbios_version"),
    }


def _mode(gpu: Node) -> Dict[str, Any]:
    action = gpu.find("gpu_recovery_action")
    return {
        "persistence_enabled": enabled(gpu, "persistence_mode"),
        "display_active": enabled(gpu, "display_active"),
        "compute_mode": text(gpu, "compute_mode"),
        "driver_model": text(gpu, "driver_model", "current_dm"),
        "virtualization": text(gpu, "gpu_virtualization_mode", "virtualization_mode"),
        "performance_state": text(gpu, "performance_state"),
        "reset_required": enabled(gpu, "gpu_reset_status", "reset_required"),
        "recovery_action": None if action is None or absent(action.text) else action.text,
        "gsp_firmware_version": text(gpu, "gsp_firmware_version"),
    }


def _is_lost(gpu: Node) -> bool:
    """Whether any value is that the GPU no longer answers; those that were read before may still be there."""
    return "gpu is lost" in gpu.text.lower() or any(_is_lost(child) for child in gpu.children)


def gpu_from_xml(gpu: Node, index: int) -> Dict[str, Any]:
    """Everything that one ``gpu`` element tells; ``index`` is its place, as nvidia-smi counts."""
    memory = gpu.first("fb_memory_usage", "memory_usage")
    reasons = _reasons(gpu)
    slowing = None if reasons is None else [reason for reason in reasons if reason not in HARMLESS_REASONS]
    result: Dict[str, Any] = {"index": index, "lost": _is_lost(gpu)}
    result.update(_identity(gpu))
    result.update(
        {
            "memory_total_mib": mebibytes(memory, "total"),
            "memory_used_mib": mebibytes(memory, "used"),
            "memory_free_mib": mebibytes(memory, "free"),
            "memory_reserved_mib": mebibytes(memory, "reserved"),
            "utilization_percent": integer(gpu, "utilization", "gpu_util"),
            "fan_percent": integer(gpu, "fan_speed"),
            "pcie": _pcie(gpu),
            "clocks": _clocks(gpu),
            "clock_reasons": reasons,
            "throttle_reasons": slowing,
            "fabric": _fabric(gpu),
            "nvlink": _nvlink(gpu),
            "processes": _processes(gpu),
        }
    )
    for part in (_temperatures, _power, _ecc, _memory_health, _mig, _mode):
        result.update(part(gpu))
    return result

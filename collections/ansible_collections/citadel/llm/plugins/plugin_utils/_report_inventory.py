# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory of a host's hardware for a report, out of the facts that the preflight returned."""

from __future__ import annotations

from typing import Any

# What differs from look to look, and is no change of the host.
VOLATILE = frozenset({"available_percent", "memory_used_mib", "latency_ms", "link"})


def inventory(facts: dict[str, Any]) -> dict[str, Any]:
    """``host``, ``gpus``, ``driver``, ``models``, ``disks``, ``filesystems``, ``account`` and ``endpoints``.

    A part that was not looked at is missing; a value that could not be seen is None.
    """
    result: dict[str, Any] = {}
    if facts.get("host"):
        result["host"] = _host(facts["host"])
    if facts.get("gpu"):
        result["gpus"] = [_gpu(one) for one in facts["gpu"]["gpus"]]
        result["driver"] = {
            "version": facts["gpu"]["driver_version"],
            "cuda_version": facts["gpu"].get("cuda_version"),
            "flavour": facts["gpu"].get("kernel_module_flavour"),
        }
    if facts.get("models"):
        names = ("name", "max_model_len", "kv_tokens", "max_context", "max_concurrency")
        result["models"] = [{name: one.get(name) for name in names} for one in facts["models"]]
    if facts.get("storage"):
        result["disks"] = [_disk(one) for one in facts["storage"]["devices"]]
        result["filesystems"] = [_filesystem(one) for one in facts["storage"]["filesystems"]]
    if facts.get("account"):
        fields = ("user", "exists", "uid", "gid", "group", "groups", "home", "shell")
        result["account"] = {name: facts["account"].get(name) for name in fields}
    if facts.get("endpoints") is not None:
        result["endpoints"] = [_endpoint(one) for one in facts["endpoints"]]
    return result


def _host(host: dict[str, Any]) -> dict[str, Any]:
    memory, machine, virtual = host["memory"], host["machine"], host["virtualization"]
    total = memory["total_mib"]
    product = " ".join(text for text in (machine.get("vendor"), machine.get("product")) if text)
    addresses = [one["address"] for one in host["network"]["addresses"] or [] if one["scope"] == "global"]
    return {
        "hostname": host["network"]["hostname"],
        "addresses": addresses,
        "machine": product or None,
        "virtualization": virtual["container"] or virtual["type"],
        "os": host["os"]["name"],
        "kernel": host["os"]["kernel"],
        "architecture": host["os"]["architecture"],
        "python": host["python"]["version"],
        "cpu": host["cpu"]["model"],
        "cores": host["cpu"]["cores"],
        "threads": host["cpu"]["threads"],
        "memory_gib": None if total is None else round(total / 1024),
        "memory_type": memory.get("type"),
        "memory_ecc": memory.get("ecc"),
    }


def _gpu(gpu: dict[str, Any]) -> dict[str, Any]:
    pcie = gpu["pcie"]
    return {
        "index": gpu["index"],
        "name": gpu["name"],
        "uuid": gpu["uuid"],
        "pci_bus_id": gpu["pci_bus_id"],
        "architecture": gpu["architecture"],
        "compute_capability": gpu["compute_capability"],
        "memory_total_mib": gpu["memory_total_mib"],
        "memory_used_mib": gpu["memory_used_mib"],
        "power_limit_w": gpu["power_limit_w"],
        "pcie_generation_max": pcie["generation_max"],
        "pcie_width_max": pcie["width_max"],
        "link": _link(pcie),
        "ecc_enabled": gpu["ecc_enabled"],
        "mig_enabled": gpu["mig_enabled"],
    }


def _link(pcie: dict[str, Any]) -> str | None:
    if pcie["width"] is None:
        return None
    return "generation %s of %s, %s of %s lanes" % tuple(
        "?" if pcie[name] is None else pcie[name]
        for name in ("generation", "generation_max", "width", "width_max")
    )


def _disk(disk: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": (disk.get("aliases") or [disk["name"]])[0],
        "size_mib": disk["size_mib"],
        "device_class": disk["device_class"],
        "model": disk.get("model"),
        "serial": disk.get("serial"),
    }


def _filesystem(one: dict[str, Any]) -> dict[str, Any]:
    names = (
        "path",
        "source",
        "fstype",
        "device_class",
        "state",
        "size_mib",
        "available_percent",
        "read_only",
    )
    return {name: one.get(name) for name in names}


def _endpoint(one: dict[str, Any]) -> dict[str, Any]:
    names = ("name", "host", "port", "protocol", "state", "latency_ms")
    return {name: one.get(name) for name in names}


KEYS = {"gpus": ("uuid", "pci_bus_id"), "disks": ("serial", "name"), "filesystems": ("path",)}


def flat(found: dict[str, Any]) -> dict[str, Any]:
    """The lasting values of an inventory by a name for people: ``{"filesystems /srv fstype": "ext4"}``.

    Things of a list are named by what stays the same when others come or go.
    """
    result: dict[str, Any] = {}
    for part, value in found.items():
        if isinstance(value, dict):
            result.update(_values(part, value))
            continue
        for one in value:
            result.update(_values("%s %s" % (part, _key(part, one)), one))
    return result


def _key(part: str, one: dict[str, Any]) -> str:
    names: list[str] = [*KEYS.get(part, ()), "name", "index"]
    return str(next((one[name] for name in names if one.get(name) not in (None, "")), "?"))


def _values(prefix: str, values: dict[str, Any]) -> dict[str, Any]:
    return {
        "%s %s" % (prefix, name): value
        for name, value in values.items()
        if name not in VOLATILE and value is not None
    }

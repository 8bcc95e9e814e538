# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NVIDIA's devices on the PCI bus, as the kernel sees them: there without any driver."""

from __future__ import annotations

import os
import re
from typing import Any, Dict, List, Optional

from ansible_collections.citadel.llm.plugins.module_utils import _gpu_products as products

NVIDIA = "0x10de"
_GENERATIONS = {
    "2.5": 1,
    "5.0": 2,
    "5": 2,
    "8.0": 3,
    "8": 3,
    "16.0": 4,
    "16": 4,
    "32.0": 5,
    "32": 5,
    "64.0": 6,
    "64": 6,
}
_NAMES = ("usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids")


def read(root: str, *parts: str) -> Optional[str]:
    """A small file below ``root`` as stripped text, or None when it cannot be read."""
    try:
        with open(os.path.join(root, *parts), encoding="utf-8", errors="replace") as stream:
            return stream.read(1 << 16).strip()
    except OSError:
        return None


def _generation(speed: Optional[str]) -> Optional[int]:
    match = re.match(r"^([0-9.]+) ?GT/s", speed or "")
    return _GENERATIONS.get(match.group(1)) if match else None


def _width(text: Optional[str]) -> Optional[int]:
    return int(text) if text and text.isdigit() and 0 < int(text) <= 32 else None


def _names(root: str, wanted: List[str]) -> Dict[str, str]:
    """Names of NVIDIA's device numbers from the host's copy of the PCI ID Repository, where it has one."""
    for path in _NAMES:
        try:
            with open(os.path.join(root, path), encoding="utf-8", errors="replace") as stream:
                return _names_in(stream.read(1 << 23), wanted)
        except OSError:
            continue
    return {}


def _names_in(text: str, wanted: List[str]) -> Dict[str, str]:
    text = "\n" + text
    start = text.find("\n10de  ")
    section = text[start + 1 :] if start >= 0 else ""
    end = re.search(r"\n(?=[0-9a-f]{4}  )", section)
    section = section[: end.start()] if end else section
    result = {}
    for device in wanted:
        line = re.search(rf"^\t{device[2:]}  (.+)$", section, re.MULTILINE)
        if line:
            label = re.search(r"\[([^\]]+)\]", line.group(1))
            result[device] = label.group(1) if label else line.group(1)
    return result


def _driver(path: str) -> Optional[str]:
    try:
        return os.path.basename(os.readlink(os.path.join(path, "driver")))
    except OSError:
        return None


def devices(root: str = "/") -> Optional[List[Dict[str, Any]]]:
    """Every NVIDIA device: ``address, class, device_id, driver, pcie``; None when no bus can be seen."""
    base = os.path.join(root, "sys/bus/pci/devices")
    try:
        addresses = sorted(os.listdir(base))
    except OSError:
        return None
    found = []
    for address in addresses:
        if read(base, address, "vendor") != NVIDIA:
            continue
        found.append(
            {
                "address": address,
                "class": read(base, address, "class") or "",
                "device_id": read(base, address, "device") or "",
                "driver": _driver(os.path.join(base, address)),
                "pcie": {
                    "generation": _generation(read(base, address, "current_link_speed")),
                    "generation_max": _generation(read(base, address, "max_link_speed")),
                    "width": _width(read(base, address, "current_link_width")),
                    "width_max": _width(read(base, address, "max_link_width")),
                },
            }
        )
    return found


def gpus(found: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """The display and 3D controllers among the devices."""
    return [device for device in found if device["class"].startswith("0x03")]


def nvswitches(found: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """The NVSwitches among the devices: bridges of class 0680 that NVIDIA made."""
    return [device for device in found if device["class"].startswith("0x0680")]


def identities(found: List[Dict[str, Any]], root: str = "/") -> List[Dict[str, Any]]:
    """What the bus alone tells of each GPU, under the same keys as nvidia-smi's answer."""
    cards = gpus(found)
    names = _names(root, [card["device_id"] for card in cards])
    result = []
    for index, card in enumerate(cards):
        name = names.get(card["device_id"])
        device = card["device_id"] if re.match(r"^0x[0-9a-f]{4}$", card["device_id"]) else None
        product = products.identify(name, device, None)
        result.append(
            {
                "index": index,
                "name": name,
                "uuid": None,
                "pci_bus_id": card["address"],
                "pci_device_id": device,
                "architecture": product.architecture,
                "compute_capability": product.compute_capability,
                "compute_capability_source": product.source,
                "pcie": card["pcie"],
                "pci_driver": card["driver"],
            }
        )
    return result

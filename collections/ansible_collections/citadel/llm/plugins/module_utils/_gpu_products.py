# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a GPU's name and PCI device number say about it: architecture, compute capability, memory."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Dict, List, NamedTuple, Optional, Tuple

from ansible_collections.citadel.llm.plugins.module_utils import _gpu_product_table as table

# Reported memory lies below the memory on the label (error correction, firmware), never noticeably above it.
LEAST_OF_LABEL = 0.88
MOST_OF_LABEL = 1.03

_NOISE = frozenset(
    "nvidia corporation geforce tesla gpu generation edition with design max-q single "
    "sxm sxm2 sxm3 sxm4 sxm5 sxm6 pcie pci-e hbm2 hbm2e hbm3 hbm3e fhhl dgxs ls ac lhr ti-lhr".split()
)
_VIRTUAL = re.compile(r"-(?:\d+-)?\d+(?:qe?|c|b|a|n|me)\b|\bmig \d", re.IGNORECASE)
_MEMORY_WORD = re.compile(r"^\d+gb?$")


class Product(NamedTuple):
    """What is known of a product. ``source`` names what it was derived from."""

    architecture: Optional[str]
    compute_capability: Optional[str]
    source: Optional[str]


def words(name: str) -> List[str]:
    """The words of a product name that tell products apart, in lower case."""
    text = _VIRTUAL.sub(" ", name.lower().replace("max-q", "max_q"))
    text = re.sub(r"[()\[\]/,]", " ", text)
    text = re.sub(r"-(?=sxm|pcie|pci-e|fhhl|dgxs|ls|\d+gb)", " ", text)
    return [word for word in text.replace("max_q", "max-q").split() if word not in _NOISE]


def _key(name: str) -> Tuple[str, ...]:
    return tuple(word for word in words(name) if not _MEMORY_WORD.match(word))


@lru_cache(maxsize=None)
def _by_name() -> "Dict[Tuple[str, ...], Tuple[str, Tuple[float, ...]]]":
    result: Dict[Tuple[str, ...], Tuple[str, Tuple[float, ...]]] = {}
    for capability, text in table.PRODUCTS.items():
        for entry in text.replace("\n", " ").split(";"):
            name, _equals, sizes = entry.strip().rpartition("=")
            memory = tuple(float(size) for size in sizes.split("/") if size != "?")
            known = result.get(_key(name), (capability, ()))[1]
            result[_key(name)] = (capability, tuple(sorted(set(known) | set(memory))))
    return result


def _look_up(name: str) -> "Optional[Tuple[str, Tuple[float, ...]]]":
    key = _key(name)
    return _by_name().get(key)


def is_virtual(name: Optional[str]) -> bool:
    """Whether the name is that of a part of a GPU (a vGPU profile such as ``A40-8Q``)."""
    return bool(name and _VIRTUAL.search(name))


def capability_of_name(name: str) -> Optional[str]:
    """The compute capability of a product name, or None."""
    found = _look_up(name)
    if found is None and is_virtual(name):
        board = re.sub(r"(?i)\bgrid\b", "", _VIRTUAL.sub("", name)).strip()
        found = _look_up(board) or _look_up(re.sub(r"(?:DX|XM|XL|D|X|L)$", "", board))
    if found is None and "laptop" in words(name):
        found = _look_up(re.sub(r"(?i)\blaptop\b", "", name))
    if found is not None:
        return found[0]
    text = " ".join(words(name))
    for pattern, capability in table.SERIES:
        if re.search(pattern, text):
            return capability
    return None


def capability_of_device(device_id: str) -> Optional[str]:
    """The compute capability of a PCI device number such as ``0x2d04``, or None."""
    number = int(device_id, 16)
    for first, last, capability in table.DEVICE_RANGES:
        if first <= number <= last:
            return capability
    return None


def architecture_of(capability: str) -> Optional[str]:
    """The name of the architecture that a compute capability belongs to, or None."""
    return table.ARCHITECTURES.get(capability)


def _of_architecture(architecture: str) -> Optional[str]:
    """The capability of an architecture that has only one outside embedded systems."""
    desktop = {"Volta": "7.0", "Turing": "7.5", "Ada Lovelace": "8.9", "Hopper": "9.0", "Rubin": "10.7"}
    return desktop.get(architecture)


def identify(name: Optional[str], device_id: Optional[str], architecture: Optional[str]) -> Product:
    """Architecture and capability from the PCI device number, else the name, else the architecture."""
    capability = capability_of_device(device_id) if device_id else None
    source = "pci_device_id" if capability else None
    if capability is None and name:
        capability = capability_of_name(name)
        source = "name" if capability else None
    if capability is None and architecture:
        capability = _of_architecture(architecture)
        source = "architecture" if capability else None
    known = architecture_of(capability) if capability else None
    return Product(architecture or known, capability, source)


def memory_sizes(name: str) -> Tuple[float, ...]:
    """The GiB that a product was sold with; empty when unknown or when the name is that of a vGPU."""
    if is_virtual(name):
        return ()
    found = _look_up(name)
    return found[1] if found else ()


def memory_fits(name: str, memory_mib: float) -> Optional[bool]:
    """Whether a product can have this memory; None when the product's memory is not known."""
    sizes = memory_sizes(name)
    if not sizes:
        return None
    gib = memory_mib / 1024
    return any(size * LEAST_OF_LABEL <= gib <= size * MOST_OF_LABEL for size in sizes)


def same_product(expected: str, found: str) -> bool:
    """Whether a found name is the expected one: brand words do not count, ``*`` stands for anything."""
    pattern = [re.escape(word).replace(r"\*", ".*") for word in words(expected)]
    return re.fullmatch(" ".join(pattern), " ".join(words(found))) is not None

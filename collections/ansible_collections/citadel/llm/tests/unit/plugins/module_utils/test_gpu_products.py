# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Optional

import pytest

from ansible_collections.citadel.llm.plugins.module_utils import _gpu_product_table as table
from ansible_collections.citadel.llm.plugins.module_utils import _gpu_products as products


@pytest.mark.parametrize(
    ("name", "capability"),
    [
        ("NVIDIA GeForce RTX 5060 Ti", "12.0"),
        ("NVIDIA GeForce RTX 5090 Laptop GPU", "12.0"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "12.0"),
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", "12.0"),
        ("NVIDIA GB10", "12.1"),
        ("NVIDIA Thor", "11.0"),
        ("NVIDIA B300 SXM6 AC", "10.3"),
        ("NVIDIA GB300", "10.3"),
        ("NVIDIA B200", "10.0"),
        ("NVIDIA GB200", "10.0"),
        ("NVIDIA GH200 480GB", "9.0"),
        ("NVIDIA GH200 144G HBM3e", "9.0"),
        ("NVIDIA H100 80GB HBM3", "9.0"),
        ("NVIDIA H100 NVL", "9.0"),
        ("NVIDIA H100 PCIe", "9.0"),
        ("NVIDIA H200 NVL", "9.0"),
        ("NVIDIA H20-3e", "9.0"),
        ("NVIDIA H800", "9.0"),
        ("NVIDIA L40S", "8.9"),
        ("NVIDIA L20", "8.9"),
        ("NVIDIA RTX 6000 Ada Generation", "8.9"),
        ("NVIDIA RTX 4000 SFF Ada Generation", "8.9"),
        ("NVIDIA RTX 2000 Ada Generation Laptop GPU", "8.9"),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", "8.9"),
        ("Orin (nvgpu)", "8.7"),
        ("NVIDIA A10G", "8.6"),
        ("NVIDIA A40-48Q", "8.6"),
        ("NVIDIA RTX A6000", "8.6"),
        ("NVIDIA GeForce RTX 3080 Ti Laptop GPU", "8.6"),
        ("NVIDIA GeForce RTX 3050 6GB Laptop GPU", "8.6"),
        ("NVIDIA GeForce RTX 2050", "8.6"),
        ("NVIDIA A100-SXM4-80GB", "8.0"),
        ("NVIDIA A100 80GB PCIe", "8.0"),
        ("NVIDIA A100-PCIE-40GB", "8.0"),
        ("GRID A100-10C", "8.0"),
        ("GRID A100DX-20C", "8.0"),
        ("GRID V100D-8Q", "7.0"),
        ("NVIDIA H100XM-80C", "9.0"),
        ("NVIDIA L40S-48Q", "8.9"),
        ("NVIDIA A800 40GB Active", "8.0"),
        ("NVIDIA A30", "8.0"),
        ("Tesla T4", "7.5"),
        ("Quadro RTX 6000", "7.5"),
        ("Quadro RTX 3000 with Max-Q Design", "7.5"),
        ("TITAN RTX", "7.5"),
        ("GeForce GTX 1650 with Max-Q Design", "7.5"),
        ("NVIDIA GeForce MX450", "7.5"),
        ("Tesla V100-SXM2-16GB", "7.0"),
        ("Tesla V100S-PCIE-32GB", "7.0"),
        ("Tesla V100-SXM2-32GB-LS", "7.0"),
        ("NVIDIA TITAN V", "7.0"),
        ("Tesla P40", "6.1"),
        ("TITAN X (Pascal)", "6.1"),
        ("NVIDIA TITAN Xp", "6.1"),
        ("GeForce GTX 1060 6GB", "6.1"),
        ("Tesla P100-PCIE-16GB", "6.0"),
        ("Quadro GP100", "6.0"),
        ("GeForce GTX TITAN X", "5.2"),
        ("Tesla M60", "5.2"),
        ("Quadro K2200", "5.0"),
        ("GeForce GTX 750 Ti", "5.0"),
        ("Tesla K80", "3.7"),
        ("Tesla K40m", "3.5"),
        ("GeForce GTX 780 Ti", "3.5"),
        ("GRID K2", "3.0"),
        ("GeForce GTX 680", "3.0"),
        ("NVIDIA GeForce RTX 5095", None),
        ("Novelty 1", None),
    ],
)
def test_capability_of_a_name(name: str, capability: Optional[str]) -> None:
    assert products.capability_of_name(name) == capability


@pytest.mark.parametrize(
    ("device", "capability"),
    [
        ("0x2d04", "12.0"),
        ("0x2bb5", "12.0"),
        ("0x2e12", "12.1"),
        ("0x3182", "10.3"),
        ("0x2901", "10.0"),
        ("0x2330", "9.0"),
        ("0x26b9", "8.9"),
        ("0x2235", "8.6"),
        ("0x20b2", "8.0"),
        ("0x1eb8", "7.5"),
        ("0x1db6", "7.0"),
        ("0x1b80", "6.1"),
        ("0x15f8", "6.0"),
        ("0x13c0", "5.2"),
        ("0x102d", "3.7"),
        ("0x118a", "3.0"),
        ("0xffff", None),
    ],
)
def test_capability_of_a_device(device: str, capability: Optional[str]) -> None:
    assert products.capability_of_device(device) == capability


def test_every_capability_has_an_architecture_and_ranges_do_not_overlap() -> None:
    assert set(table.PRODUCTS) <= set(table.ARCHITECTURES)
    ordered = sorted(row for row in table.DEVICE_RANGES if row[0] != 0x102D)
    for place, (first, last, _capability) in enumerate(ordered[:-1]):
        assert first <= last < ordered[place + 1][0]


def test_the_device_number_counts_more_than_the_name() -> None:
    assert products.identify("GeForce GT 730", "0x0fc9", None).compute_capability == "3.0"
    assert products.identify("GeForce GT 730", None, None).source == "name"
    assert products.identify(None, None, "Hopper").compute_capability == "9.0"
    assert products.identify(None, None, "Ampere").compute_capability is None


@pytest.mark.parametrize(
    ("name", "memory", "fits"),
    [
        ("NVIDIA GeForce RTX 4070", 12282, True),
        ("NVIDIA GeForce RTX 4070", 16380, False),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", 16376, True),
        ("NVIDIA GeForce RTX 5060 Ti", 16311, True),
        ("NVIDIA GeForce RTX 5060 Ti", 8151, True),
        ("NVIDIA GeForce RTX 5060 Ti", 12227, False),
        ("NVIDIA A10G", 22731, True),
        ("Tesla P40", 22919, True),
        ("NVIDIA B200", 183359, True),
        ("NVIDIA H200", 143771, True),
        ("NVIDIA GB300", 284208, True),
        ("NVIDIA A40-8Q", 8192, None),
        ("Novelty 1", 1, None),
    ],
)
def test_memory_of_a_product(name: str, memory: int, fits: Optional[bool]) -> None:
    assert products.memory_fits(name, memory) is fits


@pytest.mark.parametrize(
    ("expected", "found", "same"),
    [
        ("RTX 5060 Ti", "NVIDIA GeForce RTX 5060 Ti", True),
        ("RTX 5060", "NVIDIA GeForce RTX 5060 Ti", False),
        ("NVIDIA GeForce RTX 5060 Ti", "NVIDIA GeForce RTX 5060 Ti", True),
        ("H100*", "NVIDIA H100 80GB HBM3", True),
        ("A100-SXM4-80GB", "NVIDIA A100-SXM4-80GB", True),
        ("A100 80GB", "NVIDIA A100-SXM4-40GB", False),
        ("RTX 4070", "NVIDIA GeForce RTX 5060 Ti", False),
        ("T4", "Tesla T4", True),
        ("RTX 60.0", "RTX 6000", False),
    ],
)
def test_same_product(expected: str, found: str, same: bool) -> None:
    assert products.same_product(expected, found) is same

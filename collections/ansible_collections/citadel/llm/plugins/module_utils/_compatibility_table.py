# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GPU, driver, CUDA, torch build and vLLM release: what runs with what, and who says so.

docs/compatibility.md is rendered from here; every row names its source by a key of SOURCES.
"""

from __future__ import annotations

from typing import Dict, NamedTuple, Optional, Tuple

Version = Tuple[int, ...]

SOURCES: Dict[str, str] = {
    "minor": "NVIDIA, CUDA Compatibility: Minor Version Compatibility, table 1",
    "toolkit": "NVIDIA, CUDA Toolkit Release Notes: CUDA Toolkit and Corresponding Driver Versions",
    "modules": "NVIDIA, Driver Installation Guide: Kernel Modules",
    "open": "NVIDIA Technical Blog, NVIDIA Transitions Fully Towards Open-Source GPU Kernel Modules",
    "legacy": "NVIDIA, UNIX Driver README: Supported NVIDIA GPU Products, and the notes on legacy branches",
    "capability": "NVIDIA, CUDA GPU Compute Capability, and Legacy CUDA GPU Compute Capability",
    "binary": "NVIDIA, CUDA C++ Programming Guide: Binary Compatibility, PTX Compatibility",
    "torch": "PyTorch, RELEASE.md: CUDA Support Matrix, and .ci/manywheel/build_cuda.sh of each release",
    "torch2.7": "PyTorch, .ci/manywheel/build_cuda.sh of release 2.7 and before",
    "torch2.8": "PyTorch 2.8.0 release notes: Maxwell and Pascal removed from the CUDA 12.8 and 12.9 builds",
    "torch2.11": "PyTorch, RFC 172352: Volta removed from the CUDA 12.8 builds of release 2.11",
    "wheel": "Metadata of the x86_64 wheels of vllm and torch on PyPI (torch, nvidia-cuda-runtime)",
    "vllm": "vLLM documentation, Installation: GPU, Requirements (compute capability 7.0 or higher)",
}


class Cuda(NamedTuple):
    """A CUDA release. With driver ``minimum`` its programs run, with ``own`` its PTX compiles, too."""

    version: str
    minimum: str
    own: str
    sources: Tuple[str, ...] = ("minor", "toolkit")


CUDA: Tuple[Cuda, ...] = (
    Cuda("11.0", "450.80.02", "450.51.06"),
    Cuda("11.1", "450.80.02", "455.32"),
    Cuda("11.2", "450.80.02", "460.32.03"),
    Cuda("11.3", "450.80.02", "465.19.01"),
    Cuda("11.4", "450.80.02", "470.82.01"),
    Cuda("11.5", "450.80.02", "495.29.05"),
    Cuda("11.6", "450.80.02", "510.47.03"),
    Cuda("11.7", "450.80.02", "515.48.07"),
    Cuda("11.8", "450.80.02", "520.61.05"),
    Cuda("12.0", "525.60.13", "525.85.12"),
    Cuda("12.1", "525.60.13", "530.30.02"),
    Cuda("12.2", "525.60.13", "535.54.03"),
    Cuda("12.3", "525.60.13", "545.23.06"),
    Cuda("12.4", "525.60.13", "550.54.14"),
    Cuda("12.5", "525.60.13", "555.42.02"),
    Cuda("12.6", "525.60.13", "560.28.03"),
    Cuda("12.8", "525.60.13", "570.26"),
    Cuda("12.9", "525.60.13", "575.51.03"),
    Cuda("13.0", "580.65.06", "580.65.06"),
    Cuda("13.1", "580.65.06", "590.44.01"),
    Cuda("13.2", "580.65.06", "595"),
)


class Architecture(NamedTuple):
    """What a compute capability asks of the driver: branches, and the module's flavour (None: either)."""

    capability: str
    name: str
    driver_min: str
    driver_max: Optional[str]
    flavour: Optional[str]
    sources: Tuple[str, ...]


# A GPU whose row is missing is judged by the nearest lower capability of its major number.
DRIVERS: Tuple[Architecture, ...] = (
    Architecture("2.0", "Fermi", "260", "390", "proprietary", ("legacy",)),
    Architecture("3.0", "Kepler", "304", "470", "proprietary", ("legacy",)),
    Architecture("5.0", "Maxwell", "331", "580", "proprietary", ("modules", "legacy")),
    Architecture("6.0", "Pascal", "367", "580", "proprietary", ("modules", "legacy")),
    Architecture("7.0", "Volta", "384", "580", "proprietary", ("modules", "legacy")),
    Architecture("7.5", "Turing", "410", None, None, ("modules", "toolkit")),
    Architecture("8.0", "Ampere", "450", None, None, ("modules", "toolkit")),
    Architecture("8.6", "Ampere", "455", None, None, ("modules", "toolkit")),
    Architecture("8.9", "Ada Lovelace", "520", None, None, ("modules", "toolkit")),
    Architecture("9.0", "Hopper", "520", None, None, ("modules", "toolkit")),
    Architecture("10.0", "Blackwell", "570", None, "open", ("open", "toolkit")),
    Architecture("10.3", "Blackwell", "575", None, "open", ("open", "toolkit")),
    Architecture("11.0", "Blackwell", "580", None, "open", ("open", "toolkit")),
    Architecture("12.0", "Blackwell", "570", None, "open", ("open", "toolkit")),
    Architecture("12.1", "Blackwell", "580", None, "open", ("open", "toolkit")),
)

# Grace Hopper needs the open module although its GPU, Hopper, does not.
OPEN_ONLY_NAMES = ("GH200", "GB200", "GB300", "GB10")


class Build(NamedTuple):
    """A published torch build: releases from ``first`` to ``last`` for one CUDA, and the kernels it has."""

    first: str
    last: str
    cuda: str
    kernels: str
    sources: Tuple[str, ...]
    machine: str = "x86_64"


_TO_HOPPER = "5.0 6.0 7.0 7.5 8.0 8.6 9.0"
_VOLTA_TO_BLACKWELL = "7.0 7.5 8.0 8.6 9.0 10.0 12.0"
_TURING_TO_BLACKWELL = "7.5 8.0 8.6 9.0 10.0 12.0"

TORCH: Tuple[Build, ...] = (
    Build("2.4", "2.5", "11.8", _TO_HOPPER, ("torch2.7",)),
    Build("2.4", "2.5", "12.1", _TO_HOPPER, ("torch2.7",)),
    Build("2.4", "2.6", "12.4", _TO_HOPPER, ("torch2.7",)),
    Build("2.6", "2.7", "11.8", _TO_HOPPER, ("torch2.7",)),
    Build("2.6", "2.14", "12.6", _TO_HOPPER, ("torch2.7", "torch")),
    Build("2.7", "2.7", "12.8", _TURING_TO_BLACKWELL + "+PTX", ("torch2.7",)),
    Build("2.8", "2.10", "12.8", _VOLTA_TO_BLACKWELL, ("torch2.8", "torch")),
    Build("2.8", "2.8", "12.9", _VOLTA_TO_BLACKWELL + "+PTX", ("torch2.8",)),
    Build("2.11", "2.11", "12.8", _TURING_TO_BLACKWELL, ("torch2.11", "torch")),
    Build("2.9", "2.14", "13.0", _TURING_TO_BLACKWELL + "+PTX", ("torch",)),
    Build("2.12", "2.14", "13.2", _TURING_TO_BLACKWELL + "+PTX", ("torch",)),
    Build("2.7", "2.11", "12.8", "8.0 9.0 10.0 12.0", ("torch",), "aarch64"),
    Build("2.9", "2.14", "13.0", "8.0 9.0 10.0 11.0 12.0+PTX", ("torch",), "aarch64"),
    Build("2.12", "2.14", "13.2", "8.0 9.0 10.0 11.0 12.0+PTX", ("torch",), "aarch64"),
)

# First torch release of PyPI's own build for a CUDA: a version without "+cuNNN" is that build.
PYPI_CUDA: Tuple[Tuple[str, str], ...] = (
    ("2.4", "12.1"),
    ("2.5", "12.4"),
    ("2.7", "12.6"),
    ("2.8", "12.8"),
    ("2.11", "13.0"),
)


class Release(NamedTuple):
    """vLLM releases from ``first`` to ``last`` on PyPI: the torch that they pin, and its CUDA."""

    first: str
    last: str
    torch: str
    cuda: str
    sources: Tuple[str, ...] = ("wheel",)


VLLM: Tuple[Release, ...] = (
    Release("0.6.6", "0.7.3", "2.5.1", "12.4"),
    Release("0.8.5", "0.8.5", "2.6.0", "12.4"),
    Release("0.9.0", "0.9.2", "2.7.0", "12.6"),
    Release("0.10.0", "0.10.1.1", "2.7.1", "12.6"),
    Release("0.10.2", "0.11.0", "2.8.0", "12.8"),
    Release("0.11.2", "0.13.0", "2.9.0", "12.8"),
    Release("0.14.0", "0.16.0", "2.9.1", "12.8"),
    Release("0.17.1", "0.19.1", "2.10.0", "12.8"),
    Release("0.20.0", "0.26.0", "2.11.0", "13.0"),
    Release("0.27.0", "0.32.0", "2.13.0", "13.0"),
    Release("0.33.0", "0.33.0", "2.14.0", "13.0"),
)

VLLM_LEAST_CAPABILITY = "7.0"


class Stack(NamedTuple):
    """A stack of the role python_env: vLLM and torch as locked there. ``cuda`` is None for a CPU build."""

    name: str
    vllm: str
    torch: str
    cuda: Optional[str]


# The first that runs is the one to recommend.
STACKS: Tuple[Stack, ...] = (
    Stack("cuda", "0.33.0", "2.14.0", "13.0"),
    Stack("vllm-0.9.2", "0.9.2", "2.7.0", "12.6"),
    Stack("cpu", "0.32.0", "2.13.0", None),
)

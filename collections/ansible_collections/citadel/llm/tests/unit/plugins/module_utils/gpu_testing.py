# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the GPU tests find what nvidia-smi wrote, and short ways to look at findings."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional

from ansible_collections.citadel.llm.plugins.module_utils import _gpu_info as gpu_info
from ansible_collections.citadel.llm.plugins.module_utils._findings import Finding

FIXTURES = Path(__file__).parent / "fixtures" / "gpu"


def read(name: str) -> Dict[str, Any]:
    """What gpu_info tells of a fixture."""
    return gpu_info.gather(gpu_info.Request(source=str(FIXTURES / name)))


def fake_smi(
    directory: Path, text: Optional[str] = None, fixture: Optional[str] = None, code: int = 0
) -> str:
    """A program that writes a fixture or a text, as nvidia-smi would, and ends with a code."""
    path = directory / "nvidia-smi"
    source = FIXTURES / fixture if fixture else directory / "said"
    if text is not None:
        source.write_text(text, encoding="utf-8")
    path.write_text(f"#!/bin/sh\ncat '{source}'\nexit {code}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def write(root: Path, name: str, text: str) -> None:
    """A file of a made-up host."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def pci_gpu(
    root: Path, address: str = "0000:01:00.0", device: str = "0x2d04", driver: Optional[str] = None
) -> None:
    """A GPU on the PCI bus of a made-up host."""
    base = f"sys/bus/pci/devices/{address}"
    values = {
        "vendor": "0x10de",
        "device": device,
        "class": "0x030000",
        "current_link_width": "8",
        "max_link_width": "8",
        "current_link_speed": "2.5 GT/s PCIe",
        "max_link_speed": "32.0 GT/s PCIe",
    }
    for name, value in values.items():
        write(root, f"{base}/{name}", value + "\n")
    if driver:
        os.symlink(f"../../../../bus/pci/drivers/{driver}", root / base / "driver")


def bad(findings: Iterable[Finding]) -> List[str]:
    """The ids of what is not ok, each once, in order."""
    return list(dict.fromkeys(finding.id for finding in findings if finding.severity != "ok"))


def one(findings: Iterable[Finding], name: str) -> Finding:
    """The only finding with this id."""
    (found,) = [finding for finding in findings if finding.id == name]
    return found

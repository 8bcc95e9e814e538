# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an inventory expects of a host's GPUs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

from ansible_collections.citadel.llm.plugins.module_utils._compatibility_table import Stack


@dataclass(frozen=True)
class Record:
    """What a document says about a host's GPUs."""

    source: str
    name: Optional[str]
    count: Optional[int]
    memory_gb: Optional[float]


@dataclass(frozen=True)
class Expected:
    """None is not checked. ``memory_gb`` is the size on the label, ``memory_mib`` a least size."""

    count: Optional[int] = None
    name: Optional[str] = None
    memory_mib: Optional[int] = None
    memory_gb: Optional[float] = None
    compute_capability: Optional[str] = None
    tensor_parallel: Tuple[Tuple[int, ...], ...] = ()
    records: Tuple[Record, ...] = ()
    stack: Optional[Stack] = None
    machine: str = "x86_64"
    allowed_processes: Tuple[str, ...] = ()
    free_mib: int = 600
    persistence: Optional[bool] = None
    ecc: Optional[bool] = None
    mig: Optional[bool] = None

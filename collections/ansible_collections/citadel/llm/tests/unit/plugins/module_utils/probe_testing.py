# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A clock for looks that hang: a busy machine makes no look late."""

from __future__ import annotations

import select
import time
import types
from typing import Any, List, Tuple

import pytest

from ansible_collections.citadel.llm.plugins.module_utils import _storage_info_probe as probe


class Clock:
    """Time passes only when no look but those that hang is left; then all of it at once."""

    def __init__(self, hanging: int) -> None:
        self.hanging, self.now = hanging, 0.0

    def monotonic(self) -> float:
        return self.now

    def select(self, readers: List[int], _w: Any, _x: Any, timeout: float) -> Tuple[Any, Any, Any]:
        if len(readers) > self.hanging:
            return select.select(readers, [], [])
        self.now += timeout
        return [], [], []


def hang(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Expect that many looks never to answer."""
    clock = Clock(number)
    monkeypatch.setattr(probe, "select", types.SimpleNamespace(select=clock.select))
    monkeypatch.setattr(probe, "time", types.SimpleNamespace(monotonic=clock.monotonic, sleep=time.sleep))

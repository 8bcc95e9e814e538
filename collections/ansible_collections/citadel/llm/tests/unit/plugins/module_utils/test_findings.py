# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest

from ansible_collections.citadel.llm.plugins.module_utils import _findings as f

FINE = f.ok("a.b", "thing", expected=1, found=1)
OFF = f.deviation("a.c", "thing", expected=1, found=2, why="differs", remedy="change it")
BAD = f.blocking("a.d", "thing", expected=1, found=0, why="missing", remedy="add it")
BLIND = f.unknown("a.e", "thing", why="no permission", remedy="become root")
BLIND_BLOCKING = f.unknown("a.f", "thing", why="no permission", remedy="become root", severity=f.BLOCKING)


@pytest.mark.parametrize(
    ("findings", "verdict"),
    [
        ([], "unknown"),
        ([FINE], "ready"),
        ([FINE, OFF], "deviations"),
        ([FINE, OFF, BAD], "blocked"),
        ([FINE, BLIND], "deviations"),
        ([BLIND], "unknown"),
        ([FINE, BLIND_BLOCKING], "unknown"),
        ([BLIND_BLOCKING, BAD], "blocked"),
    ],
)
def test_verdict(findings: list[f.Finding], verdict: str) -> None:
    assert f.summarise(findings)["verdict"] == verdict


def test_counts() -> None:
    counts = f.summarise([FINE, OFF, BAD, BLIND])["counts"]
    assert counts == {"ok": 1, "deviation": 2, "blocking": 1, "unknown": 1}


def test_unknown_is_never_ok() -> None:
    assert BLIND.unknown and BLIND.severity == "deviation"
    with pytest.raises(ValueError, match=r"a\.g"):
        f.unknown("a.g", "thing", why="w", remedy="r", severity=f.OK)


def test_dictionaries_are_plain_json() -> None:
    first = json.loads(json.dumps(f.as_dicts([OFF])))[0]
    assert first == {
        "id": "a.c",
        "severity": "deviation",
        "subject": "thing",
        "expected": 1,
        "found": 2,
        "why": "differs",
        "remedy": "change it",
        "unknown": False,
    }

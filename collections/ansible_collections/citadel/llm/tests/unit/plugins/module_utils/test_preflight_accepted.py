# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Accepted deviations: for a time, with a reason, and never silently."""

from __future__ import annotations

import datetime
from typing import Any, Dict, List

import pytest

from ansible_collections.citadel.llm.plugins.module_utils import _findings as findings
from ansible_collections.citadel.llm.plugins.module_utils import _preflight_accepted as accepted

TODAY = datetime.date(2026, 6, 30)
FACTS: Dict[str, Any] = {"expected": 1, "found": 2, "why": "Because.", "remedy": "Do it."}


def told(*every: findings.Finding) -> List[Dict[str, Any]]:
    return findings.as_dicts(every)


DEVIATION = findings.deviation("host.cpu", "cpu", **FACTS)
BLOCKING = findings.blocking("mount.swapped", "/a and /b", **FACTS)
UNSEEN = findings.unknown("account.sudo", "citadel", why="No.", remedy="Run as root.")
GOOD = findings.ok("host.os", "system")


def entry(**changes: Any) -> Dict[str, Any]:
    return dict({"id": "host.cpu", "reason": "delivered so", "until": "2026-06-30"}, **changes)


def test_the_last_day_is_included_and_the_next_is_not() -> None:
    parsed = accepted.parse([entry(until=datetime.date(2026, 6, 30))])
    applied, unused = accepted.apply(told(DEVIATION, GOOD), parsed, TODAY)
    assert unused == []
    assert applied[0]["accepted"] == {
        "id": "host.cpu",
        "subject": None,
        "reason": "delivered so",
        "until": "2026-06-30",
    }
    assert accepted.summarise(applied) == {
        "verdict": "ready",
        "counts": {"ok": 1, "deviation": 0, "blocking": 0, "unknown": 0, "accepted": 1},
    }
    later, unused = accepted.apply(told(DEVIATION, GOOD), parsed, TODAY + datetime.timedelta(days=1))
    assert later[0]["accepted"] is None
    assert later[0]["expired"]["until"] == "2026-06-30"
    assert unused == []
    assert accepted.summarise(later)["verdict"] == "deviations"


def test_the_valid_one_of_several_covers() -> None:
    parsed = accepted.parse([entry(until="2020-01-01"), entry(id="host.*", until="2027-01-01", reason="new")])
    applied, _unused = accepted.apply(told(DEVIATION), parsed, TODAY)
    assert applied[0]["accepted"]["reason"] == "new"
    assert applied[0]["expired"] is None


def test_subject_and_id_choose_and_what_is_ok_needs_none() -> None:
    parsed = accepted.parse(
        [entry(id="mount.*", subject="/c*"), entry(id="host.os"), entry(id="mount.swapped", subject="/a*")]
    )
    applied, unused = accepted.apply(told(BLOCKING, GOOD), parsed, TODAY)
    assert applied[0]["accepted"]["subject"] == "/a*"
    assert applied[1]["accepted"] is None
    assert [one.id for one in unused] == ["mount.*", "host.os"]


def test_what_stops_a_play() -> None:
    hidden = findings.unknown("gpu.readable", "nvidia-smi", why="?", remedy="!", severity="blocking")
    every, _unused = accepted.apply(told(DEVIATION, BLOCKING, UNSEEN, GOOD, hidden), [], TODAY)

    def stopping(*classes: str) -> List[str]:
        return [one["id"] for one in accepted.stopping(every, classes)]

    assert stopping("blocking") == ["mount.swapped", "gpu.readable"]
    assert stopping("unknown") == ["account.sudo", "gpu.readable"]
    assert stopping("deviation") == ["host.cpu", "account.sudo"]
    assert stopping() == []
    covered, _unused = accepted.apply(told(BLOCKING), accepted.parse([entry(id="mount.swapped")]), TODAY)
    assert accepted.stopping(covered, ["blocking", "deviation", "unknown"]) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("host.cpu", "'host.cpu' is not a list"),
        (["host.cpu"], r"accepted\[0\]: 'host.cpu' is not an entry"),
        ([entry(), entry(reason=" ")], r"accepted\[1\]: reason is missing"),
        ([{"id": "a", "reason": "b"}], "until is missing"),
        ([entry(until="30.06.2026")], "host.cpu.*'30.06.2026'.*YYYY-MM-DD"),
        ([entry(untill="2026-01-01")], "untill is none of"),
    ],
)
def test_bad_entries_are_named(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        accepted.parse(given)

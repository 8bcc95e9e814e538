# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What changed between two reports about one host."""

from __future__ import annotations

from typing import Any

from ansible_collections.citadel.llm.plugins.plugin_utils._report_inventory import flat

OK = "ok"
RANK = {OK: 0, "accepted": 1, "unknown": 2, "deviation": 3, "blocking": 4}


def weight(finding: dict[str, Any]) -> int:
    """How grave a finding is; what would block and could not be seen comes right after what blocks."""
    found = state(finding)
    return (
        2 * RANK["blocking"] - 1
        if found == "unknown" and finding["severity"] == "blocking"
        else 2 * RANK[found]
    )


def drift(before: dict[str, Any] | None, now: dict[str, Any]) -> dict[str, Any] | None:
    """``since`` and ``changes``, or None without an earlier report.

    A change has ``kind`` (``finding`` or ``inventory``), ``what``, ``before``, ``now`` and, for a finding,
    ``better``. Parts that only one of the reports looked at are not compared.
    """
    if before is None:
        return None
    changes = _findings(before, now) + _inventory(before.get("inventory") or {}, now["inventory"])
    if before.get("verdict") != now["verdict"]:
        better = _verdict_rank(now["verdict"]) < _verdict_rank(before.get("verdict"))
        changes.insert(
            0,
            _change("finding", "verdict", before.get("verdict"), now["verdict"], better),
        )
    return {"since": before.get("generated_at"), "changes": changes}


def _verdict_rank(verdict: Any) -> int:
    return {"ready": 0, "deviations": 1, "unknown": 2, "blocked": 3}.get(str(verdict), 2)


def _change(kind: str, what: str, before: Any, now: Any, better: bool | None = None) -> dict[str, Any]:
    return {"kind": kind, "what": what, "before": before, "now": now, "better": better}


def state(finding: dict[str, Any]) -> str:
    """One word for a finding: ``accepted`` and ``unknown`` come before its severity."""
    if finding.get("accepted"):
        return "accepted"
    if finding.get("unknown"):
        return "unknown"
    return str(finding["severity"])


def _states(report: dict[str, Any]) -> dict[tuple[str, str], str]:
    states: dict[tuple[str, str], str] = {}
    for finding in report.get("findings") or []:
        key, found = (finding["id"], str(finding["subject"])), state(finding)
        if RANK[found] >= RANK[states.get(key, OK)]:
            states[key] = found
    return states


def _findings(before: dict[str, Any], now: dict[str, Any]) -> list[dict[str, Any]]:
    """A finding that is missing counts as ok, as long as something was found out both times."""
    if not before.get("findings") or not now["findings"]:
        return []
    earlier, later = _states(before), _states(now)
    changes = []
    for key in sorted(set(earlier) | set(later)):
        old, new = earlier.get(key, OK), later.get(key, OK)
        if old != new:
            changes.append(_change("finding", "%s (%s)" % key, old, new, RANK[new] < RANK[old]))
    return changes


def _inventory(before: dict[str, Any], now: dict[str, Any]) -> list[dict[str, Any]]:
    both = set(before) & set(now)
    earlier = flat({part: before[part] for part in both})
    later = flat({part: now[part] for part in both})
    return [
        _change("inventory", what, earlier.get(what), later.get(what))
        for what in sorted(set(earlier) | set(later))
        if earlier.get(what) != later.get(what)
    ]

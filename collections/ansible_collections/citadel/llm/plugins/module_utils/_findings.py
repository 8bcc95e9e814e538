# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings: what a check expected, what it found, whether it matters and what to do."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, NamedTuple

OK = "ok"
DEVIATION = "deviation"
BLOCKING = "blocking"
SEVERITIES = (OK, DEVIATION, BLOCKING)

READY = "ready"
DEVIATIONS = "deviations"
BLOCKED = "blocked"
UNKNOWN = "unknown"


class Finding(NamedTuple):
    """One result of a check.

    ``id`` is a stable dotted name (``gpu.memory``), ``subject`` the thing that was looked at (a GPU's
    address, a path, an endpoint). ``expected`` and ``found`` are plain JSON values. ``unknown`` is true
    when the check could not look; such a finding is never ``ok``.
    """

    id: str
    severity: str
    subject: str
    expected: Any
    found: Any
    why: str
    remedy: str
    unknown: bool = False


def ok(
    id: str,  # noqa: A002
    subject: str,
    *,
    expected: Any = None,
    found: Any = None,
    why: str = "As expected.",
    remedy: str = "Nothing to do.",
) -> Finding:
    """The thing is as expected, or differs in a way that needs no attention."""
    return Finding(id, OK, subject, expected, found, why, remedy)


def deviation(
    id: str,  # noqa: A002
    subject: str,
    *,
    expected: Any,
    found: Any,
    why: str,
    remedy: str,
) -> Finding:
    """The thing differs from what was expected, and the server can still be used."""
    return Finding(id, DEVIATION, subject, expected, found, why, remedy)


def blocking(
    id: str,  # noqa: A002
    subject: str,
    *,
    expected: Any,
    found: Any,
    why: str,
    remedy: str,
) -> Finding:
    """The thing has to be put right before anything is installed."""
    return Finding(id, BLOCKING, subject, expected, found, why, remedy)


def unknown(
    id: str,  # noqa: A002
    subject: str,
    *,
    why: str,
    remedy: str,
    expected: Any = None,
    found: Any = None,
    severity: str = DEVIATION,
) -> Finding:
    """The check could not look (no permission, no such command, no answer in time): never ``ok``.

    Raises ValueError for a severity other than ``deviation`` and ``blocking``.
    """
    if severity not in (DEVIATION, BLOCKING):
        raise ValueError(
            f"finding {id}: what is unknown has severity deviation or blocking, not {severity!r}"
        )
    return Finding(id, severity, subject, expected, found, why, remedy, unknown=True)


def counts(findings: Iterable[Finding]) -> Dict[str, int]:
    """How many findings there are of each severity, and how many of all are ``unknown``."""
    result = {OK: 0, DEVIATION: 0, BLOCKING: 0, UNKNOWN: 0}
    for finding in findings:
        result[finding.severity] += 1
        if finding.unknown:
            result[UNKNOWN] += 1
    return result


def verdict(findings: Iterable[Finding]) -> str:
    """``blocked``, ``unknown``, ``deviations`` or ``ready``: the worst thing that is said.

    A known blocking finding outweighs everything. ``unknown`` means that nothing could be found out
    (every finding is unknown, or there is none) or that something which would block could not be seen.
    """
    every = list(findings)
    if any(finding.severity == BLOCKING and not finding.unknown for finding in every):
        return BLOCKED
    if all(finding.unknown for finding in every):
        return UNKNOWN
    if any(finding.severity == BLOCKING for finding in every):
        return UNKNOWN
    if any(finding.severity == DEVIATION for finding in every):
        return DEVIATIONS
    return READY


def summarise(findings: Iterable[Finding]) -> Dict[str, Any]:
    """``{"verdict": ..., "counts": {"ok": n, "deviation": n, "blocking": n, "unknown": n}}``."""
    every = list(findings)
    return {"verdict": verdict(every), "counts": counts(every)}


def as_dicts(findings: Iterable[Finding]) -> List[Dict[str, Any]]:
    """The findings as plain dictionaries, for a module's result."""
    return [dict(finding._asdict()) for finding in findings]

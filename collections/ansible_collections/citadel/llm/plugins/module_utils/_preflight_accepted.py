# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deviations that people have accepted for a time, and what a play has to stop for."""

from __future__ import annotations

import datetime
import fnmatch
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.citadel.llm.plugins.module_utils._findings import (
    BLOCKING,
    DEVIATION,
    OK,
    UNKNOWN,
    Finding,
    counts,
    verdict,
)

CLASSES = (BLOCKING, UNKNOWN, DEVIATION)
ACCEPTED: Dict[str, Dict[str, Any]] = {
    "id": {"type": "str", "required": True},
    "subject": {"type": "str"},
    "reason": {"type": "str", "required": True},
    "until": {"type": "str", "required": True},
}


class Acceptance(NamedTuple):
    """``until`` is the last day. ``subject`` None is any."""

    id: str
    subject: Optional[str]
    reason: str
    until: datetime.date

    def covers(self, finding: Dict[str, Any]) -> bool:
        """Whether it is about this finding, expired or not."""
        return fnmatch.fnmatchcase(finding["id"], self.id) and (
            self.subject is None or fnmatch.fnmatchcase(str(finding["subject"]), self.subject)
        )

    def as_dict(self) -> Dict[str, Any]:
        """Plain values."""
        return dict(self._asdict(), until=self.until.isoformat())


def parse(given: Any) -> List[Acceptance]:
    """The entries of an inventory. Raises ValueError that names the entry and what is wrong with it."""
    if not isinstance(given, list):
        raise ValueError("accepted: %r is not a list of entries with id, reason and until" % (given,))  # noqa: TRY004
    return [_parse_one(number, entry) for number, entry in enumerate(given)]


def _parse_one(number: int, entry: Any) -> Acceptance:
    place = "accepted[%d]" % number
    if not isinstance(entry, dict):
        raise ValueError("%s: %r is not an entry with id, reason and until" % (place, entry))  # noqa: TRY004 (all that is wrong with an inventory is one error)
    excess = sorted(set(entry) - set(ACCEPTED))
    if excess:
        raise ValueError("%s: %s is none of id, subject, reason, until" % (place, ", ".join(excess)))
    for name in ("id", "reason", "until"):
        if not str(entry.get(name) or "").strip():
            raise ValueError("%s: %s is missing; an acceptance has id, reason and until" % (place, name))
    try:
        until = datetime.date.fromisoformat(str(entry["until"]))
    except ValueError:
        raise ValueError(
            "%s (%s): until is %r: write the last day as YYYY-MM-DD"
            % (place, entry["id"], str(entry["until"]))
        ) from None
    subject = entry.get("subject")
    return Acceptance(
        str(entry["id"]), None if subject is None else str(subject), str(entry["reason"]), until
    )


def apply(
    findings: Sequence[Dict[str, Any]], accepted: Sequence[Acceptance], today: datetime.date
) -> Tuple[List[Dict[str, Any]], List[Acceptance]]:
    """The findings with ``accepted`` and ``expired`` (an acceptance or None), and the unused acceptances.

    What is ok needs no acceptance. An expired one is shown, and does not cover.
    """
    used = set()
    result = []
    for finding in findings:
        covering = [one for one in accepted if finding["severity"] != OK and one.covers(finding)]
        used.update(covering)
        valid = max((one for one in covering if one.until >= today), key=_until, default=None)
        expired = None if valid else max(covering, key=_until, default=None)
        result.append(
            dict(
                finding,
                accepted=valid.as_dict() if valid else None,
                expired=expired.as_dict() if expired else None,
            )
        )
    return result, [one for one in accepted if one not in used]


def _until(one: Acceptance) -> datetime.date:
    return one.until


def summarise(findings: Sequence[Dict[str, Any]]) -> Dict[str, Any]:
    """``verdict`` and ``counts``; what is accepted counts as ok in the verdict, and is counted apart."""
    plain = [Finding(**{name: one[name] for name in Finding._fields}) for one in findings]
    is_accepted = [bool(one.get("accepted")) for one in findings]
    judged = [
        one._replace(severity=OK, unknown=False) if covered else one
        for one, covered in zip(plain, is_accepted)  # noqa: B905 (Python 3.9 has no strict)
    ]
    left = [one for one, covered in zip(plain, is_accepted) if not covered]  # noqa: B905
    return {"verdict": verdict(judged), "counts": dict(counts(left), accepted=sum(is_accepted))}


def stopping(findings: Sequence[Dict[str, Any]], fail_on: Sequence[str]) -> List[Dict[str, Any]]:
    """The findings for which a play has to stop.

    ``blocking`` includes what would block and could not be seen.
    """
    return [
        one
        for one in findings
        if not one.get("accepted") and (one["severity"] in fail_on or (one["unknown"] and UNKNOWN in fail_on))
    ]

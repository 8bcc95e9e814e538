# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The preflight's reports as plain data: one for each host, and one for the fleet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible_collections.citadel.llm.plugins.plugin_utils._report_drift import drift, weight
from ansible_collections.citadel.llm.plugins.plugin_utils._report_inventory import inventory

SCHEMA_VERSION = 1
VERDICTS = ("ready", "deviations", "unknown", "blocked")
NO_COUNTS = {"ok": 0, "deviation": 0, "blocking": 0, "unknown": 0, "accepted": 0}


def host_report(
    name: str,
    result: dict[str, Any],
    *,
    address: str | None,
    generated_at: str,
    before: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The report about one host.

    ``result`` is what citadel.llm.preflight returned, or what Ansible made of a host that it could not reach.
    """
    unreachable = bool(result.get("unreachable"))
    findings = sorted(result.get("findings") or [], key=lambda one: -weight(one))
    report = {
        "schema_version": SCHEMA_VERSION,
        "kind": "host",
        "host": name,
        "address": address,
        "generated_at": generated_at,
        "verdict": result.get("verdict") or "unknown",
        "summary": "",
        "unreachable": unreachable,
        "reason": _reason(result) if unreachable or not findings else None,
        "counts": dict(NO_COUNTS, **(result.get("counts") or {})),
        "findings": findings,
        "unused_acceptances": result.get("unused") or [],
        "inventory": inventory(result.get("facts") or {}),
        "drift": None,
    }
    report["summary"] = _summary(report)
    report["drift"] = drift(before, report)
    return report


def _reason(result: dict[str, Any]) -> str:
    told = str(result.get("reason") or result.get("msg") or "no answer").strip()
    return told.removeprefix("Task failed: ")


def _summary(report: dict[str, Any]) -> str:
    counts = report["counts"]
    if report["unreachable"]:
        return "The host could not be reached, so nothing is known of it."
    if not report["findings"]:
        return "Nothing could be found out about this host."
    accepted = ", %d accepted" % counts["accepted"] if counts["accepted"] else ""
    if report["verdict"] == "ready":
        return "As expected: %s passed%s." % (_number(counts["ok"], "check"), accepted)
    parts = [
        "%d blocking" % counts["blocking"] if counts["blocking"] else "",
        _number(counts["deviation"], "deviation") if counts["deviation"] else "",
        "of these %d could not be seen" % counts["unknown"] if counts["unknown"] else "",
    ]
    text = ", ".join(part for part in parts if part)
    return "%s%s; %s passed." % (text[:1].upper() + text[1:], accepted, _number(counts["ok"], "check"))


def _number(number: int, noun: str) -> str:
    return "%d %s%s" % (number, noun, "" if number == 1 else "s")


def fleet_report(hosts: Sequence[dict[str, Any]], *, generated_at: str) -> dict[str, Any]:
    """The report about all hosts of a run. What is the same on several hosts is told once."""
    verdicts = [host["verdict"] for host in hosts]
    counts = {verdict: verdicts.count(verdict) for verdict in VERDICTS}
    worst = next((name for name in ("blocked", "unknown", "deviations") if counts[name]), "ready")
    report = {
        "schema_version": SCHEMA_VERSION,
        "kind": "fleet",
        "generated_at": generated_at,
        "verdict": worst if hosts else "unknown",
        "summary": "",
        "counts": dict(counts, hosts=len(hosts)),
        "hosts": [_host_line(host) for host in hosts],
        "findings": _shared(hosts),
        "not_found_out": [
            {name: host[name] for name in ("host", "unreachable", "reason")}
            for host in hosts
            if not host["findings"]
        ],
    }
    told = ["%d %s" % (counts[name], name) for name in VERDICTS if counts[name]]
    report["summary"] = "%s: %s." % (_number(len(hosts), "host"), ", ".join(told) or "none was looked at")
    return report


def _host_line(host: dict[str, Any]) -> dict[str, Any]:
    line = {
        name: host[name]
        for name in ("host", "address", "verdict", "summary", "unreachable", "counts", "inventory")
    }
    line["changes"] = None if host["drift"] is None else len(host["drift"]["changes"])
    return line


def _shared(hosts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every finding that is not ok, once, with the hosts that have it; the gravest first."""
    merged: dict[Any, dict[str, Any]] = {}
    for host in hosts:
        for finding in host["findings"]:
            if finding["severity"] == "ok":
                continue
            key = tuple(str(finding[name]) for name in ("id", "subject", "expected", "found", "accepted"))
            entry = merged.setdefault(key, dict(finding, hosts=[]))
            if host["host"] not in entry["hosts"]:
                entry["hosts"].append(host["host"])
    return sorted(merged.values(), key=lambda one: -weight(one))

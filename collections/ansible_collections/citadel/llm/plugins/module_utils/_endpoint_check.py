# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at many network endpoints at once, within one deadline, and judges what was seen."""

from __future__ import annotations

import queue
import threading
import time
from typing import Any, Dict, List, Tuple

from ansible_collections.citadel.llm.plugins.module_utils import _endpoint_check_probe as probe
from ansible_collections.citadel.llm.plugins.module_utils._findings import (
    BLOCKING,
    Finding,
    blocking,
    deviation,
    ok,
    unknown,
)

AT_ONCE = 32
UNFINISHED = "unfinished"
REASONS = {
    probe.REFUSED: (
        "The host answers, and nothing listens on this port (or a firewall rejects it).",
        "Start the service there, or correct the port in the inventory.",
    ),
    probe.FILTERED: (
        "No answer at all: a firewall drops the packets, or the host is down.",
        "Open the port in the firewalls on the way, and see whether the host is up.",
    ),
    probe.UNRESOLVABLE: (
        "The name leads to no address.",
        "Correct the name, or add it to DNS or /etc/hosts.",
    ),
    probe.UNREACHABLE: (
        "There is no way to the host: no route, or nobody has the address.",
        "Look at the address, the routes (ip route get ADDRESS) and the cabling.",
    ),
    probe.SILENT: (
        "The connection is accepted, and then nothing is said: the service hangs or is overloaded.",
        "Look at the service's log and load, and restart it.",
    ),
    probe.WRONG_ANSWER: (
        "Something answers, and not as it should.",
        "See that the right service runs there and is ready, and that the inventory names the protocol.",
    ),
    probe.TLS_FAILED: (
        "No encrypted connection comes about.",
        "See that the port speaks TLS, of version 1.2 or newer.",
    ),
}


def check(wanted: List[Dict[str, Any]], deadline: float = 10.0) -> Tuple[List[Finding], List[Dict[str, Any]]]:
    """The findings, and the figures of each endpoint in the order asked.

    ``wanted`` has the module's option C(endpoints). Returns after ``deadline`` seconds at the latest; what is
    not finished by then is unknown.
    """
    records = look(wanted, deadline)
    findings: List[Finding] = []
    for want, record in zip(wanted, records):  # noqa: B905 (Python 3.9 has no strict)
        findings.extend(judge(want, record))
    return findings, records


def look(wanted: List[Dict[str, Any]], deadline: float) -> List[Dict[str, Any]]:
    """The records of all probes. Threads that are still busy are left behind; they end with the process."""
    end = time.monotonic() + deadline
    probes = [probe.Probe(want, end) for want in wanted]
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    done: queue.SimpleQueue[Tuple[int, Dict[str, Any]]] = queue.SimpleQueue()
    for index in range(len(probes)):
        todo.put(index)

    def work() -> None:
        while time.monotonic() < end:
            try:
                index = todo.get_nowait()
            except queue.Empty:
                return
            done.put((index, probes[index].run()))

    for _thread in range(min(AT_ONCE, len(probes))):
        threading.Thread(target=work, daemon=True).start()
    finished: Dict[int, Dict[str, Any]] = {}
    while len(finished) < len(probes):
        try:
            index, record = done.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            break
        finished[index] = record
    return [finished.get(index) or _unfinished(one) for index, one in enumerate(probes)]


def _unfinished(one: probe.Probe) -> Dict[str, Any]:
    record = dict(one.record)
    record.update(state=UNFINISHED, detail=record["step"] or "finished too late", step=None)
    return record


def judge(want: Dict[str, Any], record: Dict[str, Any]) -> List[Finding]:
    """The findings about one endpoint: that it is reached and how fast, or why not, and its certificate."""
    severity = want.get("severity") or BLOCKING
    subject = record["name"]
    expected = "%s at %s:%d" % (record["protocol"], record["host"], record["port"])
    if record["state"] == UNFINISHED:
        why = "The deadline passed while %s." % record["detail"]
        remedy = "Raise deadline, or look at the name servers and the network."
        return [
            unknown(
                "endpoint.unfinished", subject, severity=severity, expected=expected, why=why, remedy=remedy
            )
        ]
    if record["state"] != probe.ANSWERED:
        why, remedy = REASONS[record["state"]]
        tell = blocking if severity == BLOCKING else deviation
        found = "%s: %s" % (record["state"].replace("_", " "), record["detail"])
        down = tell(
            "endpoint." + record["state"], subject, expected=expected, found=found, why=why, remedy=remedy
        )
        return [down, *_certificate(want, record, severity)]
    findings = [_speed(want, record, subject, expected)]
    if record["loss_percent"]:
        findings.append(
            deviation(
                "endpoint.loss",
                subject,
                expected="every connection comes about",
                found="%g %% of %d did not" % (record["loss_percent"], want.get("tries") or 3),
                why="Connections get lost: the network or the service is overloaded.",
                remedy="Look at errors on the interfaces (ip -s link) and at the service's backlog.",
            )
        )
    return findings + _certificate(want, record, severity)


def _speed(want: Dict[str, Any], record: Dict[str, Any], subject: str, expected: str) -> Finding:
    latency, limit = record["latency_ms"], want.get("warn_ms")
    found = "%(min)g / %(avg)g / %(max)g ms (min / avg / max)" % latency
    if record["answer_ms"] is not None:
        found += ", answer after %g ms" % record["answer_ms"]
    slowest = max(latency["avg"], record["answer_ms"] or 0)
    if limit is None or slowest < limit:
        return ok("endpoint.reachable", subject, expected=expected, found=found)
    return deviation(
        "endpoint.slow",
        subject,
        expected="%s within %g ms" % (expected, limit),
        found=found,
        why="Reachable, slow.",
        remedy="Look at the way there (tracepath %s) and at the load of the service." % record["host"],
    )


def _certificate(want: Dict[str, Any], record: Dict[str, Any], severity: str) -> List[Finding]:
    """One finding for each thing that is wrong with the certificate, or one that says it is good."""
    tls = record["tls"]
    if tls is None:
        return []
    subject = record["name"]
    verify = want.get("verify")
    is_verified = record["protocol"] != "postgresql" if verify is None else verify
    # Where nobody verifies, a bad certificate keeps nobody out.
    tell = blocking if severity == BLOCKING and is_verified else deviation
    expected = "a certificate that is valid and for %s" % (want.get("server_name") or record["host"])
    findings = [
        tell("endpoint." + id_, subject, expected=expected, found=found, why=why, remedy=remedy)
        for id_, found, why, remedy in _faults(tls, is_verified)
    ]
    days, warn = tls["days_left"], want.get("certificate_warn_days")
    if days is not None and warn is not None and 0 <= days < warn:
        why = "It expires in %g days." % days
        remedy = "Renew it now, and see why that did not happen by itself."
        found = tls["not_after"]
        within = "valid for %g more days" % warn
        findings.append(
            deviation(
                "endpoint.certificate_expiring", subject, expected=within, found=found, why=why, remedy=remedy
            )
        )
    if findings:
        return findings
    if days is None or (is_verified and tls["trusted"] is None):
        why = "The certificate could not be judged: %s." % (tls["problem"] or "nothing is known of it")
        remedy = "Name a readable file with the authority's certificate (ca_file)."
        return [unknown("endpoint.certificate", subject, expected=expected, why=why, remedy=remedy)]
    return [ok("endpoint.certificate", subject, expected=expected, found="valid until %s" % tls["not_after"])]


def _faults(tls: Dict[str, Any], is_verified: bool) -> List[Tuple[str, str, str, str]]:
    """(id, found, why, remedy) for each."""
    faults = []
    if tls["days_left"] is not None and tls["days_left"] < 0:
        why = "It has expired: clients refuse it."
        faults.append(("certificate_expired", "expired on " + tls["not_after"], why, "Renew it."))
    if tls["is_early"]:
        why = "It is not valid yet: it was made for later, or a clock is wrong."
        remedy = "Compare the clocks of both hosts, then make it again."
        faults.append(("certificate_not_yet_valid", "valid from " + tls["not_before"], why, remedy))
    if is_verified and tls["name_matches"] is False:
        found = "for " + (", ".join(tls["names"]) or "nobody")
        why = "It is for another name: clients refuse it."
        remedy = "Reach the service by one of these names, or make a certificate for the name that is used."
        faults.append(("certificate_wrong_name", found, why, remedy))
    if tls["trusted"] is False:
        found = tls["problem"] or "not trusted"
        why = "No authority that this host trusts has signed it."
        remedy = "Name the authority's certificate (ca_file), or install it on this host."
        faults.append(("certificate_untrusted", found, why, remedy))
    return faults

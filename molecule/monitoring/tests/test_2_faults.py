"""Each fault reaches who has to know as the right alert, nothing else does, and its end is told.

`CITADEL_RULES_FASTER=1` measures with the durations of production; `CITADEL_FAULT_TABLE=FILE` writes a table.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from conftest import Notice, make, mend, notices, query, received, until
from faults import AMBIENT, FASTER, GATEWAY, HOST, TOGETHER, Fault
from testinfra.host import Host

ALL = (*TOGETHER, GATEWAY, HOST)


def told(fault: Fault, found: list[Notice], status: str = "firing") -> list[float]:
    """When one receiver was told of a fault."""
    return [
        notice.time
        for notice in found
        if notice.status == status
        and notice.labels["alertname"] == fault.alert
        and fault.labels.items() <= notice.labels.items()
    ]


def unexpected(central: Host, since: float) -> set[tuple[str, str]]:
    """Alerts that are none of the faults', with their labels."""
    return {
        (notice.labels["alertname"], json.dumps(notice.labels))
        for notice in notices(central, since)
        if notice.labels["alertname"] not in AMBIENT
        and not any(told(fault, [notice], notice.status) for fault in ALL)
    }


def wait_until_told(central: Host, since: float, faults: tuple[Fault, ...], made: dict[str, float]) -> None:
    def all_told() -> bool:
        found = notices(central, since)
        return all(told(fault, found) for fault in faults)

    deadline = max(made[fault.name] + fault.within for fault in faults)
    until(all_told, max(1.0, deadline - time.time()), "every fault is told", lambda: shown(central, since))


def shown(central: Host, since: float) -> str:
    """What was told, and what Prometheus has on its mind, for who reads a failure."""
    said = sorted({(notice.labels["alertname"], notice.status) for notice in notices(central, since)})
    return f"told: {said}; alerts: {query(central, 'ALERTS')}"


def test_faults_are_told_as_what_they_are_and_nothing_else_is(
    watched: Host, central: Host, faults: dict[str, float]
) -> None:
    since = min(faults.values())
    make(GATEWAY, watched, central, faults)
    wait_until_told(central, since, (*TOGETHER, GATEWAY), faults)
    # What follows from these faults would have been told by now.
    time.sleep(max(0.0, faults[GATEWAY.name] + 200 / FASTER - time.time()))
    assert unexpected(central, since) == set()
    messages = received(central, since)
    for kind in ("mail", "chat"):
        text = json.dumps([message for message in messages if message["kind"] == kind])
        assert {fault.alert for fault in (*TOGETHER, GATEWAY) if fault.alert not in text} == set(), kind


def test_their_end_is_told(watched: Host, central: Host, faults: dict[str, float]) -> None:
    mended = time.time()
    for fault in (*TOGETHER, GATEWAY):
        mend(fault, watched, central)

    def all_ended() -> bool:
        found = notices(central, min(faults.values()))
        return all(told(fault, found, "resolved") for fault in (*TOGETHER, GATEWAY))

    until(all_ended, 900 / FASTER + 60, "the end of every fault is told", lambda: shown(central, mended))
    assert unexpected(central, min(faults.values())) == set()


def test_a_host_that_cannot_be_reached_is_one_alert(
    watched: Host, central: Host, faults: dict[str, float]
) -> None:
    make(HOST, watched, central, faults)
    since = faults[HOST.name]
    try:
        wait_until_told(central, since, (HOST,), faults)
        time.sleep(
            max(0.0, since + 200 / FASTER - time.time())
        )  # engines, gateway and GPUs are missing as well
        assert unexpected(central, since) == set()
    finally:
        mend(HOST, watched, central)
    until(
        lambda: told(HOST, notices(central, since), "resolved"),
        900 / FASTER + 60,
        "its end is told",
        lambda: shown(central, since),
    )
    time.sleep(60 / FASTER)
    firing = {notice.labels["alertname"] for notice in notices(central, since) if notice.status == "firing"}
    assert firing - AMBIENT == {HOST.alert}


def test_the_times_are_written_down(central: Host, faults: dict[str, float], record_property: Any) -> None:
    rows = []
    found = notices(central, min(faults.values()))
    for fault in ALL:
        first = min(told(fault, found)) - faults[fault.name]
        record_property(f"seconds until told that {fault.name}", round(first))
        rows.append(f"| {fault.name} | `{fault.alert}` | {fault.promised:.0f} s | {first:.0f} s |\n")
        assert first <= fault.within
    if table := os.environ.get("CITADEL_FAULT_TABLE"):
        Path(table).write_text("".join(rows))

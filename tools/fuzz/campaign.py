"""Inputs one after the other, each checked; what fails is kept."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import uvloop

from tools.fuzz import oracle
from tools.fuzz.grammar import Case, make
from tools.fuzz.strict import Reading, read_answers, read_requests
from tools.fuzz.world import Lane, World, world

_LONGEST_S = 60.0
_LANES = 12
_ROUND = 40
"""So many inputs in each lane, and then a look at what is left over."""


@dataclass
class Report:
    """What a campaign found. `findings` are a name for the input, and what was wrong."""

    seed: int
    cases: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    answers: Counter[int] = field(default_factory=Counter)
    findings: list[tuple[str, list[str]]] = field(default_factory=list)
    served: int = 0
    """Requests of the client that behaves, and the longest of its waits in seconds."""
    longest_s: float = 0.0


class _Client(asyncio.Protocol):
    """One connection: all that came, and whether it has been closed."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.closed = False
        self.changed = asyncio.Event()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.changed.set()

    def connection_lost(self, _error: Exception | None) -> None:
        self.closed = True
        self.changed.set()


async def _send(client: _Client, data: bytes, cuts: tuple[int, ...]) -> None:
    transport = client.transport
    assert transport is not None
    ends = [cut for cut in cuts if cut < len(data)]
    for start, end in zip([0, *ends], [*ends, len(data)], strict=True):
        if transport.is_closing():
            return
        transport.write(data[start:end])
        await asyncio.sleep(0)


async def _receive(client: _Client, sent: Reading) -> bool:
    """Wait for every answer that is due. False when one did not come in time."""
    due = oracle.answered_to(sent)
    ends = due < len(sent.messages) or sent.end == "invalid"  # then the gateway closes, or answers once more
    end = time.monotonic() + _LONGEST_S
    while not client.closed:
        got = read_answers(bytes(client.data), sent.methods, closed=False)
        if len(got.messages) >= due + ends and got.end == "clean":
            return True
        left = end - time.monotonic()
        if left <= 0:
            return False
        client.changed.clear()
        try:
            async with asyncio.timeout(left):
                await client.changed.wait()
        except TimeoutError:
            return False
    return True


async def try_out(here: World, lane: Lane, case: Case, report: Report) -> list[str]:
    """Send one input; what was wrong."""
    data = here.with_keys(case.data)
    sent = read_requests(data)
    lane.plain.begin(())
    lane.wild.begin(case.scripts)
    port = here.gateway.port if case.listener == "api" else here.gateway.internal_port
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(_Client, "127.0.0.1", port)
    assert client.transport is not None
    await _send(client, data, case.cuts)
    found: list[str] = []
    if case.leaves:
        await asyncio.sleep(0.002 * (len(data) % 3))
    elif not await _receive(client, sent):
        found.append(f"no answer in {_LONGEST_S:g} s: {len(sent.messages)} requests, then {sent.end}")
    closed = client.closed
    client.transport.abort()
    await asyncio.sleep(0)
    found += oracle.check_answers(case, sent, bytes(client.data), closed=closed)
    for engine in (lane.plain, lane.wild):
        repeats = engine is lane.wild
        found += oracle.check_requests(sent, lane.before, engine.seen, lane.names.renamed, repeats=repeats)
        found += engine.complaints
    lane.before.append(sent)
    report.cases[case.kind] += 1
    report.requests += max(1, len(sent.messages))
    got = read_answers(bytes(client.data), sent.methods, closed=closed)
    report.answers.update(answer.status for answer in got.messages)
    await asyncio.sleep(0)
    return found + here.take_complaints()


async def _campaign(seconds: float, failures: Path, report: Report) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with world(Path(directory), _LANES) as here:
            report.findings += [("before", found) for found in [await here.rest()] if found]
            end = time.monotonic() + seconds
            number = 0
            while time.monotonic() < end:
                rounds = (_round(here, lane, number, failures, report) for lane in here.lanes)
                await asyncio.gather(*rounds)
                number += _ROUND
                left = await here.rest()
                report.findings += [(f"up to input {number} of each lane", left)] if left else []
            report.served, report.longest_s = len(here.waits), max(here.waits)


async def _round(here: World, lane: Lane, begin: int, failures: Path, report: Report) -> None:
    for number in range(begin, begin + _ROUND):
        name = f"{report.seed}-{lane.names.lane}-{number}"
        case = make(random.Random(name), lane.names.lane)  # noqa: S311 (no secret)
        _keep(failures, name, case, await try_out(here, lane, case, report), report)


def _keep(failures: Path, name: str, case: Case, found: list[str], report: Report) -> None:
    if not found:
        return
    path = failures / f"fuzz-{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(case.dump(found) + "\n")
    report.findings.append((str(path), found))


async def _replay(case: Case, name: str, report: Report) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with world(Path(directory), case.lane + 1) as here:
            found = await try_out(here, here.lanes[-1], case, report)
            found += await here.rest()
    if found:
        report.findings.append((name, found))


def campaign(seed: int, seconds: float, failures: Path) -> Report:
    """Try inputs for a time. Those that fail are written into the folder `failures`."""
    report = Report(seed)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_campaign(seconds, failures, report))
    return report


def replay(path: Path) -> Report:
    """Try one input again."""
    report = Report(0)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_replay(Case.load(path.read_text()), str(path), report))
    return report

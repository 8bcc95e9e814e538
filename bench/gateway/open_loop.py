"""T2: requests at a fixed rate, answered or not, before an engine that takes 60 ms."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench.gateway.client import Client, connect, request_of
from bench.gateway.contenders import NAMES, PATH, QUICK, Serving, body
from bench.gateway.measuring import engine, on_other_core, percentile, rounds, spread

DELAY_S = 0.06
RATE, SLOW_RATE = 600, 30
SECONDS = 3.0
ROUNDS = 1


@dataclass
class Load:
    """Latencies in seconds, from the moment at which a request was due."""

    rate: int
    latencies: list[float] = field(default_factory=list)
    failed: int = 0
    idle: list[Client] = field(default_factory=list)


async def _one(contender: Serving, load: Load, request: bytes, due: float) -> None:
    answered = asyncio.Event()
    try:
        while load.idle and not load.idle[-1].usable:
            load.idle.pop()
        client = load.idle.pop() if load.idle else await connect(contender.port)
        client.done = lambda _: answered.set()
        client.ask(request)
        async with asyncio.timeout(30):
            await answered.wait()
    except (OSError, TimeoutError):
        load.failed += 1
        return
    if client.status == 200 and not client.failed:
        load.latencies.append(time.monotonic() - due)
        load.idle.append(client)
    else:
        load.failed += 1


async def _drive(contender: Serving) -> Load:
    load = Load(RATE if contender.name in QUICK else SLOW_RATE)
    request = request_of(contender.port, PATH, contender.headers, body())
    tasks = []
    begin = time.monotonic() + 0.1
    for number in range(int(load.rate * SECONDS)):
        due = begin + number / load.rate
        if (wait := due - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(_one(contender, load, request, due)))
    await asyncio.gather(*tasks)
    for client in load.idle:
        client.close()
    return load


def measure(directory: Path) -> list[str]:
    """Rows of the table. The first second of a contender's requests opens its connections and is not told."""
    with engine(directory, DELAY_S) as (port, _):
        taken = rounds(
            ROUNDS, NAMES, directory, [port], lambda contender: on_other_core(lambda: _drive(contender))
        )
    rows = ["| | requests/s | p50, ms | p99, ms | failed |", "|---|---|---|---|---|"]
    for name, loads in taken.items():
        settled = [load.latencies[load.rate :] for load in loads]
        p50, p99 = ([percentile(values, part) * 1000 for values in settled] for part in (0.5, 0.99))
        failed = sum(load.failed for load in loads)
        rows.append(f"| {name} | {loads[0].rate} | {spread(p50)} | {spread(p99)} | {failed} |")
    return rows

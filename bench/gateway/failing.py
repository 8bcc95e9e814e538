"""T5 and T6: an engine that is killed under load, and clients that leave."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import signal
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from bench.gateway.client import Client, connect, request_of
from bench.gateway.contenders import NAMES, OURS, PATH, Serving, body, serving
from bench.gateway.measuring import engine, on_other_core, percentile
from bench.gateway.processes import Running

CLIENTS = 32
BEFORE_S, AFTER_S = 1.0, 2.0
_ENGINE_S = 0.02
ABORTS = 5
_ABORT_ENGINE_S = 1.0
_PATIENCE_S = 1.4


async def _client(contender: Serving, request: bytes, end: float, counts: Counter[str]) -> None:
    client: Client | None = None
    while time.monotonic() < end:
        answered = asyncio.Event()
        try:
            if client is None or not client.usable:
                client = await connect(contender.port)
            client.done = lambda _: answered.set()  # noqa: B023 (called before the next turn)
            client.ask(request)
            async with asyncio.timeout(15):
                await answered.wait()
        except (OSError, TimeoutError):
            counts["failed"] += 1
            client = None
        else:
            counts["ok" if client.status == 200 and not client.failed else "failed"] += 1
    if client is not None:
        client.close()


async def _under_load(contender: Serving, victim: Running) -> Counter[str]:
    counts: Counter[str] = Counter()
    request = request_of(contender.port, PATH, contender.headers, body())
    end = time.monotonic() + BEFORE_S + AFTER_S
    tasks = [asyncio.create_task(_client(contender, request, end, counts)) for _ in range(CLIENTS)]
    await asyncio.sleep(BEFORE_S)
    os.kill(victim.pid, signal.SIGKILL)
    await asyncio.gather(*tasks)
    return counts


def killed(directory: Path) -> list[str]:
    """Rows: what clients see of a killed engine while another one lives."""
    rows = ["| | requests | failed |", "|---|---|---|"]
    for name in (OURS, "vllm-router", "nginx", "LiteLLM"):
        with (
            engine(directory, _ENGINE_S) as (first, victim),
            engine(directory, _ENGINE_S) as (second, _),
            serving(name, directory, [first, second]) as contender,
        ):
            counts = on_other_core(functools.partial(_under_load, contender, victim))
        rows.append(f"| {name} | {counts.total()} | {counts['failed']} |")
    return rows


@dataclass(frozen=True)
class _Left:
    """Milliseconds until the engine saw that a client had left, for those clients that it saw leave."""

    before: list[float]
    during: list[float]


async def _abort(contender: Serving, request: bytes, engine_port: int, *, streaming: bool) -> float | None:
    """Milliseconds between leaving and the engine's noticing; None when it did not notice in time."""
    before = await asyncio.to_thread(_noted, engine_port)
    client = await connect(contender.port)
    client.ask(request)
    if streaming:
        while len(client.arrivals) < 2:  # noqa: ASYNC110 (what is watched has no event)
            await asyncio.sleep(0.005)
    else:
        await asyncio.sleep(0.15)
    left = time.monotonic()
    client.close()
    while time.monotonic() < left + _PATIENCE_S:
        await asyncio.sleep(0.05)
        seen = await asyncio.to_thread(_noted, engine_port)
        if len(seen) > len(before):
            return (seen[-1] - left) * 1000
    return None


def _noted(port: int) -> list[float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
        return [float(moment) for moment in json.load(answer)["left"]]


async def _aborts(contender: Serving, engine_port: int, *, streaming: bool) -> list[float | None]:
    request = request_of(contender.port, PATH, contender.headers, body(stream=streaming))
    return [await _abort(contender, request, engine_port, streaming=streaming) for _ in range(ABORTS)]


def aborted(directory: Path) -> list[str]:
    """Rows: how soon an engine sees that a client has left, before the first token and after it."""
    rows = [
        "| | before the first token: seen | ms (p50, most) | in a stream: seen | ms (p50, most) |",
        "|---|---|---|---|---|",
    ]
    for name in NAMES:
        cells = []
        for delay_s, streaming in ((_ABORT_ENGINE_S, False), (0.0, True)):
            with engine(directory, delay_s) as (port, _), serving(name, directory, [port]) as contender:
                found = on_other_core(functools.partial(_aborts, contender, port, streaming=streaming))
            seen = [took for took in found if took is not None]
            times = f"{percentile(seen, 0.5):.1f}, {max(seen):.1f}" if seen else ""
            cells.append(f"{len(seen)} of {len(found)} | {times}")
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return rows

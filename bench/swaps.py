"""What clients see while snapshots are reloaded, models are paused and engines are swapped under them."""

from __future__ import annotations

import asyncio
import contextlib
import io
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from bench.page import Benchmark
from citadel_llm.schema.routes import Backend
from citadel_llm.schema.snapshot import Model
from files.app.tests.gateway.faults import Results, ask, works
from files.app.tests.gateway.harness import MODEL, Running, running, write_snapshot
from files.app.tests.gateway.mock_engine import MockEngine

CLIENTS, REQUESTS = 32, 5_000
SETTINGS: dict[str, Any] = {"probes": {"enabled": True}, "access_log": False}
Swap = Callable[[Running, list[MockEngine], int], Awaitable[None]]


class Timed(Results):
    """Counts, and the longest request."""

    longest = 0.0


def _model(engines: list[MockEngine], weights: tuple[float, ...] = (1, 1), **fields: Any) -> Model:
    backends = tuple(
        Backend(name=f"engine-{n}", url=engine.url, model="served", weight=weight)
        for n, (engine, weight) in enumerate(zip(engines, weights, strict=True))
    )
    return Model(name=MODEL, backends=backends, **fields)


async def _use(gateway: Running, model: Model) -> None:
    """Replace the snapshot, and have it loaded."""
    table = gateway.process.snapshots.table
    assert table is not None
    write_snapshot(gateway.process.settings.snapshot_path, [model], list(table.snapshot.keys))
    await gateway.process.reload()


async def _quiet(gateway: Running, engine: int | None = None) -> None:
    """Wait until a back end, or all of them, have nothing in flight."""
    backends = gateway.process.engines.balancer.routes[MODEL].backends
    watched = backends if engine is None else (backends[engine],)
    while any(backend.in_flight for backend in watched):  # noqa: ASYNC110 (it has no event)
        await asyncio.sleep(0.002)


async def _reload(gateway: Running, engines: list[MockEngine], turn: int) -> None:
    policies = ("least_load", "round_robin", "power_of_two", "session", "prefix")
    await _use(gateway, _model(engines, (1 + turn % 3, 1), policy=policies[turn % len(policies)]))
    await asyncio.sleep(0.05)


async def _pause(gateway: Running, engines: list[MockEngine], _turn: int) -> None:
    async with gateway.http.post(f"{gateway.internal}/pause?model={MODEL}") as response:
        assert response.status == 200
    await _quiet(gateway)
    for engine in engines:
        await engine.stop()
    await asyncio.sleep(0.1)
    for engine in engines:
        await engine.start()
    async with gateway.http.post(f"{gateway.internal}/resume?model={MODEL}") as response:
        assert response.status == 200
    await asyncio.sleep(0.4)


async def _take_out(gateway: Running, engines: list[MockEngine], turn: int) -> None:
    out = turn % 2
    await _use(gateway, _model(engines, (0, 1) if out == 0 else (1, 0)))
    await _quiet(gateway, out)
    await engines[out].stop()
    await asyncio.sleep(0.05)
    await engines[out].start()
    await _use(gateway, _model(engines))
    await asyncio.sleep(0.2)


CASES: tuple[tuple[str, Swap], ...] = (
    ("reload of the snapshot, with other weights and policies", _reload),
    ("pause, both engines restarted, resume", _pause),
    ("one engine after the other taken out by weight 0 and restarted", _take_out),
)


async def _client(gateway: Running, results: Timed, number: int) -> None:
    turn = number
    while sum(results.counts.values()) < REQUESTS:
        began = time.monotonic()
        await ask(gateway, results, stream=turn % 2 == 0)
        results.longest = max(results.longest, time.monotonic() - began)
        turn += 1


async def _case(swap: Swap) -> tuple[Timed, int]:
    """What clients saw of how many swaps."""
    engines = [await MockEngine().start() for _ in range(2)]
    for engine in engines:
        engine.behaviour = works
    results, swaps = Timed(), 0
    with tempfile.TemporaryDirectory() as directory:
        fields = SETTINGS | {"snapshot_poll_s": 60}
        async with running(Path(directory), [_model(engines)], **fields) as gateway:
            clients = asyncio.gather(*(_client(gateway, results, n) for n in range(CLIENTS)))
            while not clients.done():
                await swap(gateway, engines, swaps)
                swaps += 1
            await clients
    for engine in engines:
        await engine.stop()
    return results, swaps


def measure() -> list[str]:
    """Rows of a table, one for each kind of swap."""
    rows = ["| again and again | times | requests | failed | longest |", "|---|---|---|---|---|"]
    for name, swap in CASES:
        with contextlib.redirect_stdout(io.StringIO()):  # the gateway's log
            results, swaps = asyncio.run(_case(swap))
        total = sum(results.counts.values())
        rows.append(
            f"| {name} | {swaps} | {total} | {total - results.counts['ok']} | {results.longest:.2f} s |"
        )
    return rows


INTRODUCTION = (
    f"{CLIENTS} clients send {REQUESTS} requests to two engines without a pause, every other one a stream,\n"
    "while this is done over and over. *Failed* is everything that is not a whole, good answer."
)

BENCHMARKS = {"swaps": Benchmark("Reloads, pauses and swaps under load", INTRODUCTION, measure)}

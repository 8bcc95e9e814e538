"""Many slow connections at once: what do the other clients notice?"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.gateway.client import connect, request_of
from bench.gateway.contenders import OURS, PATH, Serving, body, serving
from bench.gateway.measuring import engine, on_other_core, percentile
from bench.page import Benchmark

HEADS, BODIES, READERS = 900, 900, 200
CLIENTS = 16
SECONDS = 15.0
_SETTLE_S = 16.0  # until what lies in buffers has been sent, and the first slow ones are ended
_ENGINE_S = 0.02
_DRIP_S = 1.0
_STREAMS = 12
"""Asked for on one connection without reading any: more than buffers take."""


@dataclass
class Seen:
    """What the clients that behave saw: latencies in seconds."""

    latencies: list[float] = field(default_factory=list)
    failed: int = 0
    memory: float = 0.0
    """MiB of the gateway at the end."""
    held: int = 0
    """Slow connections that were open at the end."""
    ended: Counter[str] = field(default_factory=Counter)
    """Slow connections that the gateway ended, by kind; each was opened again."""


async def _client(contender: Serving, end: float, seen: Seen) -> None:
    request = request_of(contender.port, PATH, contender.headers, body())
    client = await connect(contender.port)
    while time.monotonic() < end:
        answered = asyncio.Event()
        client.done = lambda _: answered.set()  # noqa: B023 (called before the next turn)
        began = time.monotonic()
        try:
            if not client.usable:
                client = await connect(contender.port, lambda _: answered.set())  # noqa: B023
            client.ask(request)
            async with asyncio.timeout(30):
                await answered.wait()
        except (OSError, TimeoutError):
            seen.failed += 1
            continue
        if client.status == 200 and not client.failed:
            seen.latencies.append(time.monotonic() - began)
        else:
            seen.failed += 1
    client.close()


def _first(kind: str, contender: Serving) -> bytes:
    """What a slow client sends at once."""
    whole = request_of(contender.port, PATH, contender.headers, body(stream=kind == "readers"))
    head, _, content = whole.partition(b"\r\n\r\n")
    if kind == "heads":
        return head[:-5]
    return head + b"\r\n\r\n" + content[:5] if kind == "bodies" else whole * _STREAMS


async def _slow(kind: str, number: int, contender: Serving, open_ones: set[int], seen: Seen) -> None:
    """Hold a connection; when it is ended, open another one."""
    loop = asyncio.get_running_loop()
    first = _first(kind, contender)
    while True:
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            sock.bind((f"127.0.1.{1 + number % 3}", 0))  # the gateway counts connections by address
            await loop.sock_connect(sock, ("127.0.0.1", contender.port))
            await loop.sock_sendall(sock, first)
            open_ones.add(number)
            while True:
                await asyncio.sleep(_DRIP_S)
                if kind != "readers":
                    await loop.sock_sendall(sock, b"a")
        open_ones.discard(number)
        seen.ended[kind] += 1
        await asyncio.sleep(_DRIP_S)


@contextlib.asynccontextmanager
async def _slow_ones(contender: Serving, seen: Seen) -> AsyncIterator[set[int]]:
    """All of them, opened within some seconds."""
    kinds = ["heads"] * HEADS + ["bodies"] * BODIES + ["readers"] * READERS
    open_ones: set[int] = set()
    tasks = []
    for number, kind in enumerate(kinds):
        tasks.append(asyncio.create_task(_slow(kind, number, contender, open_ones, seen)))
        if number % 50 == 0:
            await asyncio.sleep(0.05)
    try:
        yield open_ones
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _drive(contender: Serving, *, slow: bool) -> Seen:
    seen = Seen()
    async with contextlib.AsyncExitStack() as stack:
        open_ones: set[int] = set()
        if slow:
            open_ones = await stack.enter_async_context(_slow_ones(contender, seen))
            await asyncio.sleep(_SETTLE_S)
        end = time.monotonic() + SECONDS
        await asyncio.gather(*(_client(contender, end, seen) for _ in range(CLIENTS)))
        seen.held = len(open_ones)
        assert contender.process is not None
        seen.memory = contender.process.memory() / 2**20
    return seen


def _row(name: str, seen: Seen) -> str:
    p50, p99 = (percentile(seen.latencies, part) * 1000 for part in (0.5, 0.99))
    ended = ", ".join(f"{number} {kind}" for kind, number in sorted(seen.ended.items())) or "none"
    counted = f"{len(seen.latencies):,} | {seen.failed} | {p50:.1f} | {p99:.1f}"
    return f"| {name} | {counted} | {seen.held:,} | {ended} | {seen.memory:.0f} |"


def measure() -> list[str]:
    """Rows of the table: without the slow clients, and with them."""
    rows = [
        "| | answered | failed | p50, ms | p99, ms | slow ones at the end | ended by the gateway | MiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with engine(directory, _ENGINE_S) as (port, _):
            for title, slow in (("alone", False), ("beside slow clients", True)):
                with serving(OURS, directory, [port]) as contender:
                    seen = on_other_core(functools.partial(_drive, contender, slow=slow))
                    rows.append(_row(title, seen))
    return rows


INTRODUCTION = f"""{CLIENTS} clients ask without a pause, for {SECONDS:g} s; the engine takes 20 ms. Beside
{HEADS + BODIES + READERS:,} connections from three addresses are slow: {HEADS} send headers and {BODIES}
bodies of requests with a good key at a byte a second, and {READERS} ask for {_STREAMS} streams and read none.
Each one that the gateway ends is opened again. The slow clients, the others and the engine share a core."""

BENCHMARKS = {"gateway-slow": Benchmark("Slow clients", INTRODUCTION, measure)}

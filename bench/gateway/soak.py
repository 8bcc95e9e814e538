"""Mixed load for a long time: what grows?"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from bench.gateway.client import Client, connect, request_of
from bench.gateway.contenders import OURS, PATH, Serving, body, serving
from bench.gateway.measuring import engine, on_other_core
from bench.page import Benchmark

CLIENTS = 24
_WARM_UP = 0.2  # of the time; at least until pools and tables have their size
_PAUSE_S = 0.01
_REST_S = 15  # until idle connections to engines have been closed


@dataclass(frozen=True)
class Sample:
    """The gateway at one moment. Memory in MiB."""

    minute: float
    memory: float
    descriptors: int
    tasks: int


def _requests(contender: Serving) -> list[tuple[str, bytes, int]]:
    """Name, bytes and expected status of each kind of request, in the order of their turns."""
    good = contender.headers
    unknown = body().replace(b"org/smol", b"org/none")
    large = body().replace(b"What", b"What " * 4000)

    def of(content: bytes, headers: dict[str, str] = good) -> bytes:
        return request_of(contender.port, PATH, headers, content)

    return [
        ("answers", of(body()), 200),
        ("streams", of(body(stream=True)), 200),
        ("long prompts", of(large), 200),
        ("streams left", of(body(stream=True)), 0),
        ("unknown models", of(unknown), 404),
        ("wrong keys", of(body(), {"authorization": "Bearer nobody"}), 401),
        ("no JSON", of(b"{"), 400),
        ("answers left", of(body()), 0),
    ]


async def _client(contender: Serving, number: int, end: float, counts: Counter[str]) -> None:
    kinds = _requests(contender)
    client: Client | None = None
    turn = number
    while time.monotonic() < end:
        name, request, expected = kinds[turn % len(kinds)]
        turn += 1
        answered = asyncio.Event()
        if client is None or not client.usable:
            client = await connect(contender.port)
        client.done = lambda _: answered.set()  # noqa: B023 (called before the next turn)
        client.ask(request)
        if expected == 0:
            await asyncio.sleep(0.05 if "stream" in name else 0.0)
            client.close()
            client = None
            counts[name] += 1
        else:
            async with asyncio.timeout(60):
                await answered.wait()
            right = (
                client.status == expected and not client.failed and ("streams" not in name or client.ended)
            )
            counts[name if right else f"{name}: wrong"] += 1
        await asyncio.sleep(_PAUSE_S)
    if client is not None:
        client.close()


async def _sample(contender: Serving, began: float) -> Sample:
    process, counts = contender.process, contender.counts
    assert process is not None
    assert counts is not None
    counts.unlink(missing_ok=True)
    os.kill(process.pid, signal.SIGUSR1)
    async with asyncio.timeout(10):
        while not counts.exists() or not counts.read_text():  # noqa: ASYNC110 (a file has no event)
            await asyncio.sleep(0.02)
    tasks = int(counts.read_text())
    minute = (time.monotonic() - began) / 60
    return Sample(minute, process.memory() / 2**20, process.descriptors(), tasks)


async def _soak(contender: Serving, minutes: float) -> tuple[list[Sample], Counter[str]]:
    """Samples under load, and a first and a last one at rest."""
    counts: Counter[str] = Counter()
    began = time.monotonic()
    samples = [await _sample(contender, began)]
    async with _clients(contender, began + minutes * 60, counts) as all_clients:
        while not all_clients.done():
            await asyncio.wait({all_clients}, timeout=min(minutes * 60 / 60, 15))
            samples.append(await _sample(contender, began))
    await asyncio.sleep(_REST_S)
    samples.append(await _sample(contender, began))
    return samples, counts


@contextlib.asynccontextmanager
async def _clients(
    contender: Serving, end: float, counts: Counter[str]
) -> AsyncIterator[asyncio.Future[list[None]]]:
    clients = [_client(contender, number, end, counts) for number in range(CLIENTS)]
    work = asyncio.gather(*clients)
    yield work
    await work


def slope(samples: list[Sample]) -> float:
    """MiB per minute, by least squares."""
    middle = sum(s.minute for s in samples) / len(samples)
    mean = sum(s.memory for s in samples) / len(samples)
    spread = sum((s.minute - middle) ** 2 for s in samples)
    return sum((s.minute - middle) * (s.memory - mean) for s in samples) / spread if spread else 0.0


def _rows(minutes: float, samples: list[Sample], counts: Counter[str]) -> list[str]:
    loaded = samples[1:-1]
    settled = [sample for sample in loaded if sample.minute >= minutes * _WARM_UP]
    first, last = samples[0], samples[-1]
    third = max(1, len(settled) // 3)
    early, late = (sum(s.memory for s in part) / third for part in (settled[:third], settled[-third:]))
    kinds = ", ".join(f"{number:,} {name}" for name, number in sorted(counts.items()))
    most, tasks = max(s.descriptors for s in loaded), max(s.tasks for s in loaded)
    memory = f"{early:.1f} (first third), {late:.1f} (last third), {slope(settled):+.3f} a minute"
    return [
        f"{minutes:g} minutes, {counts.total():,} requests: {kinds}.",
        "",
        "| | before | under load, after warm-up | at rest again |",
        "|---|---|---|---|",
        f"| memory, MiB | {first.memory:.1f} | {memory} | {last.memory:.1f} |",
        f"| descriptors | {first.descriptors} | at most {most} | {last.descriptors} |",
        f"| tasks | {first.tasks} | at most {tasks} | {last.tasks} |",
    ]


def measure(minutes: float) -> list[str]:
    """Rows of the table."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with engine(directory, 0.02) as (port, _), serving(OURS, directory, [port]) as contender:
            samples, counts = on_other_core(lambda: _soak(contender, minutes))
    return _rows(minutes, samples, counts)


def benchmarks(minutes: float) -> dict[str, Benchmark]:
    """The benchmark for a given time."""
    introduction = (
        f"{CLIENTS} clients send a mix: answers, streams, long prompts, errors, and some leave early. "
        "Targets: less than 1 MiB more after warm-up, no descriptor and no task left over."
    )
    return {"gateway-soak": Benchmark("The gateway for long", introduction, lambda: measure(minutes))}

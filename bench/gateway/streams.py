"""T3: streams of 64 frames at 20 ms."""

from __future__ import annotations

import asyncio
import statistics
from dataclasses import dataclass
from pathlib import Path

from bench.gateway.client import Client, connect, request_of
from bench.gateway.contenders import DIRECT, NAMES, OURS, PATH, QUICK, Serving, body
from bench.gateway.engine import FRAMES
from bench.gateway.measuring import engine, on_other_core, percentile, rounds, spread

STREAMS, SLOW_STREAMS = 100, 10
MANY = 2_000
MANY_NAMES = (OURS, "vllm-router", "nginx")
ROUNDS = 1
_RAMP_S = 1.0
_MANY_TEXT = f"""{MANY:,} streams are more than this engine and these clients can keep to 20 ms on one core;
what counts is that no frame is lost."""


@dataclass(frozen=True)
class Taking:
    """One measurement. Times in milliseconds, processor time in microseconds, memory in bytes."""

    streams: int
    whole: int
    """Streams that told their end and lost no frame."""
    frames: int
    first: float
    """Time to the first frame, p50."""
    transit: float
    """How long frames were on their way, p50."""
    gap: float
    """Time between frames, p99."""
    cpu_us: float
    """For each frame, setting the stream up included."""
    memory: float
    """For each stream, at the most."""


async def _stream(contender: Serving, request: bytes, after_s: float) -> Client | None:
    await asyncio.sleep(after_s)
    ended = asyncio.Event()
    try:
        client = await connect(contender.port, lambda _: ended.set())
        client.ask(request)
        async with asyncio.timeout(120):
            await ended.wait()
    except (OSError, TimeoutError):
        return None
    client.close()
    return client


async def _watch(contender: Serving, most: list[int]) -> None:
    while contender.process is not None:
        most.append(contender.process.memory())
        await asyncio.sleep(0.25)


async def drive(contender: Serving, number: int) -> Taking:
    """Streams at once, begun within a second."""
    request = request_of(contender.port, PATH, contender.headers, body(stream=True))
    process = contender.process
    cpu = process.cpu_s() if process is not None else 0.0
    memory = [process.memory()] if process is not None else [0]
    watch = asyncio.create_task(_watch(contender, memory))
    clients = await asyncio.gather(
        *(_stream(contender, request, _RAMP_S * at / number) for at in range(number))
    )
    watch.cancel()
    used = process.cpu_s() - cpu if process is not None else 0.0
    done = [client for client in clients if client is not None and client.status == 200]
    frames = sum(len(client.arrivals) for client in done)
    gaps = [b - a for client in done for a, b in zip(client.arrivals, client.arrivals[1:], strict=False)]
    return Taking(
        streams=number,
        whole=sum(client.ended and len(client.arrivals) == FRAMES for client in done),
        frames=frames,
        first=percentile([client.first - client.began for client in done], 0.5) * 1000,
        transit=percentile([time for client in done for time in client.transits], 0.5) * 1000,
        gap=percentile(gaps, 0.99) * 1000,
        cpu_us=used / frames * 1e6 if frames else float("nan"),
        memory=(max(memory) - memory[0]) / number,
    )


def _take(contender: Serving, number: int) -> Taking:
    return on_other_core(lambda: drive(contender, number))


def _few(contender: Serving) -> Taking:
    return _take(contender, STREAMS if contender.name in QUICK else SLOW_STREAMS)


def measure(directory: Path) -> list[str]:
    """Rows of two tables: some streams of each contender, and many of those that can have so many."""
    with engine(directory) as (port, _):
        few = rounds(ROUNDS, NAMES, directory, [port], _few)
        many = rounds(1, MANY_NAMES, directory, [port], lambda contender: _take(contender, MANY))
    rows = [
        "| | streams | CPU per frame, µs | first frame, ms | on the way, ms | gap p99, ms | whole |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, at in few.items():
        cpu = "" if name == DIRECT else spread([t.cpu_us for t in at], 1)
        times = " | ".join(
            spread(values) for values in ([t.first for t in at], [t.transit for t in at], [t.gap for t in at])
        )
        rows.append(f"| {name} | {at[0].streams} | {cpu} | {times} | {_whole(at)} |")
    rows += [
        "",
        _MANY_TEXT,
        "",
        "| | frames lost | streams whole | CPU per frame, µs | memory per stream, KB |",
        "|---|---|---|---|---|",
    ]
    for name, at in many.items():
        lost = sum(t.streams * FRAMES - t.frames for t in at)
        cpu_us, memory = (
            statistics.median(v) for v in ([t.cpu_us for t in at], [t.memory / 1000 for t in at])
        )
        rows.append(f"| {name} | {lost} | {_whole(at)} | {cpu_us:.1f} | {memory:.0f} |")
    return rows


def _whole(at: list[Taking]) -> str:
    return f"{sum(t.whole for t in at)} of {sum(t.streams for t in at)}"

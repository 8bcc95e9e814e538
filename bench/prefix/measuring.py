"""Many users, few long system prompts: what each way to choose an engine makes of it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import random
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp

from bench.gateway.environments import environment
from bench.gateway.processes import answers, free_port, running
from bench.page import Benchmark
from bench.prefix import engines
from citadel_llm.schema.routes import Backend, Policy
from citadel_llm.schema.snapshot import Model
from files.app.tests.gateway import harness

USERS, REQUESTS, PROMPTS, ROUNDS = 4, 36, 6, 2
WORDS = 480
"""Of a system prompt; nearly as many tokens."""
_VOCABULARY = (
    *("server", "model", "answer", "request", "token", "memory", "router", "engine", "cache", "prompt"),
    *("system", "user", "question", "reply", "network", "storage", "window", "signal", "record", "number"),
)


@dataclass
class Seen:
    """What the clients of one run saw, and what the engines counted."""

    first_token_s: list[float] = field(default_factory=list)
    seconds: float = 0.0
    hits: float = 0.0
    queries: float = 0.0


@dataclass(frozen=True)
class Target:
    """Where requests go."""

    url: str
    headers: dict[str, str] = field(default_factory=dict)


def system_prompts(seed: int) -> list[str]:
    chance = random.Random(seed)
    return [" ".join(chance.choices(_VOCABULARY, k=WORDS)) for _ in range(PROMPTS)]


@asynccontextmanager
async def citadel(policy: Policy, ports: Sequence[int]) -> AsyncIterator[Target]:
    """The gateway with a policy, in this process. It logs nothing here."""
    backends = tuple(
        Backend(name=f"engine-{n}", url=f"http://127.0.0.1:{port}", model=engines.MODEL)
        for n, port in enumerate(ports)
    )
    model = Model(name=engines.MODEL, backends=backends, policy=policy)
    with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stdout(io.StringIO()):
        fields: dict[str, Any] = {"probes": {"enabled": True}, "access_log": False}
        async with harness.running(Path(directory), [model], **fields) as gateway:
            yield Target(gateway.url, gateway.auth)


@asynccontextmanager
async def router(policy: str, ports: Sequence[int]) -> AsyncIterator[Target]:
    """vllm-router with a policy and otherwise its defaults."""
    port = free_port()
    argv = [str(environment("router") / "vllm-router"), "--host", "127.0.0.1", "--port", str(port)]
    argv += ["--policy", policy, "--log-level", "warning", "--prometheus-port", str(free_port())]
    argv += ["--worker-urls", *(f"http://127.0.0.1:{engine}" for engine in ports)]
    ready = answers(port, "GET", "/v1/models", {}, b"")
    with (
        tempfile.TemporaryDirectory() as directory,
        running(argv, core=0, log=Path(directory) / "log", ready=ready),
    ):
        yield Target(f"http://127.0.0.1:{port}")


Way = Callable[[Sequence[int]], AbstractAsyncContextManager[Target]]
WAYS: tuple[tuple[str, Way], ...] = (
    ("Citadel, `round_robin`", lambda ports: citadel("round_robin", ports)),
    ("Citadel, `least_load`", lambda ports: citadel("least_load", ports)),
    ("Citadel, `prefix`", lambda ports: citadel("prefix", ports)),
    ("vllm-router, `round_robin`", lambda ports: router("round_robin", ports)),
    ("vllm-router, `cache_aware`", lambda ports: router("cache_aware", ports)),
)


async def _ask(session: aiohttp.ClientSession, target: Target, system: str, question: str) -> float:
    """Seconds to the first token of one answer. Raises RuntimeError when there is none."""
    body = {
        "model": engines.MODEL,
        "messages": [{"role": "system", "content": system}, {"role": "user", "content": question}],
        "max_tokens": 4,
        "temperature": 0,
        "stream": True,
    }
    began, first = time.monotonic(), 0.0
    async with session.post(
        f"{target.url}/v1/chat/completions", json=body, headers=target.headers
    ) as response:
        async for line in response.content:
            if not first and b'"content":"' in line and b'"content":""' not in line:
                first = time.monotonic()
        if response.status != 200 or not first:
            raise RuntimeError(f"{target.url} answered {response.status} without a token")
    return first - began


async def _run(way: Way, ports: Sequence[int], seed: int) -> Seen:
    """The same work for every way: who asks next takes the next question."""
    for port in ports:
        engines.empty(port)
    before = [engines.counted(port) for port in ports]
    systems, chance = system_prompts(seed), random.Random(seed)
    work = iter([(chance.choice(systems), f"Question {n}: what next?") for n in range(REQUESTS)])
    seen = Seen()

    async def user(session: aiohttp.ClientSession, target: Target) -> None:
        for system, question in work:
            seen.first_token_s.append(await _ask(session, target, system, question))

    async with way(ports) as target, aiohttp.ClientSession() as session:
        began = time.monotonic()
        await asyncio.gather(*(user(session, target) for _ in range(USERS)))
        seen.seconds = time.monotonic() - began
    for port, (hits, queries) in zip(ports, before, strict=True):
        now = engines.counted(port)
        seen.hits += now[0] - hits
        seen.queries += now[1] - queries
    return seen


def measure() -> list[str]:
    """Rows of a table, one for each way to choose."""
    found: dict[str, list[Seen]] = {name: [] for name, _ in WAYS}
    with tempfile.TemporaryDirectory() as directory, engines.engines(Path(directory)) as ports:
        for turn, (name, way) in itertools.product(range(ROUNDS), WAYS):
            found[name].append(asyncio.run(_run(way, ports, seed=turn)))
            print(f"   {name}: {found[name][-1].seconds:.1f} s", flush=True)
    rows = ["| | found in caches | first token: median, s | mean, s | worst, s | requests/s |"]
    rows.append("|---|---|---|---|---|---|")
    for name, runs in found.items():
        waits = sorted(wait for seen in runs for wait in seen.first_token_s)
        hit = sum(seen.hits for seen in runs) / sum(seen.queries for seen in runs)
        rate = len(waits) / sum(seen.seconds for seen in runs)
        mean = sum(waits) / len(waits)
        rows.append(
            f"| {name} | {hit:.0%} | {median(waits):.2f} | {mean:.2f} | {waits[-1]:.2f} | {rate:.2f} |"
        )
    return rows


INTRODUCTION = (
    "Two real engines: vLLM 0.32 on the CPU, SmolLM2-135M in float32, one core each.\n"
    f"{USERS} users ask one question after the other, each behind one of {PROMPTS} system prompts of about\n"
    f"{WORDS} tokens: {REQUESTS} questions, {ROUNDS} times, the same for every line, and caches emptied\n"
    "before each. A cache holds about four of the prompts, so that one engine's is too small for all of\n"
    "them, and both together are not. Gateway, router and clients share the cores with the engines; the\n"
    "router has its defaults."
)

BENCHMARKS = {"prefix": Benchmark("Prefix affinity on real engines", INTRODUCTION, measure)}

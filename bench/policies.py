"""Which policy suits which work: the gateway's own choice of back ends, in front of simulated engines.

Time is simulated, so the figures are the same on every machine. The engines are simple: they compute
prompts one after the other, skip what is in their prefix cache, and generate for many requests at once.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from statistics import quantiles
from typing import get_args

from bench.page import Benchmark
from citadel_llm.gateway.balancing.backend import Attempt, BackendState, EngineLoad, Outcome
from citadel_llm.gateway.balancing.balancer import Balancer
from citadel_llm.gateway.balancing.route import Surroundings
from citadel_llm.gateway.balancing.wish import Wish
from citadel_llm.schema.routes import Backend, Model, Policy
from citadel_llm.schema.snapshot import seal
from files.app.tests.balancing.fakes import FakeTime

ENGINES, PLACES, SECONDS = 4, 32, 300.0
PREFILL = 20_000.0  # tokens of prompts per second of one engine
TOKEN_S = 0.025  # of one request, whatever else the engine does
CACHE = 4_000  # blocks of an engine's prefix cache
BLOCK = 128  # tokens of a block
POLL_S = 2.0


@dataclass(frozen=True)
class Request:
    """`blocks` name the prompt's blocks, each one together with all before it."""

    blocks: tuple[int, ...]
    output: int
    session: str


@dataclass
class Engine:
    """One engine; `speed` 1 is as the constants say."""

    time: FakeTime
    speed: float
    running: int = 0
    queue: list[tuple[Request, Callable[[float], None], Callable[[], None]]] = field(default_factory=list)
    free_at: float = 0.0
    cache: OrderedDict[int, None] = field(default_factory=OrderedDict)
    hit: int = 0
    seen: int = 0

    def take(self, request: Request, first: Callable[[float], None], done: Callable[[], None]) -> None:
        self.queue.append((request, first, done))
        self._start()

    def _start(self) -> None:
        while self.queue and self.running < PLACES:
            request, first, done = self.queue.pop(0)
            self.running += 1
            known = 0
            while known < len(request.blocks) and request.blocks[known] in self.cache:
                known += 1
            self.hit += known
            self.seen += len(request.blocks)
            for block in request.blocks:
                self.cache[block] = None
                self.cache.move_to_end(block)
            while len(self.cache) > CACHE:
                self.cache.popitem(last=False)
            cost = max(1, len(request.blocks) - known) * BLOCK / PREFILL / self.speed
            self.free_at = max(self.free_at, self.time.now) + cost
            ready = self.free_at
            self.time.call_at(ready, partial(first, ready))
            self.time.call_at(ready + request.output * TOKEN_S / self.speed, partial(self._finish, done))

    def _finish(self, done: Callable[[], None]) -> None:
        self.running -= 1
        done()
        self._start()


def _alone(chance: random.Random) -> Request:
    """Prompts that have nothing in common."""
    start = chance.getrandbits(60)
    blocks = tuple(range(start, start + chance.randint(2, 40)))
    return Request(blocks, int(chance.lognormvariate(4.6, 0.8)), str(start))


def _shared(chance: random.Random) -> Request:
    """One of 200 long beginnings, some much more frequent than others, and a question."""
    which = min(int(chance.paretovariate(0.6)), 200)
    start = chance.getrandbits(60)
    blocks = (*range(which * 1000, which * 1000 + 60), *range(start, start + 3))
    return Request(blocks, int(chance.lognormvariate(4.2, 0.6)), f"user {chance.randrange(400)}")


def _talks(chance: random.Random) -> Request:
    """300 conversations; each turn has all turns before it."""
    which = chance.randrange(300)
    turns = chance.randint(1, 12)
    blocks = tuple(range(which * 1000, which * 1000 + 6 * turns))
    return Request(blocks, int(chance.lognormvariate(4.6, 0.6)), f"talk {which}")


WORK: tuple[tuple[str, Callable[[random.Random], Request], float, tuple[float, ...]], ...] = (
    ("nothing in common", _alone, 16.0, (1, 1, 1, 1)),
    ("nothing in common, one engine at half speed", _alone, 14.0, (1, 1, 1, 0.5)),
    ("200 shared beginnings", _shared, 24.0, (1, 1, 1, 1)),
    ("300 conversations", _talks, 20.0, (1, 1, 1, 1)),
)


class _Run:
    """One policy under one kind of work."""

    def __init__(self, policy: Policy, speeds: tuple[float, ...]) -> None:
        self.time = FakeTime(0.0)
        self.waits: list[float] = []
        chance = random.Random(7)
        balancer = Balancer(Surroundings(timers=self.time, random=chance.random))
        backends = tuple(Backend(name=f"e{n}", url=f"http://e{n}:1", model="m") for n in range(len(speeds)))
        balancer.apply(seal([Model(name="m", backends=backends, policy=policy)], [])[0])
        self.route = balancer.routes["m"]
        self.engines = {
            backend: Engine(self.time, speed)
            for backend, speed in zip(self.route.backends, speeds, strict=True)
        }

    def send(self, request: Request) -> None:
        wish = Wish(session=request.session, blocks=request.blocks, abandon=lambda: None)
        attempt = self.route.take(wish)
        assert attempt is not None
        arrived = self.time.now

        def first(at: float) -> None:
            self.waits.append(at - arrived)
            attempt.first_byte(at)

        self.engines[attempt.backend].take(request, first, lambda: self._end(attempt))

    def _end(self, attempt: Attempt) -> None:
        attempt.end(Outcome.FINISHED, self.time.now)

    def poll(self) -> None:
        for backend, engine in self.engines.items():
            self._tell(backend, engine)
        self.time.call_at(self.time.now + POLL_S, self.poll)

    def _tell(self, backend: BackendState, engine: Engine) -> None:
        backend.polled_load(EngineLoad(engine.running, len(engine.queue), 0.5), self.time.now)


def simulate(
    policy: Policy, work: Callable[[random.Random], Request], rate: float, speeds: tuple[float, ...]
) -> tuple[float, float, float]:
    """Seconds to the first token, median and 99th percentile, and the share of blocks found in caches."""
    run = _Run(policy, speeds)
    chance = random.Random(11)
    run.poll()
    while run.time.now < SECONDS:
        run.time.go(chance.expovariate(rate))
        run.send(work(chance))
    run.time.go(60.0)
    cuts = quantiles(run.waits, n=100)
    hit = sum(engine.hit for engine in run.engines.values())
    seen = sum(engine.seen for engine in run.engines.values())
    return cuts[49], cuts[98], hit / seen


def measure() -> list[str]:
    """Rows of a table: a line for each kind of work, a column for each policy."""
    names: tuple[Policy, ...] = get_args(Policy)
    rows = ["| work | " + " | ".join(f"`{name}`" for name in names) + " |", "|---" * (len(names) + 1) + "|"]
    for name, work, rate, speeds in WORK:
        found = [simulate(policy, work, rate, speeds) for policy in names]
        cells = [f"{mid * 1000:.0f} / {high * 1000:.0f} ms, {hit:.0%}" for mid, high, hit in found]
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return rows


INTRODUCTION = (
    f"The gateway's own choice of back ends in front of {ENGINES} simulated engines, in simulated time: the\n"
    "time to the first token, median and 99th percentile, and the share of prompt blocks found in a\n"
    "prefix cache. An engine computes prompts one after the other, skips what it has cached, and generates\n"
    f"for {PLACES} requests at once. Hence the default, `prefix`: it is `least_load` where nothing is shared."
)

BENCHMARKS = {"policies": Benchmark("Policies", INTRODUCTION, measure)}

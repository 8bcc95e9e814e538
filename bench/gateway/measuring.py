"""What all parts of the benchmark share: contenders taking turns, and figures as text."""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import uvloop

from bench.gateway.contenders import QUICK, Serving, serving
from bench.gateway.environments import HERE, environment
from bench.gateway.processes import OTHER_CORE, Running, accepts, free_port, running

T = TypeVar("T")
Taken = dict[str, list[T]]


@contextlib.contextmanager
def engine(directory: Path, delay_s: float = 0.0) -> Iterator[tuple[int, Running]]:
    """The port and the process of an engine for measurements."""
    port = free_port()
    argv = [str(environment("app") / "python"), str(HERE / "engine.py"), str(port), str(delay_s)]
    log = directory / f"engine-{port}.log"
    with running(argv, core=OTHER_CORE, log=log, ready=accepts(port)) as process:
        yield port, process


def rounds(
    number: int,
    names: Sequence[str],
    directory: Path,
    engines: Sequence[int],
    take: Callable[[Serving], T],
) -> Taken[T]:
    """What `take` measured of each contender, round by round; the slow ones are in the first round only."""
    found: Taken[T] = {name: [] for name in names}
    for turn in range(number):
        for name in names if turn == 0 else [name for name in names if name in QUICK]:
            with serving(name, directory, engines) as contender:
                found[name].append(take(contender))
    return found


def on_other_core(work: Callable[[], Awaitable[T]]) -> T:
    """Run a coroutine where it does not disturb the contender."""

    async def main() -> T:
        return await work()

    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {OTHER_CORE})
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(main())
    finally:
        os.sched_setaffinity(0, before)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median and range."""
    if not values:
        return ""
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def percentile(values: Sequence[float], part: float) -> float:
    """The value below which `part` (0 to 1) of them lie; not a number when there is none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else float("nan")

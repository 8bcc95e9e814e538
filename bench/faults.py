"""What clients see of an engine that fails under load, while another one works."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from bench.page import ROOT, Benchmark
from citadel_llm.schema.routes import Backend
from citadel_llm.schema.snapshot import Model
from files.app.tests.gateway.faults import Results, ask
from files.app.tests.gateway.harness import MODEL, Running, running

CLIENTS = 32
BEFORE_S, AFTER_S = 1.5, 6.0
# Defaults, but for waits that would make the run long.
SETTINGS: dict[str, Any] = {
    "probes": {"enabled": True, "real_timeout_s": 2},
    "stall": {"after_s": 2},
    "timeouts": {"first_byte_s": 2.5},
    "access_log": False,
}
# Behaviour of the engine's process, the signal that begins the fault, and what it is called.
CASES = (
    ("none", signal.SIGKILL, "killed (SIGKILL)"),
    ("none", signal.SIGSTOP, "hung (SIGSTOP)"),
    ("hangs-inside", signal.SIGUSR1, "hung, `/health` fine"),
    ("slow", signal.SIGUSR1, "slow"),
    ("closes", signal.SIGUSR1, "closing before the first byte"),
    ("breaks", signal.SIGUSR1, "closing mid-stream"),
    ("garbage", signal.SIGUSR1, "answering garbage"),
    ("full", signal.SIGUSR1, "full (503)"),
)


class Timed(Results):
    """Counts, and the longest request."""

    longest = 0.0


@contextlib.asynccontextmanager
async def _engine(fault: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.fault_engine", fault),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "files/app/src")))},
    )
    assert process.stdout is not None
    try:
        yield process, int(await process.stdout.readline())
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _client(gateway: Running, results: Timed, number: int, end: float) -> None:
    turn = number
    while time.monotonic() < end:
        began = time.monotonic()
        await ask(gateway, results, stream=turn % 2 == 0)
        results.longest = max(results.longest, time.monotonic() - began)
        turn += 1


async def _case(fault: str, begin: signal.Signals) -> tuple[Timed, float]:
    """What clients saw, and the attempts that another engine had to make good, in parts of all."""
    async with _engine(fault) as (ill, ill_port), _engine("none") as (_, well_port):
        backends = tuple(
            Backend(name=name, url=f"http://127.0.0.1:{port}", model="served")
            for name, port in (("ill", ill_port), ("well", well_port))
        )
        results = Timed()
        with tempfile.TemporaryDirectory() as directory:
            model = Model(name=MODEL, backends=backends)
            async with running(Path(directory), [model], **SETTINGS) as gateway:
                end = time.monotonic() + BEFORE_S + AFTER_S
                clients = [asyncio.create_task(_client(gateway, results, n, end)) for n in range(CLIENTS)]
                await asyncio.sleep(BEFORE_S)
                ill.send_signal(begin)
                await asyncio.gather(*clients)
                route = gateway.process.engines.balancer.routes[MODEL]
                state = route.backends[0]
                moved = sum(n for o, n in state.outcomes.items() if o.failure or o.label == "abandoned")
                total = sum(results.counts.values())
        return results, moved / total


def measure() -> list[str]:
    """Rows of a table, one for each fault."""
    rows = ["| one of two engines is | requests | failed | ended by an error event | made good | longest |"]
    rows.append("|---|---|---|---|---|---|")
    for fault, begin, name in CASES:
        with contextlib.redirect_stdout(io.StringIO()):  # the gateway's log
            results, moved = asyncio.run(_case(fault, begin))
        counts = results.counts
        failed = sum(counts.values()) - counts["ok"] - counts["error event"]
        rows.append(
            f"| {name} | {sum(counts.values())} | {failed} | {counts['error event']} "
            f"| {moved:.1%} | {results.longest:.2f} s |"
        )
    return rows


INTRODUCTION = (
    f"{CLIENTS} clients send requests to two engines without a pause, every other one a stream. After\n"
    f"{BEFORE_S:g} s one engine begins to fail, and {AFTER_S:g} s later the run ends. *Failed* is what is\n"
    "not a whole answer, apart from streams that had begun when their engine died: these end with an error\n"
    "event, as they must. *Made good* are attempts that failed on the one engine and were repeated on the\n"
    f"other, unseen by the client. Here a first byte may take {SETTINGS['timeouts']['first_byte_s']:g} s,\n"
    f"and a silent one is asked for a token after {SETTINGS['stall']['after_s']:g} s (default: 600 s, 30 s)."
)

BENCHMARKS = {"faults": Benchmark("Engines that fail under load", INTRODUCTION, measure)}

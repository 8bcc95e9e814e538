"""An engine in a process of its own that works until SIGUSR1 and then fails as its argument says."""

from __future__ import annotations

import asyncio
import signal
import sys

from files.app.tests.gateway import faults
from files.app.tests.gateway.mock_engine import Behaviour, MockEngine

BEHAVIOURS: dict[str, Behaviour] = {
    "hangs-inside": faults.silent,
    "slow": faults.slow,
    "closes": faults.closes_at_once,
    "breaks": faults.closes_mid_stream,
    "garbage": faults.talks_nonsense,
    "full": faults.answers("503 Service Unavailable"),
    "none": faults.works,
}


async def _serve(fault: str) -> None:
    engine = MockEngine()
    engine.behaviour = faults.works

    def fail() -> None:
        engine.behaviour = BEHAVIOURS[fault]

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, fail)
    await engine.start()
    print(engine.port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))

"""Load on the API, in a thread of its own, while a test changes things below it."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from conftest import ADDRESS, MODEL, SIMULATED

CLIENTS, STRANGERS = 20, 4
"""Clients that keep their connection, and clients that open one for each request."""
REQUEST_S, LONGEST_S = 60, 300
_WORDS: list[Any] = [{"role": "user", "content": "Say one word."}]


@dataclass
class Results:
    """What clients saw. `failures` holds everything that is not a whole, good answer."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    longest_s: float = 0.0
    seconds: float = 0.0
    times: int = 0
    """How often the change was made."""

    @property
    def total(self) -> int:
        return sum(self.counts.values()) + len(self.failures)

    def __str__(self) -> str:
        kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(self.counts.items()))
        return (
            f"{self.times} times in {self.seconds:.1f} s: {self.total} requests ({kinds}), "
            f"{len(self.failures)} failed, longest {self.longest_s:.2f} s {self.failures[:5]}"
        )


@dataclass(frozen=True)
class Load:
    """Clients of the API. They repeat nothing: what fails once has failed."""

    ca: Path
    key: str

    def during(
        self, change: Callable[[], None], *, least: int, times: int = 1, pause_s: float = 0
    ) -> Results:
        """Make a change so often at least, and load the API until that is over and enough was asked.

        Each client waits `pause_s` before its next request.
        """
        results, stop = Results(), threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(self._run(results, stop, pause_s)))
        began = time.monotonic()
        thread.start()
        try:
            while results.times < times:
                time.sleep(0.5)
                change()
                results.times += 1
            while results.total < least and time.monotonic() < began + LONGEST_S:
                time.sleep(0.1)
        finally:
            stop.set()
            thread.join()
            results.seconds = time.monotonic() - began
        return results

    async def _run(self, results: Results, stop: threading.Event, pause_s: float) -> None:
        async with self._session(keep=True) as kept, self._session(keep=False) as new:
            clients = [_client(kept, results, stop, pause_s, number) for number in range(CLIENTS)]
            clients += [_client(new, results, stop, pause_s, number) for number in range(STRANGERS)]
            await asyncio.gather(*clients, _real(kept, results, stop))

    @asynccontextmanager
    async def _session(self, *, keep: bool) -> AsyncIterator[aiohttp.ClientSession]:
        connector = aiohttp.TCPConnector(
            ssl=ssl.create_default_context(cafile=str(self.ca)), limit=0, force_close=not keep
        )
        async with aiohttp.ClientSession(
            f"https://{ADDRESS}",
            connector=connector,
            headers={"Authorization": f"Bearer {self.key}"},
            timeout=aiohttp.ClientTimeout(total=REQUEST_S),
        ) as session:
            yield session


async def _client(
    session: aiohttp.ClientSession, results: Results, stop: threading.Event, pause_s: float, number: int
) -> None:
    kind = "on new connections" if session.connector.force_close else "simulated"  # type: ignore[union-attr]
    while not stop.is_set():
        number += 1
        stream = number % 5 == 0
        await _ask(session, results, f"{kind}, streams" if stream else kind, SIMULATED, stream=stream)
        await asyncio.sleep(pause_s)


async def _real(session: aiohttp.ClientSession, results: Results, stop: threading.Event) -> None:
    """One request of a real engine after the other, every other one a stream.

    There is time between them: vLLM's worker spins for a second after each, on one of the two cores.
    """
    number = 0
    while not stop.is_set():
        number += 1
        await _ask(session, results, "real", MODEL, stream=number % 2 == 0)
        await asyncio.sleep(3)


async def _ask(
    session: aiohttp.ClientSession, results: Results, kind: str, model: str, *, stream: bool
) -> None:
    body = {"model": model, "messages": _WORDS, "max_tokens": 2, "stream": stream}
    began = time.monotonic()
    try:
        async with session.post("/v1/chat/completions", json=body) as response:
            text = await response.read()
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        results.failures.append(f"{kind}: {error!r}")
        return
    finally:
        results.longest_s = max(results.longest_s, time.monotonic() - began)
    if response.status != 200 or (stream and not text.endswith(b"data: [DONE]\n\n")):
        results.failures.append(f"{kind}: {response.status} {text[-300:]!r}")
    else:
        results.counts[kind] += 1

"""Engines that fail in the ways that real ones do, and clients that go on while they do."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp

from files.app.tests.gateway.harness import MODEL, Running
from files.app.tests.gateway.mock_engine import COMPLETION, Behaviour, MockEngine, Received, event

Fault = Callable[[MockEngine], Awaitable[None]]
_WORK_S = 0.01
DONE = b"data: [DONE]\n\n"


async def works(request: Received) -> None:
    """Takes a moment, and answers."""
    await asyncio.sleep(_WORK_S)
    if request.path == "/v1/completions" or not request.json.get("stream"):
        await request.connection.json(COMPLETION)
        return
    await request.connection.start_stream()
    for word in ("Pa", "ris"):
        await request.connection.chunk(event(word))
        await asyncio.sleep(_WORK_S / 4)
    await request.connection.chunk(DONE)
    await request.connection.end_stream()


async def silent(request: Received) -> None:
    """Takes a request and never answers it, nor any other."""
    await request.connection.closed.wait()


async def slow(request: Received) -> None:
    """Answers much later than anybody waits."""
    await asyncio.wait({asyncio.create_task(request.connection.closed.wait())}, timeout=30)
    if not request.connection.closed.is_set():
        await request.connection.json(COMPLETION)


async def closes_at_once(request: Received) -> None:
    """Closes the connection without a word."""
    await asyncio.sleep(_WORK_S)
    request.connection.abort()


async def closes_mid_stream(request: Received) -> None:
    """Begins an answer and closes the connection within it."""
    await asyncio.sleep(_WORK_S)
    await request.connection.start_stream()
    await request.connection.chunk(event("Pa") + b"data: {half")
    await asyncio.sleep(_WORK_S)
    request.connection.abort()


async def hangs_mid_stream(request: Received) -> None:
    """Begins an answer and says nothing more."""
    await request.connection.start_stream()
    await request.connection.chunk(event("Pa") + b"data: {half")
    await request.connection.closed.wait()


async def talks_nonsense(request: Received) -> None:
    """Speaks another protocol."""
    await asyncio.sleep(_WORK_S)
    await request.connection.write(b"220 mail ESMTP\r\n\r\n")


def answers(status: str) -> Behaviour:
    """Says that it cannot."""

    async def behave(request: Received) -> None:
        await asyncio.sleep(_WORK_S)
        await request.connection.json({"error": {"message": "no", "type": "x"}}, status)

    return behave


def behaves(behaviour: Behaviour) -> Fault:
    async def begin(engine: MockEngine) -> None:
        engine.behaviour = behaviour

    return begin


async def is_killed(engine: MockEngine) -> None:
    """SIGKILL: the port is closed, and every connection ends."""
    await engine.stop()


async def hangs(engine: MockEngine) -> None:
    """SIGSTOP: connections are accepted, and nothing is answered, whatever is under way."""
    engine.hung = True
    engine.behaviour = silent


async def hangs_inside(engine: MockEngine) -> None:
    """The engine's loop hangs; the server in front of it still says that it is healthy."""
    engine.behaviour = silent


@dataclass
class Results:
    """What clients saw. A stream that ended with an error event had begun; what else failed had not."""

    counts: Counter[str] = field(default_factory=Counter)
    details: list[str] = field(default_factory=list)

    def add(self, what: str, detail: str = "") -> None:
        self.counts[what] += 1
        if detail:
            self.details.append(f"{what}: {detail}")


async def load(
    gateway: Running, *, clients: int, requests: int, results: Results, stream: bool | None = None
) -> None:
    """So many clients, each with so many requests one after the other; streams and others take turns."""

    async def one(number: int) -> None:
        for turn in range(requests):
            streams = (number + turn) % 2 == 0 if stream is None else stream
            await ask(gateway, results, stream=streams)

    await asyncio.gather(*(one(number) for number in range(clients)))


async def ask(gateway: Running, results: Results, *, stream: bool) -> None:
    """One request; its result is counted."""
    body = {"model": MODEL, "messages": [], "stream": stream}
    try:
        async with await gateway.chat(body) as response:
            text = await response.read()
    except (aiohttp.ClientError, OSError) as error:
        results.add("cut", repr(error))
        return
    if response.status != 200:
        results.add(f"status {response.status}", text.decode())
    elif not stream or text.endswith(DONE):
        results.add("ok")
    elif b'data: {"error"' in text and text.endswith(b"\n\n"):
        results.add("error event")
    else:
        results.add("incomplete", text.decode())

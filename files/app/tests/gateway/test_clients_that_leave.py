"""When nobody waits for an answer any more, the engine's work ends."""

from __future__ import annotations

import asyncio
import time

import pytest

from files.app.tests.gateway.harness import MODEL, Running, until
from files.app.tests.gateway.mock_engine import MockEngine, Received, event


@pytest.mark.parametrize("stream", [False, True])
async def test_before_the_first_byte(gateway: Running, engine: MockEngine, stream: bool) -> None:
    working, noticed = asyncio.Event(), asyncio.Event()

    async def behave(request: Received) -> None:
        working.set()
        await asyncio.wait_for(request.connection.closed.wait(), 20)
        noticed.set()

    engine.behaviour = behave
    waits = []
    for _ in range(5):
        working.clear()
        noticed.clear()
        call = asyncio.create_task(gateway.chat({"model": MODEL, "stream": stream}))
        await asyncio.wait_for(working.wait(), 20)
        left = time.monotonic()
        call.cancel()
        await asyncio.wait_for(noticed.wait(), 20)
        waits.append(time.monotonic() - left)
    assert min(waits) < 0.1  # the others tell how busy the machine is
    await _accounted(gateway, "499", 5)


async def test_in_the_middle_of_a_stream(gateway: Running, engine: MockEngine) -> None:
    noticed = asyncio.Event()

    async def behave(request: Received) -> None:
        await request.connection.start_stream()
        await request.connection.chunk(event("a"))
        await asyncio.wait_for(request.connection.closed.wait(), 20)
        noticed.set()

    engine.behaviour = behave
    response = await gateway.chat({"model": MODEL, "stream": True})
    await response.content.readexactly(len(event("a")))
    response.close()
    await asyncio.wait_for(noticed.wait(), 20)
    await _accounted(gateway, "200", 1)


async def test_while_the_body_is_still_on_its_way(gateway: Running, engine: MockEngine) -> None:
    head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n"
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(f"{head}content-length: 100\r\n\r\n{{".encode())
    await writer.drain()
    await until(lambda: gateway.process.gateway.in_flight == 1)
    writer.close()
    await until(lambda: gateway.process.gateway.in_flight == 0)
    assert engine.requests == []


async def test_many_who_leave_leave_nothing_behind(gateway: Running, engine: MockEngine) -> None:
    async def behave(request: Received) -> None:
        await request.connection.start_stream()
        await request.connection.closed.wait()

    engine.behaviour = behave
    before = len(asyncio.all_tasks())
    calls = [asyncio.create_task(gateway.chat({"model": MODEL, "stream": True})) for _ in range(50)]
    await until(lambda: len(engine.requests) == 50)
    for call in calls:
        call.cancel()
    await until(lambda: gateway.process.gateway.in_flight == 0)
    route = gateway.process.snapshots.table.route(MODEL) if gateway.process.snapshots.table else None
    assert route is not None
    assert [backend.in_flight for backend in route.backends] == [0]
    await until(lambda: len(asyncio.all_tasks()) <= before + 2)  # those of the client's own pool


async def _accounted(gateway: Running, code: str, count: int) -> None:
    await until(lambda: gateway.process.gateway.in_flight == 0)
    text = await gateway.metrics()
    requests = f'citadel_gateway_requests_total{{code="{code}",endpoint="chat_completions",model="{MODEL}"}}'
    assert f"{requests} {count}.0" in text
    assert f'citadel_gateway_failures_total{{cause="client_gone",model="{MODEL}"}} {count}.0' in text
    assert f'citadel_gateway_requests_in_flight{{model="{MODEL}"}} 0.0' in text

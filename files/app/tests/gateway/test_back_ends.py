"""Several back ends: turns, and moving on when one fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from files.app.tests.gateway.harness import MODEL, Running, model_of, running
from files.app.tests.gateway.mock_engine import MockEngine, Received, answer, event

MakeEngine = Callable[[], Awaitable[MockEngine]]


async def _statuses(gateway: Running, count: int) -> list[int]:
    statuses = []
    for _ in range(count):
        async with await gateway.chat() as response:
            await response.read()
            statuses.append(response.status)
    return statuses


async def test_back_ends_take_turns(tmp_path: Path, make_engine: MakeEngine) -> None:
    engines = [await make_engine() for _ in range(3)]
    async with running(tmp_path, [model_of(*engines)]) as gateway:
        assert await _statuses(gateway, 9) == [200] * 9
    assert [len(engine.requests) for engine in engines] == [3, 3, 3]


async def test_no_request_fails_while_one_back_end_lives(tmp_path: Path, make_engine: MakeEngine) -> None:
    dead, alive = await make_engine(), await make_engine()
    await dead.stop()
    breaker = {"open_s": 60, "open_max_s": 60}
    async with running(tmp_path, [model_of(dead, alive)], breaker=breaker) as gateway:
        assert await _statuses(gateway, 6) == [200] * 6
        text = await gateway.metrics()
    assert len(alive.requests) == 6
    failures = "citadel_gateway_backend_failures_total"
    # It is tried once and then passed over.
    assert f'{failures}{{backend="engine-0",cause="unreachable",model="{MODEL}"}} 1.0' in text
    assert f'citadel_gateway_backend_up{{backend="engine-0",model="{MODEL}"}} 0.0' in text


async def test_a_back_end_that_returns_is_used_again(tmp_path: Path, make_engine: MakeEngine) -> None:
    first, second = await make_engine(), await make_engine()
    await first.stop()
    fields = {"breaker": {"open_s": 0.05}, "slow_start": {"duration_s": 0}}
    async with running(tmp_path, [model_of(first, second)], **fields) as gateway:
        assert await _statuses(gateway, 2) == [200, 200]
        await first.start()
        await asyncio.sleep(0.06)
        assert await _statuses(gateway, 2) == [200, 200]
        assert len(first.requests) == 1
        assert (
            f'citadel_gateway_backend_up{{backend="engine-0",model="{MODEL}"}} 1.0' in await gateway.metrics()
        )


async def test_a_connection_lost_before_the_first_byte_is_made_good(
    tmp_path: Path, make_engine: MakeEngine
) -> None:
    dying, alive = await make_engine(), await make_engine()

    async def die(request: Received) -> None:
        request.connection.abort()

    async def die_after_headers(request: Received) -> None:
        await request.connection.start_stream()
        request.connection.abort()

    async with running(tmp_path, [model_of(dying, alive)]) as gateway:
        for behaviour in (die, die_after_headers):
            dying.behaviour = behaviour
            assert await _statuses(gateway, 4) == [200] * 4
    assert len(alive.requests) == 8
    assert len(dying.requests) == 4


async def test_a_lone_back_end_is_tried_once_more(gateway: Running, engine: MockEngine) -> None:
    async def die_once(request: Received) -> None:
        engine.behaviour = answer
        request.connection.abort()

    engine.behaviour = die_once
    assert await _statuses(gateway, 1) == [200]
    assert len(engine.requests) == 2

    async def die(request: Received) -> None:
        request.connection.abort()

    engine.behaviour = die
    async with await gateway.chat() as response:
        assert response.status == 502
        assert response.headers["retry-after"] == "2"
    assert len(engine.requests) == 4


async def test_nothing_is_sent_again_after_the_first_byte(tmp_path: Path, make_engine: MakeEngine) -> None:
    engines = [await make_engine(), await make_engine()]

    async def die(request: Received) -> None:
        await request.connection.start_stream()
        await request.connection.chunk(event("a"))
        await asyncio.sleep(0.05)
        request.connection.abort()

    for engine in engines:
        engine.behaviour = die
    async with running(tmp_path, [model_of(*engines)]) as gateway, await gateway.chat() as response:
        await response.read()
    assert sum(len(engine.requests) for engine in engines) == 1


async def test_connections_to_engines_are_used_again(gateway: Running, engine: MockEngine) -> None:
    assert await _statuses(gateway, 20) == [200] * 20
    assert engine.connections == 1


async def test_readiness_asks_the_back_ends(tmp_path: Path, make_engine: MakeEngine) -> None:
    first, second, other = [await make_engine() for _ in range(3)]
    models = [model_of(first, second), model_of(other, name="other")]
    async with running(tmp_path, models) as gateway:

        async def ready() -> tuple[int, dict[str, dict[str, object]]]:
            gateway.process.internal._probes = None  # what was found within the last second would do
            async with gateway.http.get(gateway.internal + "/ready") as response:
                return response.status, (await response.json())["models"]

        assert (await ready())[0] == 200
        first.healthy = False
        status, found = await ready()
        assert status == 200
        assert found[MODEL]["backends"] == {
            "engine-0": {"up": False, "detail": "HTTP 503"},
            "engine-1": {"up": True, "detail": "HTTP 200"},
        }
        await second.stop()
        status, found = await ready()
        assert status == 503
        assert [found[name]["ready"] for name in (MODEL, "other")] == [False, True]
        async with gateway.http.get(gateway.internal + "/live") as response:
            assert response.status == 200

"""Faults under load: no request that has no first byte yet fails while another back end lives."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from files.app.tests.gateway import faults
from files.app.tests.gateway.faults import Fault, Results, load
from files.app.tests.gateway.harness import MODEL, model_of, running, until
from files.app.tests.gateway.mock_engine import MockEngine

pytestmark = pytest.mark.slow

MakeEngine = Callable[[], Awaitable[MockEngine]]
CLIENTS, REQUESTS = 16, 8

# Everything that takes seconds in earnest takes a fraction here.
QUICK: dict[str, Any] = {
    "probes": {"enabled": True, "interval_s": 0.1, "timeout_s": 0.6, "real_timeout_s": 0.8},
    "stall": {"after_s": 0.4},
    "slow_start": {"duration_s": 0.2},
}
NO_FIRST_BYTE = [
    (faults.is_killed, "killed"),
    (faults.hangs, "hung"),
    (faults.hangs_inside, "hung inside"),
    (faults.behaves(faults.slow), "slow"),
    (faults.behaves(faults.closes_at_once), "closing"),
    (faults.behaves(faults.talks_nonsense), "garbage"),
    (faults.behaves(faults.answers("503 Service Unavailable")), "full"),
    (faults.behaves(faults.answers("500 Internal Server Error")), "failing"),
]


@contextlib.asynccontextmanager
async def two_engines(tmp_path: Path, make_engine: MakeEngine, **fields: Any) -> Any:
    engines = [await make_engine(), await make_engine()]
    for engine in engines:
        engine.behaviour = faults.works
    settings = QUICK | fields
    async with running(tmp_path, [model_of(*engines)], **settings) as gateway:
        yield gateway, engines


@pytest.mark.parametrize(("fault", "name"), NO_FIRST_BYTE, ids=[name for _, name in NO_FIRST_BYTE])
async def test_what_has_no_first_byte_is_made_good(
    tmp_path: Path, make_engine: MakeEngine, fault: Fault, name: str
) -> None:
    results = Results()
    # A slow engine is left when the first byte takes too long; a hung one is found by its silence.
    first_byte_s = 1 if name == "slow" else 30
    fields = {"timeouts": {"first_byte_s": first_byte_s}, "stall": {"after_s": 20 if name == "slow" else 0.4}}
    async with two_engines(tmp_path, make_engine, **fields) as (gateway, engines):
        # Answers that do not stream have their first byte and their last one together.
        running_load = asyncio.create_task(
            load(gateway, clients=CLIENTS, requests=REQUESTS, results=results, stream=False)
        )
        await until(lambda: results.counts["ok"] >= CLIENTS)
        await fault(engines[0])
        await asyncio.wait_for(running_load, 60)
        assert results.counts == {"ok": CLIENTS * REQUESTS}, results.details[:3]
        before = len(engines[0].requests)
        await load(gateway, clients=2, requests=5, results=results, stream=False)
        assert len(engines[0].requests) - before <= 5  # it is out, but for trials


async def test_an_engine_that_refuses_from_the_start(tmp_path: Path, make_engine: MakeEngine) -> None:
    results = Results()
    async with two_engines(tmp_path, make_engine) as (gateway, engines):
        await engines[0].stop()
        await load(gateway, clients=CLIENTS, requests=4, results=results)
    assert results.counts == {"ok": CLIENTS * 4}, results.details[:3]


@pytest.mark.parametrize("fault", [faults.is_killed, faults.behaves(faults.closes_mid_stream)])
async def test_streams_that_had_begun_end_with_an_error_event(
    tmp_path: Path, make_engine: MakeEngine, fault: Fault
) -> None:
    results = Results()
    async with two_engines(tmp_path, make_engine) as (gateway, engines):
        running_load = asyncio.create_task(
            load(gateway, clients=CLIENTS, requests=REQUESTS, results=results, stream=True)
        )
        await until(lambda: results.counts["ok"] >= CLIENTS)
        await fault(engines[0])
        await asyncio.wait_for(running_load, 60)
    assert set(results.counts) <= {"ok", "error event"}, results.details[:3]
    assert results.counts["ok"] > CLIENTS * REQUESTS / 2
    if fault is not faults.is_killed:
        assert results.counts["error event"] > 0


@pytest.mark.parametrize(
    ("fault", "path", "error"),
    [
        (faults.hangs, "/v1/chat/completions", b'data: {"error": {"message": "The engine sent nothing'),
        (
            faults.hangs_inside,
            "/v1/chat/completions",
            b'data: {"error": {"message": "The engine sent nothing',
        ),
        (faults.hangs_inside, "/v1/messages", b'event: error\ndata: {"type": "error", "error": {"type": "t'),
        (faults.hangs_inside, "/v1/responses", b'event: error\ndata: {"type": "error", "message": "The e'),
    ],
)
async def test_a_stream_that_has_begun_on_an_engine_that_hangs_ends_before_its_own_time(
    tmp_path: Path, make_engine: MakeEngine, fault: Fault, path: str, error: bytes
) -> None:
    engine = await make_engine()
    engine.behaviour = faults.hangs_mid_stream
    body = {"model": MODEL, "messages": [], "stream": True}
    async with running(tmp_path, [model_of(engine)], **QUICK, timeouts={"idle_s": 600}) as gateway:
        async with await gateway.chat(body, path=path) as response:
            text = await response.content.readany()
            await fault(engine)
            text += await asyncio.wait_for(response.read(), 60)
        assert b"data: {half\n\n" + error in text
        assert text.endswith(b"}\n\n")
        assert 'cause="backend_hangs"' in await gateway.metrics()


@pytest.mark.parametrize("fault", [faults.is_killed, faults.hangs, faults.hangs_inside])
async def test_it_returns_by_itself(tmp_path: Path, make_engine: MakeEngine, fault: Fault) -> None:
    results = Results()
    async with two_engines(tmp_path, make_engine) as (gateway, engines):
        ill = engines[0]
        await fault(ill)
        await load(gateway, clients=8, requests=4, results=results, stream=False)
        state = gateway.process.engines.balancer.routes[MODEL].backends[0]
        await until(lambda: state.closed_until > 0)
        ill.hung, ill.behaviour = False, faults.works
        if fault is faults.is_killed:
            await ill.start()
        await until(lambda: state.closed_until <= asyncio.get_running_loop().time())
        served = len(ill.requests)
        await load(gateway, clients=8, requests=8, results=results, stream=False)
        assert len(ill.requests) > served
    assert results.counts == {"ok": 8 * 12}, results.details[:3]


async def test_nobody_is_left_in_flight(tmp_path: Path, make_engine: MakeEngine) -> None:
    results = Results()
    async with two_engines(tmp_path, make_engine) as (gateway, engines):
        for fault, _ in NO_FIRST_BYTE:
            engines[0].behaviour = faults.works
            await fault(engines[0])
            await load(gateway, clients=6, requests=2, results=results)
            if fault is faults.is_killed:
                await engines[0].start()
            engines[0].hung = False
        route = gateway.process.engines.balancer.routes[MODEL]
        engines[0].behaviour = faults.works
        await until(lambda: sum(backend.in_flight for backend in route.backends) == 0)
        assert (route.budget.in_flight, route.queue.waiting) == (0, 0)
        for backend in route.backends:
            assert sum(backend.outcomes.values()) == backend.attempts
            assert backend._waiting == backend._begun == {}


async def test_the_last_engine_left_is_not_given_up(tmp_path: Path, make_engine: MakeEngine) -> None:
    """Both fail at times: as long as an attempt can succeed, it is made."""
    results = Results()
    calls = 0

    async def sometimes(request: Any) -> None:
        nonlocal calls
        calls += 1
        await (faults.closes_at_once if calls % 4 == 0 else faults.works)(request)

    async with two_engines(tmp_path, make_engine) as (gateway, engines):
        for engine in engines:
            engine.behaviour = sometimes
        await load(gateway, clients=1, requests=40, results=results, stream=False)
    assert results.counts == {"ok": 40}, results.details[:3]

"""Arms, copies, fallbacks, queues and pauses, as clients and operators of a whole gateway meet them."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from citadel_llm.keys.records import new_key
from citadel_llm.schema.routes import Arm, Queue
from citadel_llm.schema.snapshot import Model
from citadel_llm.telemetry.access import AccessLog
from files.app.tests.gateway import faults
from files.app.tests.gateway.harness import (
    MODEL,
    Running,
    key_entry,
    model_of,
    running,
    until,
    write_snapshot,
)
from files.app.tests.gateway.mock_engine import MockEngine, Received, answer

MakeEngine = Callable[[], Awaitable[MockEngine]]


def with_limit(model: Model, limit: int) -> Model:
    backends = tuple(backend.model_copy(update={"max_in_flight": limit}) for backend in model.backends)
    return model.model_copy(update={"backends": backends})


async def arm_of(gateway: Running, body: dict[str, Any] | None = None, **headers: str) -> str | None:
    async with await gateway.chat({"model": MODEL, "messages": []} | (body or {}), **headers) as response:
        await response.read()
        assert response.status == 200
        return response.headers.get("x-citadel-arm")


async def test_an_answer_tells_its_arm_and_a_client_stays_on_it(
    tmp_path: Path, make_engine: MakeEngine
) -> None:
    engines = [await make_engine(), await make_engine()]
    arms = (Arm(name="old", backends=("engine-0",)), Arm(name="new", backends=("engine-1",)))
    sticky = ("header:x-tenant", "user", "key")
    async with running(tmp_path, [model_of(*engines, arms=arms, sticky=sticky)]) as gateway:
        for name in ("a", "b", "c"):
            assert len({await arm_of(gateway, x_tenant=name) for _ in range(3)}) == 1
            assert len({await arm_of(gateway, {"user": name}) for _ in range(3)}) == 1
            assert len({await arm_of(gateway, {"metadata": {"user_id": name}}) for _ in range(3)}) == 1
        assert {await arm_of(gateway, x_tenant=f"t{n}") for n in range(30)} == {"old", "new"}
        assert len({await arm_of(gateway) for _ in range(5)}) == 1  # by its key
        assert len({await arm_of(gateway, {"user": 5}) for _ in range(5)}) == 1  # that names nobody
        found = await gateway.metrics()
    assert 'citadel_gateway_arm_attempts_total{arm="new",model="org/smol"}' in found


async def test_without_arms_there_is_no_header(gateway: Running) -> None:
    assert await arm_of(gateway) is None


async def test_a_shadow_gets_copies_and_its_failures_harm_nobody(
    tmp_path: Path, make_engine: MakeEngine
) -> None:
    live, dark = await make_engine(), await make_engine()
    arms = (
        Arm(name="live", backends=("engine-0",)),
        Arm(name="dark", backends=("engine-1",), mirror=1.0),
    )
    behaviours = (answer, faults.closes_at_once, faults.talks_nonsense, faults.answers("500 No"))
    async with running(tmp_path, [model_of(live, dark, arms=arms)]) as gateway:
        for behaviour in behaviours:
            dark.behaviour = behaviour
            assert await arm_of(gateway, {"seed": 7}) == "live"
        await until(lambda: len(dark.requests) == 4)
        assert [request.json for request in dark.requests] == [request.json for request in live.requests]
        await until(lambda: gateway.process.engines.copies == 0)
        await dark.stop()
        assert await arm_of(gateway) == "live"
        await until(lambda: gateway.process.engines.copies == 0)
        await live.stop()
        async with await gateway.chat() as response:
            assert response.status == 503  # the shadow does not step in
    states = [b.in_flight for b in gateway.process.engines.balancer.backends.values()]
    assert states == [0, 0]


async def test_copies_are_few_and_do_not_live_for_ever(tmp_path: Path, make_engine: MakeEngine) -> None:
    live, dark = await make_engine(), await make_engine()
    dark.behaviour = faults.silent
    arms = (
        Arm(name="live", backends=("engine-0",)),
        Arm(name="dark", backends=("engine-1",), mirror=1.0),
    )
    limits = {"max_in_flight": 3, "timeout_s": 0.3}
    async with running(tmp_path, [model_of(live, dark, arms=arms)], mirroring=limits) as gateway:
        for _ in range(6):
            await arm_of(gateway)
        assert gateway.process.engines.copies == 3
        await until(lambda: gateway.process.engines.copies == 0)


async def test_another_model_steps_in_and_the_answer_tells_it(
    tmp_path: Path, make_engine: MakeEngine
) -> None:
    first, second = await make_engine(), await make_engine()
    models = [model_of(first, fallback=("spare",)), model_of(second, name="big", aliases=("spare",))]
    async with running(tmp_path, models) as gateway:
        async with await gateway.chat() as response:
            assert "x-citadel-fallback" not in response.headers
        await first.stop()
        async with await gateway.chat() as response:
            assert (response.status, response.headers["x-citadel-fallback"]) == (200, "big")
        assert second.requests[-1].json["model"] == "served"
        await second.stop()
        async with await gateway.chat() as response:
            assert response.status == 503
            assert "'org/smol'" in await response.text()
        budgets = [route.budget.in_flight for route in gateway.process.engines.balancer.routes.values()]
        assert budgets == [0, 0]


async def test_without_a_fallback_none_steps_in(tmp_path: Path, make_engine: MakeEngine) -> None:
    first, second = await make_engine(), await make_engine()
    await first.stop()
    models = [model_of(first), model_of(second, name="big")]
    async with running(tmp_path, models) as gateway, await gateway.chat() as response:
        assert response.status == 503


class Gate:
    """A behaviour that holds requests until it is told to let them go."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def __call__(self, request: Received) -> None:
        await self.open.wait()
        await answer(request)


async def test_the_queue_is_bounded_and_says_when_to_come_back(tmp_path: Path, engine: MockEngine) -> None:
    engine.behaviour = gate = Gate()
    model = with_limit(model_of(engine, queue=Queue(size=2, deadline_s=30)), 1)
    async with running(tmp_path, [model]) as gateway:
        tasks = [asyncio.create_task(gateway.chat()) for _ in range(3)]
        route = gateway.process.engines.balancer.routes[MODEL]
        await until(lambda: route.queue.waiting == 2)
        async with await gateway.chat() as response:
            assert (response.status, response.headers["retry-after"]) == (503, "1")
            assert (await response.json())["error"]["code"] == "engine_overloaded"
        assert len(engine.requests) == 1
        gate.open.set()
        assert [(await task).status for task in tasks] == [200] * 3
        text = await gateway.metrics()
    assert 'citadel_gateway_queue_refused_total{model="org/smol",reason="full"} 1.0' in text
    assert 'citadel_gateway_queue_seconds_count{model="org/smol"} 2.0' in text


async def test_who_waits_too_long_is_told_and_who_leaves_is_forgotten(
    tmp_path: Path, engine: MockEngine
) -> None:
    engine.behaviour = gate = Gate()
    model = with_limit(model_of(engine, queue=Queue(size=9, deadline_s=0.2)), 1)
    async with running(tmp_path, [model]) as gateway:
        held = asyncio.create_task(gateway.chat())
        await until(lambda: len(engine.requests) == 1)
        async with await gateway.chat() as response:
            assert response.status == 503
            assert "as much as it may have" in (await response.json())["error"]["message"]
        leaving = asyncio.create_task(gateway.chat())
        route = gateway.process.engines.balancer.routes[MODEL]
        await until(lambda: route.queue.waiting == 1)
        leaving.cancel()
        await until(lambda: route.queue.waiting == 0)
        gate.open.set()
        assert (await held).status == 200
    assert len(engine.requests) == 1


async def operate(gateway: Running, action: str, model: str = "smol") -> dict[str, Any]:
    async with gateway.http.post(f"{gateway.internal}/{action}?model={model}") as response:
        assert response.status == 200
        found: dict[str, Any] = await response.json()
        return found


async def test_a_pause_under_load_fails_nobody(tmp_path: Path, engine: MockEngine) -> None:
    engine.behaviour = faults.works
    results = faults.Results()
    async with running(tmp_path, [model_of(engine, aliases=("smol",))]) as gateway:
        load = asyncio.create_task(faults.load(gateway, clients=16, requests=12, results=results))
        route = gateway.process.engines.balancer.routes[MODEL]
        for turn in range(1, 4):
            await until(lambda turn=turn: results.counts["ok"] > 16 * turn)  # type: ignore[misc]
            assert (await operate(gateway, "pause"))["paused_by"] == ["operator"]
            await until(lambda: route.backends[0].in_flight == 0)
            served = len(engine.requests)
            await engine.stop()  # the swap
            await asyncio.sleep(0.05)
            await engine.start()
            assert len(engine.requests) == served
            assert (await operate(gateway, "resume"))["paused_by"] == []
        await asyncio.wait_for(load, 60)
    assert results.counts == {"ok": 16 * 12}, results.details[:3]


async def test_a_snapshot_pauses_too(tmp_path: Path, engine: MockEngine) -> None:
    model = model_of(engine, paused=True, queue=Queue(size=1))
    async with running(tmp_path, [model]) as gateway:
        waiting = asyncio.create_task(gateway.chat())
        route = gateway.process.engines.balancer.routes[MODEL]
        await until(lambda: route.queue.waiting == 1)
        async with await gateway.chat() as response:
            assert response.status == 503
        assert (await operate(gateway, "resume", MODEL))["paused_by"] == ["snapshot"]
        keys = list(gateway.process.snapshots.table.snapshot.keys)  # type: ignore[union-attr]
        write_snapshot(gateway.process.settings.snapshot_path, [model_of(engine)], keys)
        assert (await asyncio.wait_for(waiting, 20)).status == 200


async def test_operators_see_back_ends_and_are_told_of_mistakes(gateway: Running) -> None:
    await (await gateway.chat()).read()
    async with gateway.http.get(gateway.internal + "/models") as response:
        found = (await response.json())[MODEL]
    assert (found["policy"], found["in_flight"], found["waiting"]) == ("prefix", 0, 0)
    backend = found["backends"]["engine-0"]
    assert (backend["state"], backend["outcomes"], backend["in_flight"]) == ("up", {"finished": 1}, 0)
    async with gateway.http.post(gateway.internal + "/pause?model=nobody") as response:
        assert response.status == 404
        assert "one of: org/smol" in (await response.json())["error"]
    async with gateway.http.get(gateway.internal + "/pause?model=smol") as response:
        assert (response.status, (await response.json())["error"]) == (405, "/pause accepts POST")


async def test_a_session_and_a_prefix_stay_where_they_were(tmp_path: Path, make_engine: MakeEngine) -> None:
    engines = [await make_engine() for _ in range(3)]

    async def served(gateway: Running, body: dict[str, Any], **headers: str) -> int:
        before = [len(engine.requests) for engine in engines]
        async with await gateway.chat({"model": MODEL} | body, **headers) as response:
            assert response.status == 200
            await response.read()
        return [len(e.requests) - b for e, b in zip(engines, before, strict=True)].index(1)

    async with running(tmp_path, [model_of(*engines, policy="session")]) as gateway:
        for name in "abc":
            assert len({await served(gateway, {"messages": []}, x_session_id=name) for _ in range(4)}) == 1
    system = [{"role": "system", "content": letter * 2000} for letter in "xyz"]
    async with running(tmp_path, [model_of(*engines, policy="prefix")]) as gateway:
        places = Counter[tuple[int, int]]()
        for turn in range(4):
            for number, message in enumerate(system):
                question = {"role": "user", "content": f"question {turn}"}
                body = {"temperature": turn, "messages": [message, question]}
                places[number, await served(gateway, body)] += 1
    assert sorted(places.values()) == [4, 4, 4]
    assert len({engine for _, engine in places}) == 3


async def test_the_engines_own_numbers_are_polled(tmp_path: Path, make_engine: MakeEngine) -> None:
    busy, idle = await make_engine(), await make_engine()
    busy.exposition = b"vllm:num_requests_running 5\nvllm:num_requests_waiting 7\n"
    probes = {"enabled": True, "interval_s": 0.05}
    async with running(tmp_path, [model_of(busy, idle)], probes=probes) as gateway:
        await until(lambda: busy.probed.count("/metrics") > 1 and idle.probed.count("/metrics") > 1)
        for _ in range(6):
            await (await gateway.chat()).read()
        async with gateway.http.get(gateway.internal + "/models") as response:
            text = json.dumps(await response.json())
    assert (len(busy.requests), len(idle.requests)) == (0, 6)
    assert '"engine_waiting": 7.0' in text


async def test_the_priority_of_a_key_counts_in_the_queue(tmp_path: Path, engine: MockEngine) -> None:
    order: list[str] = []
    gate = Gate()

    async def remember(request: Received) -> None:
        await gate.open.wait()
        order.append(request.json["user"])
        await answer(request)

    engine.behaviour = remember
    urgent = new_key()
    keys = [key_entry(urgent, "urgent", priority="high")]
    async with running(tmp_path, [with_limit(model_of(engine), 1)], keys=keys) as gateway:
        route = gateway.process.engines.balancer.routes[MODEL]
        tasks = []
        for number, user in enumerate(("first", "normal", "normal", "urgent", "urgent")):
            key = {"Authorization": f"Bearer {urgent}"} if user == "urgent" else {}
            body = {"model": MODEL, "messages": [], "user": user}
            tasks.append(asyncio.create_task(gateway.chat(body, **key)))
            await until(lambda number=number: route.backends[0].in_flight and route.queue.waiting == number)  # type: ignore[misc]
        gate.open.set()
        assert [(await task).status for task in tasks] == [200] * 5
    assert order.index("urgent") < order.index("normal")
    assert order[-1] == "normal"


async def test_the_access_log_tells_the_way_of_a_request(
    tmp_path: Path, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(AccessLog, "write_members", lambda _self, members: bool(lines.append(members)))
    first, second = await make_engine(), await make_engine()
    first.behaviour = faults.closes_at_once
    arms = (Arm(name="old", backends=("engine-0", "engine-1")),)
    async with running(tmp_path, [model_of(first, second, arms=arms)]) as gateway:
        for _ in range(2):
            await (await gateway.chat()).read()
    found = [json.loads(f"{{{line}}}") for line in lines]
    assert [entry["arm"] for entry in found] == ["old", "old"]
    assert [entry["backend"] for entry in found] == ["engine-1", "engine-1"]
    assert sorted(entry.get("retries", 0) for entry in found) == [0, 1]

"""Replacing the snapshot while requests are served."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

from citadel_llm.keys.records import new_key
from files.app.tests.gateway.harness import (
    MODEL,
    Running,
    key_entry,
    model_of,
    running,
    until,
    write_snapshot,
)
from files.app.tests.gateway.mock_engine import MockEngine


async def _until_loaded(gateway: Running, version: str) -> None:
    def loaded() -> bool:
        table = gateway.process.snapshots.table
        return table is not None and table.version == version

    await until(loaded)


async def test_a_replaced_file_is_noticed(gateway: Running, engine: MockEngine, tmp_path: Path) -> None:
    key = new_key()
    path = gateway.process.settings.snapshot_path
    version = write_snapshot(path, [model_of(engine, name="new")], [key_entry(key)])
    await _until_loaded(gateway, version)
    async with await gateway.chat() as response:
        assert response.status == 401
    gateway.key = key
    async with await gateway.chat() as response:
        assert response.status == 404
    async with await gateway.chat({"model": "new"}) as response:
        assert response.status == 200
    text = await gateway.metrics()
    assert f'citadel_gateway_snapshot_info{{version="{version}"}} 1.0' in text
    assert f'model="{MODEL}"' not in text  # nothing is kept of models that are gone


async def test_reloads_under_load_fail_no_request(
    tmp_path: Path, make_engine: Callable[[], Awaitable[MockEngine]]
) -> None:
    engines = [await make_engine(), await make_engine()]
    key = new_key()
    async with running(tmp_path, [model_of(*engines)], keys=[key_entry(key, "load")]) as gateway:
        gateway.key = key
        path = gateway.process.settings.snapshot_path
        done = asyncio.Event()
        statuses: list[int] = []

        async def load(stream: bool) -> None:
            while not done.is_set():
                async with await gateway.chat({"model": MODEL, "stream": stream}) as response:
                    body = await response.read()
                    statuses.append(response.status)
                    assert b"Paris" in body or b"[DONE]" in body

        clients = [asyncio.create_task(load(number % 2 == 0)) for number in range(8)]
        for number in range(20):
            models = [model_of(*engines[: 1 + number % 2]), model_of(engines[0], name=f"other-{number}")]
            version = write_snapshot(path, models, [key_entry(key, "load")])
            if number % 2:
                os.kill(os.getpid(), signal.SIGHUP)
            await _until_loaded(gateway, version)
            await until(lambda wanted=number * 10: len(statuses) >= wanted)  # type: ignore[misc]
        done.set()
        await asyncio.gather(*clients)
    assert set(statuses) == {200}


async def test_a_bad_snapshot_is_refused_and_the_old_one_stays(gateway: Running, engine: MockEngine) -> None:
    path = gateway.process.settings.snapshot_path
    good = path.read_bytes()
    edited = json.loads(good)
    edited["models"][0]["name"] = "edited"
    for number, bad in enumerate((good[:-20], json.dumps(edited).encode(), b"", b"[]"), start=1):
        temporary = path.with_suffix(".bad")
        temporary.write_bytes(bad)
        temporary.replace(path)
        await until(lambda wanted=number: gateway.process.snapshots.refused == wanted)  # type: ignore[misc]
        async with await gateway.chat() as response:
            assert response.status == 200
    assert "citadel_gateway_snapshot_refused_total 4.0" in await gateway.metrics()
    async with gateway.http.get(gateway.internal + "/health") as response:
        snapshot = (await response.json())["snapshot"]
    assert snapshot["version"] == json.loads(good)["version"]
    assert "expected an object, found list" in snapshot["last_error"]
    path.unlink()  # not even this ends the service
    await asyncio.sleep(0.1)
    async with await gateway.chat() as response:
        assert response.status == 200
    path.write_bytes(good)
    await until(lambda: gateway.process.snapshots.last_error is None)


async def test_without_a_snapshot_it_waits_for_one(tmp_path: Path, engine: MockEngine) -> None:
    async with running(tmp_path, [model_of(engine)]) as gateway:
        gateway.process.snapshots.table = None
        async with await gateway.chat() as response:
            assert response.status == 503
            assert "retry-after" in response.headers
        async with gateway.http.get(gateway.internal + "/ready") as response:
            assert response.status == 503
        async with gateway.http.get(gateway.url + "/health") as response:
            assert response.status == 200
        await gateway.process.reload()
        async with await gateway.chat() as response:
            assert response.status == 200


async def test_what_is_known_of_a_back_end_outlives_a_reload(gateway: Running, engine: MockEngine) -> None:
    table = gateway.process.snapshots.table
    assert table is not None
    before = table.route(MODEL).backends[0]
    before.ewma_first_byte = 1e12
    await gateway.process.reload()
    table = gateway.process.snapshots.table
    assert table is not None
    assert table.route(MODEL).backends[0] is before

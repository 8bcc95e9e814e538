"""Two gateways that count limits in one store, and what they do when it is gone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from citadel_llm.keys.records import new_key
from citadel_llm.schema.access import Limits
from files.app.tests.gateway.harness import MODEL, Running, key_entry, model_of, running, until
from files.app.tests.gateway.mock_engine import MockEngine
from files.app.tests.limits.store import PROGRAM, RedisServer

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no redis-server or valkey-server is installed")


async def ask(gateways: list[Running], key: str, times: int) -> dict[int, int]:
    """How often each status came, with the requests spread over the gateways and sent at once."""

    async def one(gateway: Running) -> int:
        body: dict[str, Any] = {"model": MODEL, "messages": []}
        headers = {"Authorization": f"Bearer {key}"}
        url = gateway.url + "/v1/chat/completions"
        async with gateway.http.post(url, json=body, headers=headers) as response:
            await response.read()
            return response.status

    statuses = await asyncio.gather(*(one(gateways[n % len(gateways)]) for n in range(times)))
    return {status: statuses.count(status) for status in sorted(set(statuses))}


async def test_the_limit_is_one_for_both_and_the_stores_end_refuses_nobody(
    tmp_path: Path, engine: MockEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await RedisServer(tmp_path).start()
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "limits_store_password").write_text(server.password + "\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    keys = {name: new_key() for name in ("before", "during", "after")}
    entries = [key_entry(key, name, limits=Limits(requests_per_minute=50)) for name, key in keys.items()]
    limits = {"store_url": server.url, "store_timeout_s": 5, "store_retry_s": 0.05}
    for name in "ab":
        (tmp_path / name).mkdir()
    try:
        async with (
            running(tmp_path / "a", [model_of(engine)], keys=entries, limits=limits) as one,
            running(tmp_path / "b", [model_of(engine)], keys=entries, limits=limits) as two,
        ):
            both = [one, two]
            assert await ask(both, keys["before"], 200) == {200: 50, 429: 150}
            await server.kill()
            # Each of them holds the limit on its own.
            assert await ask(both, keys["during"], 200) == {200: 100, 429: 100}
            assert "citadel_gateway_limits_store_up 0.0" in await one.metrics()
            await server.start()
            stores = [gateway.process.keeping.limiter.store for gateway in both]
            await until(lambda: all(store is not None and store.up for store in stores))
            assert await ask(both, keys["after"], 200) == {200: 50, 429: 150}
            assert "citadel_gateway_limits_store_up 1.0" in await one.metrics()
    finally:
        await server.kill()

"""A whole gateway on real sockets, inside the test's loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from citadel_llm.gateway.server import Process
from citadel_llm.keys.records import new_key, record_of
from citadel_llm.schema.gateway import GatewaySettings
from citadel_llm.schema.snapshot import Backend, Key, Model, seal
from files.app.tests.gateway.mock_engine import MockEngine

MODEL = "org/smol"
SERVED = "served"


def key_entry(key: str, id_: str = "team", **fields: Any) -> Key:
    record = record_of(id_, key)
    return Key(id=id_, prefix=record.prefix, hash=record.hash, **fields)


def write_snapshot(path: Path, models: list[Model], keys: list[Key]) -> str:
    """Replace the file as `citadel routing apply` does; return its version."""
    snapshot, data = seal(models, keys, now=datetime.now(UTC))
    temporary = path.with_suffix(".new")
    temporary.write_bytes(data)
    temporary.replace(path)
    return snapshot.version


def model_of(*engines: MockEngine, name: str = MODEL, **fields: Any) -> Model:
    backends = tuple(
        Backend(name=f"engine-{number}", url=engine.url, model=SERVED)
        for number, engine in enumerate(engines)
    )
    return Model(name=name, backends=backends, **fields)


def settings_of(directory: Path, **fields: Any) -> GatewaySettings:
    """Settings for tests; the ports are not used when sockets are handed over."""
    defaults: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": 1,
        "internal_host": "127.0.0.1",
        "internal_port": 2,
        "snapshot_path": directory / "routing.json",
        "drain_idle_s": 0.05,
        "drain_timeout_s": 5,
        "snapshot_poll_s": 0.02,
        "probes": {"enabled": False},  # engines see what tests send and nothing else
    }
    return GatewaySettings.model_validate(defaults | fields)


async def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for a condition; fail when it does not come true in time."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (what is watched has no event)
            await asyncio.sleep(0.003)


class Running:
    """A gateway that serves, with a client for it."""

    def __init__(self, process: Process, port: int, internal_port: int, key: str) -> None:
        self.process = process
        self.port = port
        self.internal_port = internal_port
        self.key = key
        self.url = f"http://127.0.0.1:{port}"
        self.internal = f"http://127.0.0.1:{internal_port}"
        self.http = aiohttp.ClientSession(auto_decompress=False)

    @property
    def auth(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    async def chat(
        self, body: Any = None, *, path: str = "/v1/chat/completions", **headers: str
    ) -> aiohttp.ClientResponse:
        data = body if isinstance(body, bytes) else None
        document = None if data is not None else (body or {"model": MODEL, "messages": []})
        all_headers = self.auth | {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post(self.url + path, json=document, data=data, headers=all_headers)

    @property
    def connections(self) -> int:
        """Clients' connections that are open."""
        return len(self.process._api.http.connections)

    async def metrics(self) -> str:
        async with self.http.get(self.internal + "/metrics") as response:
            return await response.text()

    async def raw(self, data: bytes) -> bytes:
        """Send bytes on a connection of their own; return all that comes back until it is closed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        try:
            return await asyncio.wait_for(reader.read(), 20)
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def running(
    directory: Path, models: list[Model], *, keys: list[Key] | None = None, **fields: Any
) -> AsyncIterator[Running]:
    """Run a gateway with a key of its own besides `keys`."""
    key = new_key()
    settings = settings_of(directory, **fields)
    write_snapshot(settings.snapshot_path, models, [key_entry(key), *(keys or [])])
    api, internal = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
    ports = [sock.getsockname()[1] for sock in (api, internal)]
    process = Process(settings)
    task = asyncio.create_task(process.serve(api, internal))
    await asyncio.wait({task, asyncio.create_task(process.serving.wait())}, return_when="FIRST_COMPLETED")
    gateway = Running(process, ports[0], ports[1], key)
    try:
        yield gateway
    finally:
        await gateway.http.close()
        process.stop()
        await asyncio.wait_for(task, 90)

"""The gateway as a process of its own: start, sockets, notifications, reload, drain."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from citadel_llm.gateway.listener import ListenError, open_sockets
from citadel_llm.keys.records import new_key
from files.app.tests.gateway.harness import MODEL, key_entry, model_of, settings_of, until, write_snapshot
from files.app.tests.gateway.mock_engine import MockEngine, Received, event

# What a unit's ExecStart amounts to, with the settings from a file and, if told, sockets passed in.
LAUNCH = """
import os, sys
from citadel_llm.gateway.server import run, SERVICE
from citadel_llm.schema.gateway import GatewaySettings
from citadel_llm.telemetry import configure_logging
if fds := sys.argv[2:]:
    for target, fd in enumerate(map(int, fds), start=3):
        os.dup2(fd, target)
    os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(fds))}
configure_logging(service=SERVICE)
run(GatewaySettings.model_validate_json(open(sys.argv[1]).read()))
"""


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


class Service:
    """A running process and what it told its service manager."""

    def __init__(
        self, process: asyncio.subprocess.Process, url: str, internal: str, told: socket.socket
    ) -> None:
        self.process = process
        self.url = url
        self.internal = internal
        self._told = told

    async def told(self) -> str:
        loop = asyncio.get_running_loop()
        return (await asyncio.wait_for(loop.sock_recv(self._told, 4096), 90)).decode()

    async def told_of(self, word: str) -> str:
        while word not in (message := await self.told()):
            pass
        return message

    async def ended(self) -> tuple[int | None, list[dict[str, Any]]]:
        """Exit status and log lines."""
        out, _ = await asyncio.wait_for(self.process.communicate(), 90)
        return self.process.returncode, [json.loads(line) for line in out.splitlines()]


@asynccontextmanager
async def service(
    directory: Path, *, passed: dict[int, socket.socket] | None = None, **fields: Any
) -> AsyncIterator[Service]:
    """Start it; `passed` are its sockets by descriptor."""
    port, internal_port = free_ports(2)
    if passed:
        port, internal_port = (sock.getsockname()[1] for sock in passed.values())
    settings = settings_of(directory, port=port, internal_port=internal_port, **fields)
    (directory / "settings.json").write_text(settings.model_dump_json())
    told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    told.bind(str(directory / "notify"))
    told.setblocking(False)
    environment = dict(os.environ)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # each start would compile everything again
    source = str(Path(__file__).parents[2] / "src")
    environment |= {
        "NOTIFY_SOCKET": str(directory / "notify"),
        "WATCHDOG_USEC": "200000",
        "PYTHONPATH": source,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", LAUNCH, str(directory / "settings.json")),
        *(str(descriptor) for descriptor in passed or {}),
        pass_fds=list(passed or {}),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Service(process, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{internal_port}", told)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        told.close()


@pytest.fixture
def key(tmp_path: Path, engine: MockEngine) -> str:
    """A key of the snapshot in `tmp_path`."""
    text = new_key()
    write_snapshot(tmp_path / "routing.json", [model_of(engine)], [key_entry(text)])
    return text


async def test_it_tells_what_it_does_and_drains(tmp_path: Path, engine: MockEngine, key: str) -> None:
    draining = asyncio.Event()

    async def behave(request: Received) -> None:
        await request.connection.start_stream()
        await request.connection.chunk(event("before"))
        await asyncio.wait_for(draining.wait(), 20)
        await request.connection.chunk(event("after"))
        await request.connection.end_stream()

    engine.behaviour = behave
    headers = {"Authorization": f"Bearer {key}"}
    body = {"model": MODEL, "stream": True}
    async with (
        service(tmp_path, drain_idle_s=60, drain_timeout_s=60) as running,
        aiohttp.ClientSession(headers=headers) as client,
    ):
        version = json.loads((tmp_path / "routing.json").read_bytes())["version"]
        assert f"STATUS=serving, snapshot {version}" in await running.told_of("READY=1")
        await running.told_of("WATCHDOG=1")

        running.process.send_signal(signal.SIGHUP)
        assert "MONOTONIC_USEC=" in await running.told_of("RELOADING=1")
        await running.told_of("READY=1")

        response = await client.post(running.url + "/v1/chat/completions", json=body)
        await response.content.readexactly(len(event("before")))
        async with client.get(running.url + "/health") as idle:
            assert idle.status == 200
        running.process.send_signal(signal.SIGTERM)
        await running.told_of("STOPPING=1")
        # No new connection, but who holds one is still answered, and told to close it.
        async with client.get(running.internal + "/ready") as ready:
            assert (ready.status, (await ready.json())["status"]) == (503, "draining")
        late = await client.get(running.url + "/health")
        assert (late.status, late.headers["connection"]) == (200, "close")
        with pytest.raises(aiohttp.ClientConnectorError):
            async with aiohttp.ClientSession() as newcomer:
                await newcomer.get(running.url + "/health")
        draining.set()
        assert await response.content.read() == event("after")
        await client.close()  # when the last connection is gone, nothing is waited for
        status, lines = await running.ended()
    assert status == 0
    requests = [line for line in lines if line["event"] == "request"]
    assert [(line["status"], line["stream"]) for line in requests] == [(200, True)]
    assert all(line["service"] == "citadel-gateway" for line in lines)
    assert key not in json.dumps(lines)


async def test_a_drain_that_takes_too_long_tells_the_clients(
    tmp_path: Path, engine: MockEngine, key: str
) -> None:
    async def behave(request: Received) -> None:
        if request.json.get("stream"):
            await request.connection.start_stream()
            await request.connection.chunk(event("a"))
        await request.connection.closed.wait()

    engine.behaviour = behave
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        service(tmp_path, drain_timeout_s=0.3) as running,
        aiohttp.ClientSession(headers=headers) as client,
    ):
        await running.told_of("READY=1")
        url = running.url + "/v1/chat/completions"
        stream = await client.post(url, json={"model": MODEL, "stream": True})
        waiting = asyncio.create_task(client.post(url, json={"model": MODEL}))
        await until(lambda: len(engine.requests) == 2)
        running.process.send_signal(signal.SIGTERM)
        assert (await stream.text()).count('"code": "service_unavailable"') == 1
        assert (await waiting).status == 503
        status, lines = await running.ended()
    assert status == 0
    assert sorted(line["cause"] for line in lines if line["event"] == "request") == ["shutdown", "shutdown"]


async def test_it_serves_on_sockets_that_are_passed_and_leaves_them_open(
    tmp_path: Path, engine: MockEngine, key: str
) -> None:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    passed = {sock.fileno(): sock for sock in sockets}
    headers = {"Authorization": f"Bearer {key}"}
    for _ in range(2):  # a restart under the same sockets
        (tmp_path / "notify").unlink(missing_ok=True)
        async with (
            service(tmp_path, passed=passed) as running,
            aiohttp.ClientSession(headers=headers) as client,
        ):
            # The connection waits in the kernel until somebody serves.
            async with client.post(running.url + "/v1/chat/completions", json={"model": MODEL}) as response:
                assert response.status == 200
            async with client.get(running.internal + "/ready") as response:
                assert response.status == 200
            running.process.send_signal(signal.SIGTERM)
            assert (await running.ended())[0] == 0
    for sock in sockets:
        sock.close()


async def test_a_port_in_use_is_named(tmp_path: Path, engine: MockEngine, key: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = settings_of(tmp_path, port=taken.getsockname()[1])
        with pytest.raises(
            ListenError, match=rf"cannot listen on 127.0.0.1:{settings.port}: .*api_gateway.port"
        ):
            open_sockets(settings, [])

"""Clients that send or read too slowly lose their connections; the others do not notice them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from pathlib import Path

from files.app.tests.gateway.harness import MODEL, Running, model_of, running, until
from files.app.tests.gateway.mock_engine import MockEngine, Received, answer, event

EACH = 10
ADDRESS = "127.0.0.7"  # not where the edge connects from
_LARGE = event("a" * 65_536)
_BODY = f'{{"model":"{MODEL}","messages":[],"stream":true}}'.encode()


async def _much(request: Received) -> None:
    """More than buffers take, for those who ask for a stream."""
    if not request.json.get("stream"):
        await answer(request)
        return
    await request.connection.start_stream()
    with contextlib.suppress(ConnectionError):
        for _ in range(300):
            await request.connection.chunk(_LARGE)


def _first(gateway: Running, kind: str) -> bytes:
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n".encode()
    )
    if kind == "heads":
        return head
    head += b"content-length: %d\r\n\r\n" % len(_BODY)
    return head + _BODY[:5] if kind == "bodies" else head + _BODY


async def _slow(gateway: Running, kind: str, answers: Counter[str]) -> None:
    """Send a byte now and then until the connection is ended; read nothing before that."""
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.bind((ADDRESS, 0))
        await loop.sock_connect(sock, ("127.0.0.1", gateway.port))
        await loop.sock_sendall(sock, _first(gateway, kind))
        local = sock.getsockname()[1]
        await until(lambda: local in _ports(gateway))
        if kind == "readers":
            await until(lambda: local not in _ports(gateway), 60)
            answers[kind] += 1
            return
        with contextlib.suppress(OSError):
            while local in _ports(gateway):
                await loop.sock_sendall(sock, b"a")
                await asyncio.sleep(0.05)
            answers[f"{kind} {(await loop.sock_recv(sock, 4096))[:12].decode()}"] += 1


def _ports(gateway: Running) -> set[int]:
    """The other ends of the connections that the gateway has."""
    transports = [connection._transport for connection in gateway.process._api.http.connections]
    return {found.get_extra_info("peername")[1] for found in transports if found is not None}


async def test_slow_clients_are_ended_and_nobody_else_notices(tmp_path: Path, engine: MockEngine) -> None:
    engine.behaviour = _much
    fields = {
        "timeouts": {"head_s": 2, "body_s": 2, "send_s": 2},
        "max_connections_per_address": 3 * EACH,
        "access_log": False,
    }
    answers: Counter[str] = Counter()
    async with running(tmp_path, [model_of(engine)], **fields) as gateway:
        kinds = ("heads", "bodies", "readers")
        slow = [asyncio.create_task(_slow(gateway, kind, answers)) for kind in kinds for _ in range(EACH)]
        await until(lambda: len(_ports(gateway)) >= EACH)
        well = 0
        while not all(task.done() for task in slow):
            async with await gateway.chat() as response:
                assert response.status == 200
                well += 1
        await asyncio.gather(*slow)
        assert well > 0
        route = gateway.process.engines.balancer.routes[MODEL]
        await until(lambda: route.backends[0].in_flight == 0)
        lines = [line for line in (await gateway.metrics()).splitlines() if 'cause="slow_client"' in line]
        assert [line.rpartition(" ")[2] for line in lines if MODEL in line] == [f"{EACH}.0"]
    assert answers["readers"] == EACH
    # Who still sent when it was told may have got a reset instead; nobody was waited for.
    assert set(answers) <= {"readers", "heads HTTP/1.1 408", "bodies HTTP/1.1 408"}
    assert answers["heads HTTP/1.1 408"] > 0
    assert answers["bodies HTTP/1.1 408"] > 0

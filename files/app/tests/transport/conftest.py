"""A bare server and a bare pool, without a gateway around them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from citadel_llm.gateway.transport.limits import Limits
from citadel_llm.gateway.transport.refusals import Refusal
from citadel_llm.gateway.transport.request import Request
from citadel_llm.gateway.transport.server import HttpServer


@dataclass
class Served:
    """A request as the application got it, and what it was told about it afterwards."""

    request: Request
    body: bytes | None = None
    told: list[str] = field(default_factory=list)

    @property
    def summary(self) -> tuple[str, bytes, bytes | None]:
        return self.request.method, self.request.path, self.body


class Recorder:
    """Answers each request with its own body, unless a test puts something else into `answer`."""

    def __init__(self) -> None:
        self.served: list[Served] = []
        self.refused: list[Refusal] = []
        self.answer: Callable[[Served], None] = lambda served: served.request.respond(
            200, b"x-path: %b\r\n" % served.request.path, served.body or b""
        )

    @property
    def bodies(self) -> list[bytes | None]:
        return [served.body for served in self.served]

    def begin(self, request: Request) -> None:
        self.served.append(Served(request))
        request.handler = _Handler(self, self.served[-1])

    def refuse(self, refusal: Refusal, target: bytes) -> tuple[bytes, bytes]:
        self.refused.append(refusal)
        return b"", refusal.message.encode()


class _Handler:
    def __init__(self, recorder: Recorder, served: Served) -> None:
        self._recorder = recorder
        self._served = served

    def on_body(self, body: bytes) -> None:
        self._served.body = body
        self._recorder.answer(self._served)

    def on_refused(self, refusal: Refusal) -> None:
        self._recorder.refused.append(refusal)
        self._served.request.respond(refusal.status, b"", refusal.message.encode())

    def on_timeout(self, reason: str) -> None:
        self._served.told.append(reason)

    def on_disconnect(self) -> None:
        self._served.told.append("disconnect")

    def on_pause(self) -> None:
        self._served.told.append("pause")

    def on_resume(self) -> None:
        self._served.told.append("resume")

    def on_shutdown(self) -> None:
        self._served.request.respond(503, b"", b"shutdown")


class Site:
    """A server on a port of its own."""

    def __init__(self, application: Recorder, limits: Limits) -> None:
        self.application = application
        self.http = HttpServer(application, limits)
        self.port = 0

    async def open(self) -> None:
        sock = socket.create_server(("127.0.0.1", 0))
        self.port = sock.getsockname()[1]
        await self.http.listen(sock, 100)

    async def connect(self, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, **options)

    async def raw(self, *parts: bytes) -> bytes:
        """Send parts on a connection of their own; return all that comes back until it is closed."""
        reader, writer = await self.connect()
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
            return await asyncio.wait_for(reader.read(), 20)
        finally:
            writer.close()


@pytest.fixture
def application() -> Recorder:
    return Recorder()


@pytest.fixture
async def serve(application: Recorder) -> AsyncIterator[Callable[..., Any]]:
    sites: list[Site] = []

    async def make(**limits: Any) -> Site:
        sites.append(Site(application, Limits(**limits)))
        await sites[-1].open()
        return sites[-1]

    yield make
    for site in sites:
        site.http.stop_accepting()
        for connection in list(site.http.connections):
            connection.abort()
    await asyncio.sleep(0)


@pytest.fixture
async def site(serve: Callable[..., Any]) -> Site:
    made: Site = await serve(linger_s=0.3)
    return made

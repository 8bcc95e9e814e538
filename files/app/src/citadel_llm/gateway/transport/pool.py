"""Connections to engines that are used again and again."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import urlsplit

from citadel_llm.gateway.transport.answers import AnswerHead
from citadel_llm.gateway.transport.client import EngineConnection, Failure, Receiver
from citadel_llm.gateway.transport.head import Known


@dataclass(frozen=True)
class Origin:
    """Where a server listens."""

    host: str
    port: int
    tls: bool

    @classmethod
    def of(cls, url: str) -> Origin:
        """From ``http://HOST[:PORT]``."""
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        return cls(parts.hostname or "", parts.port or (443 if tls else 80), tls)

    @cached_property
    def url(self) -> str:
        """Its name among all origins."""
        return f"{'https' if self.tls else 'http'}://{self.host} {self.port}"

    @cached_property
    def authority(self) -> bytes:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}").encode("idna")


class Place:
    """What is known of one origin: connections that nobody uses at the moment, and its last answer's head."""

    __slots__ = ("idle", "known", "origin")

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.idle: list[EngineConnection] = []
        self.known: Known | None = None


class Pool:
    """Connections to engines. An idle one is used again for `keepalive_s` at most."""

    def __init__(self, *, connect_s: float, keepalive_s: float) -> None:
        self.connect_s = connect_s
        self.tls = ssl.create_default_context()
        self.connections: set[EngineConnection] = set()
        self._keepalive_s = keepalive_s
        self._loop = asyncio.get_running_loop()
        self._places: dict[str, Place] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    def send(
        self, origin: Origin, request: bytes, receiver: Receiver, *, fresh: bool = False
    ) -> EngineConnection:
        """Send a whole request. What is returned cancels and pauses it. With `fresh`, on a new connection."""
        place = self._place(origin)
        idle = place.idle
        while idle and not fresh:
            connection = idle.pop()
            if self._loop.time() - connection.idle_since < self._keepalive_s:
                connection.ask(request, receiver)
                return connection
            connection.close()
        connection = EngineConnection(self, place)
        connection.connect(request, receiver)
        return connection

    def _place(self, origin: Origin) -> Place:
        place = self._places.get(origin.url)
        if place is None:
            place = self._places[origin.url] = Place(origin)
        return place

    async def fetch(self, origin: Origin, request: bytes) -> tuple[int, bytes]:
        """Send a request and wait for its whole answer: status and body. Raises OSError."""
        waiting = _Waiting(self._loop.create_future())
        connection = self.send(origin, request, waiting, fresh=True)
        try:
            return await waiting.answer
        finally:
            if not waiting.over:
                connection.cancel()

    def keep(self, connection: EngineConnection) -> None:
        """An answer is complete; the connection can be used again."""
        if self._closed:
            connection.close()
            return
        connection.idle_since = self._loop.time()
        # A place that had no idle connection for long has been forgotten.
        place = connection.place = self._places.setdefault(connection.place.origin.url, connection.place)
        place.idle.append(connection)
        if self._sweep is None:
            self._sweep = self._loop.call_later(self._keepalive_s, self._close_old)

    def opened(self, connection: EngineConnection) -> None:
        self.connections.add(connection)

    def closed(self, connection: EngineConnection) -> None:
        self.connections.discard(connection)
        if connection in connection.place.idle:
            connection.place.idle.remove(connection)

    def close(self) -> None:
        """Close every connection."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for place in self._places.values():
            place.idle.clear()
        for connection in list(self.connections):
            connection.cancel()

    def _close_old(self) -> None:
        """Close what has been idle for too long, and look again as long as there is something to look at."""
        self._sweep = None
        limit = self._loop.time() - self._keepalive_s
        for place in list(self._places.values()):
            for connection in [connection for connection in place.idle if connection.idle_since <= limit]:
                connection.close()
            place.idle = [connection for connection in place.idle if connection.idle_since > limit]
            if not place.idle:
                del self._places[place.origin.url]
        if self._places:
            self._sweep = self._loop.call_later(self._keepalive_s, self._close_old)


class _Waiting:
    """A receiver that collects an answer."""

    def __init__(self, answer: asyncio.Future[tuple[int, bytes]]) -> None:
        self.answer = answer
        self.over = False
        self._status = 0
        self._parts: list[bytes] = []

    def on_connected(self) -> None:
        pass

    def on_head(self, head: AnswerHead, length: int | None) -> None:  # noqa: ARG002
        self._status = head.status

    def on_data(self, data: bytes) -> None:
        self._parts.append(data)

    def on_end(self, data: bytes) -> None:
        self.over = True
        if not self.answer.done():
            self.answer.set_result((self._status, b"".join([*self._parts, data])))

    def on_failure(self, failure: Failure, reason: str, *, stale: bool) -> None:  # noqa: ARG002
        self.over = True
        if not self.answer.done():
            self.answer.set_exception(OSError(reason if failure != "garbage" else f"not HTTP: {reason}"))

"""Connections to engines."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol, cast
from urllib.parse import urlsplit

import httptools

from citadel_llm.gateway.transport.request import Header

Failure = Literal["unreachable", "lost", "garbage"]
_LAST_STATUS = 599
_MAX_HEAD_BYTES = 64 * 1024
_TAIL_OF_HEAD = 256 * 1024


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
    def authority(self) -> bytes:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}").encode("idna")


class Receiver(Protocol):
    """Who waits for an answer. One of `on_end` and `on_failure` comes last, unless it is cancelled."""

    def on_connected(self) -> None:
        """A new connection has been opened for the request."""

    def on_head(self, status: int, headers: list[Header], length: int | None) -> None:
        """The head of the answer. `length` is that of the body when it was announced."""

    def on_data(self, data: bytes) -> None:
        """A part of the body; never empty."""

    def on_end(self, data: bytes) -> None:
        """The last part of the body, which may be empty."""

    def on_failure(self, failure: Failure, reason: str, *, stale: bool) -> None:
        """There will be no (more) answer. `stale`: an idle connection was closed as the request was sent."""


class EngineConnection(asyncio.Protocol):
    """One connection to an engine; the handle of the request that is on it."""

    __slots__ = (
        "_chunked",
        "_complete",
        "_connecting",
        "_head_ready",
        "_headers",
        "_heard",
        "_in_body",
        "_keep",
        "_length",
        "_parser",
        "_parts",
        "_paused",
        "_pool",
        "_receiver",
        "_request",
        "_reused",
        "_status",
        "_surplus",
        "_transport",
        "_until_eof",
        "idle_since",
        "origin",
    )

    def __init__(self, pool: Pool, origin: Origin) -> None:
        self.origin = origin
        self.idle_since = 0.0
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._receiver: Receiver | None = None
        self._request = b""
        self._reused = False
        self._parts: list[bytes] = []
        self._paused = False
        self._reset()

    def _reset(self) -> None:
        self._heard = 0
        self._status = 0
        self._headers: list[Header] = []
        self._length: int | None = None
        self._chunked = False
        self._until_eof = False
        self._keep = False
        self._in_body = False
        self._head_ready = False
        self._complete = False
        self._surplus = False

    # -- the request

    def connect(self, request: bytes, receiver: Receiver) -> None:
        """Open the connection and send a request on it."""
        self._receiver = receiver
        self._request = request
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    def ask(self, request: bytes, receiver: Receiver) -> None:
        """Send a request on a connection that has been idle."""
        assert self._transport is not None
        self._reset()
        self._reused = True
        self._receiver = receiver
        self._transport.write(request)

    def cancel(self) -> None:
        """Nobody waits any more: close the connection, which tells the engine."""
        self._receiver = None
        self.close()

    def pause(self) -> None:
        """Read nothing for now; the engine will notice when its buffers are full."""
        if self._transport is not None and not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and self._paused and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        elif self._connecting is not None:
            self._connecting.cancel()

    async def _connect(self) -> None:
        pool, origin = self._pool, self.origin
        try:
            async with asyncio.timeout(pool.connect_s):
                await asyncio.get_running_loop().create_connection(
                    lambda: self,
                    origin.host,
                    origin.port,
                    ssl=pool.tls if origin.tls else None,
                    server_hostname=origin.host if origin.tls else None,
                )
        except TimeoutError:
            self._fail("unreachable", f"no connection in {pool.connect_s:g} s")
        except (OSError, UnicodeError) as error:
            self._fail("unreachable", getattr(error, "strerror", None) or str(error) or type(error).__name__)
        finally:
            self._connecting = None
            if self._receiver is None and self._transport is not None:
                # Given up just after it was opened: uvloop does not tell of the end of such a connection.
                self._transport.abort()
                self.connection_lost(None)

    # -- what the event loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpResponseParser(self)
        self._pool.opened(self)
        receiver = self._receiver
        if receiver is None:
            self._transport.abort()
            return
        self._transport.write(self._request)
        self._request = b""
        receiver.on_connected()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._parser = None  # it holds this object, and this object holds it
        self._pool.closed(self)
        if self._receiver is None:
            return
        if self._until_eof and error is None:
            self._complete = True
            self._deliver()
        else:
            self._fail("lost", str(error) if error else "the connection was closed")

    def data_received(self, data: bytes) -> None:
        if self._receiver is None or self._parser is None:
            self.close()  # nobody asked
            return
        self._heard += len(data)
        broken: Exception | None = None
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            broken = error
        if not self._in_body and self._heard > _MAX_HEAD_BYTES and not self._complete:
            broken = ValueError("its head is too large")
        if broken is not None:
            if self._complete:
                self._surplus = True
            else:
                self._deliver()
                self._fail("garbage", str(broken) or type(broken).__name__)
                return
        self._deliver()

    # -- what the parser tells

    def on_message_begin(self) -> None:
        if self._complete:
            self._surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if not (self._surplus or self._in_body):  # what comes after the body is no header
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self._surplus:
            return
        parser = self._parser
        assert parser is not None
        status = parser.get_status_code()
        if status < 200:
            if status == 101:
                raise ValueError("it switched protocols although nobody asked")
            if status < 100:
                raise ValueError(f"its status is {status}")
            self._headers = []
            return
        if status > _LAST_STATUS:
            raise ValueError(f"its status is {status}")
        self._status = status
        for name, value in self._headers:
            if name == b"content-length":
                self._length = int(value)
            elif name == b"transfer-encoding":
                if value.strip().lower() != b"chunked":
                    raise ValueError("its Transfer-Encoding is not 'chunked'")
                self._chunked = True
        self._until_eof = self._length is None and not self._chunked and status not in (204, 304)
        self._keep = parser.should_keep_alive() and not self._until_eof
        self._in_body = True
        self._head_ready = True

    def on_body(self, part: bytes) -> None:
        if not self._surplus:
            self._parts.append(part)

    def on_message_complete(self) -> None:
        if self._status and not self._surplus:
            self._complete = True

    # -- the answer

    def _deliver(self) -> None:
        """Hand over what has been understood of the answer."""
        receiver = self._receiver
        if receiver is None:
            return
        if self._head_ready:
            self._head_ready = False
            receiver.on_head(self._status, self._headers, self._length)
        parts = self._parts
        data = b""
        if parts:
            data = parts[0] if len(parts) == 1 else b"".join(parts)
            parts.clear()
        if self._complete:
            if self._receiver is not None:
                self._receiver = None
                self._release()
                receiver.on_end(data)
        elif data and self._receiver is not None:
            receiver.on_data(data)

    def _release(self) -> None:
        """The answer is complete: keep the connection for another request, or close it."""
        transport = self._transport
        if transport is None:
            return
        usable = self._keep and not (self._surplus or self._paused or transport.is_closing())
        if usable and transport.get_write_buffer_size() == 0:
            self._pool.keep(self)
        else:
            transport.abort()

    def _fail(self, failure: Failure, reason: str) -> None:
        receiver, self._receiver = self._receiver, None
        self.close()
        if receiver is not None:
            stale = failure == "lost" and self._reused and self._heard == 0
            receiver.on_failure(failure, reason, stale=stale)


class Pool:
    """Connections to engines. An idle one is used again for `keepalive_s` at most."""

    def __init__(self, *, connect_s: float, keepalive_s: float) -> None:
        self.connect_s = connect_s
        self.tls = ssl.create_default_context()
        self.connections: set[EngineConnection] = set()
        self._keepalive_s = keepalive_s
        self._loop = asyncio.get_running_loop()
        self._idle: dict[Origin, list[EngineConnection]] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    def send(
        self, origin: Origin, request: bytes, receiver: Receiver, *, fresh: bool = False
    ) -> EngineConnection:
        """Send a whole request. What is returned cancels and pauses it. With `fresh`, on a new connection."""
        idle = self._idle.get(origin)
        while idle and not fresh:
            connection = idle.pop()
            if self._loop.time() - connection.idle_since < self._keepalive_s:
                connection.ask(request, receiver)
                return connection
            connection.close()
        connection = EngineConnection(self, origin)
        connection.connect(request, receiver)
        return connection

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
        self._idle.setdefault(connection.origin, []).append(connection)
        if self._sweep is None:
            self._sweep = self._loop.call_later(self._keepalive_s, self._close_old)

    def opened(self, connection: EngineConnection) -> None:
        self.connections.add(connection)

    def closed(self, connection: EngineConnection) -> None:
        self.connections.discard(connection)
        idle = self._idle.get(connection.origin)
        if idle and connection in idle:
            idle.remove(connection)

    def close(self) -> None:
        """Close every connection."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        self._idle.clear()
        for connection in list(self.connections):
            connection.cancel()

    def _close_old(self) -> None:
        """Close what has been idle for too long, and look again as long as there is something to look at."""
        self._sweep = None
        limit = self._loop.time() - self._keepalive_s
        for origin, idle in list(self._idle.items()):
            for connection in [connection for connection in idle if connection.idle_since <= limit]:
                connection.close()
            self._idle[origin] = [connection for connection in idle if connection.idle_since > limit]
            if not self._idle[origin]:
                del self._idle[origin]
        if self._idle:
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

    def on_head(self, status: int, headers: list[Header], length: int | None) -> None:  # noqa: ARG002
        self._status = status

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

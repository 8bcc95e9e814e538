"""One connection to an engine."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal, Protocol, cast

from citadel_llm.gateway.transport.answers import AnswerHead, AnswerReader
from citadel_llm.gateway.transport.head import known

if TYPE_CHECKING:
    from citadel_llm.gateway.transport.pool import Place, Pool

Failure = Literal["unreachable", "lost", "garbage"]


class Receiver(Protocol):
    """Who waits for an answer. One of `on_end` and `on_failure` comes last, unless it is cancelled."""

    def on_connected(self) -> None:
        """A new connection has been opened for the request."""

    def on_head(self, head: AnswerHead, length: int | None) -> None:
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
        "_connecting",
        "_heard",
        "_paused",
        "_pool",
        "_reader",
        "_receiver",
        "_request",
        "_reused",
        "_told",
        "_transport",
        "idle_since",
        "place",
    )

    def __init__(self, pool: Pool, place: Place) -> None:
        self.place = place
        self.idle_since = 0.0
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._reader = AnswerReader()
        self._connecting: asyncio.Task[None] | None = None
        self._receiver: Receiver | None = None
        self._request = b""
        self._reused = False
        self._heard = False  # anything of the answer
        self._told = False  # its head
        self._paused = False

    # -- the request

    def connect(self, request: bytes, receiver: Receiver) -> None:
        """Open the connection and send a request on it."""
        self._receiver = receiver
        self._request = request
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    def ask(self, request: bytes, receiver: Receiver) -> None:
        """Send a request on a connection that has been idle."""
        assert self._transport is not None
        self._heard = self._told = False
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
        pool, origin = self._pool, self.place.origin
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
        self._reader.open()
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
        self._reader.release()
        self._pool.closed(self)
        if self._receiver is None:
            return
        if self._reader.until_eof and error is None:
            self._reader.complete = True
            self._deliver()
        else:
            self._fail("lost", str(error) if error else "the connection was closed")

    def data_received(self, data: bytes) -> None:
        receiver = self._receiver
        if receiver is None:
            self.close()  # nobody asked
            return
        reader = self._reader
        first = not self._heard
        if first:
            self._heard = True
            last = self.place.known
            body = last.body_in(data) if last is not None else None
            if last is not None and body is not None:
                self._receiver = None
                self._release(last.head, surplus=False)
                receiver.on_head(last.head, len(body))
                receiver.on_end(body)
                return
            reader.begin()
        broken = reader.feed(data)
        if first and broken is None and reader.complete and not reader.surplus:
            self._remember(data)
        self._deliver()
        if broken is not None:
            self._fail("garbage", str(broken) or type(broken).__name__)

    def _remember(self, data: bytes) -> None:
        """Keep the head of an answer that came whole: the engine's next one may have the same."""
        head = self._reader.head
        if head is not None and head.keep and self._reader.length:
            found = known(data, self._reader.lines, head)
            self.place.known = found if found is not None and found.body_in(data) is not None else None

    def _deliver(self) -> None:
        """Hand over what has been understood of the answer."""
        receiver, reader = self._receiver, self._reader
        if receiver is None:
            return
        head = reader.head
        if head is not None and not self._told:
            self._told = True
            receiver.on_head(head, reader.length)
        data = reader.take()
        if reader.complete:
            if self._receiver is not None and head is not None:
                self._receiver = None
                self._release(head, surplus=reader.surplus)
                receiver.on_end(data)
        elif data and self._receiver is not None:
            receiver.on_data(data)

    def _release(self, head: AnswerHead, *, surplus: bool) -> None:
        """The answer is complete: keep the connection for another request, or close it."""
        transport = self._transport
        if transport is None:
            return
        usable = head.keep and not (surplus or self._paused or transport.is_closing())
        if usable and transport.get_write_buffer_size() == 0:
            self._pool.keep(self)
        else:
            transport.abort()

    def _fail(self, failure: Failure, reason: str) -> None:
        receiver, self._receiver = self._receiver, None
        self.close()
        if receiver is not None:
            stale = failure == "lost" and self._reused and not self._heard
            receiver.on_failure(failure, reason, stale=stale)

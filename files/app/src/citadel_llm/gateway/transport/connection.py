"""One connection of a client."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, cast

from citadel_llm.gateway.transport import refusals
from citadel_llm.gateway.transport.head import Head
from citadel_llm.gateway.transport.reading import RequestReader
from citadel_llm.gateway.transport.refusals import Refusal
from citadel_llm.gateway.transport.request import Request

if TYPE_CHECKING:
    from citadel_llm.gateway.transport.server import HttpServer

_AHEAD_BYTES = 64 * 1024  # of later requests; beyond that nothing is read until their turn has come
_LINGER_BYTES = 64 * 1024 * 1024
_FOREVER = float("inf")


class ClientConnection(asyncio.Protocol):
    """Has requests answered one after the other, and watches the clock with a single timer."""

    __slots__ = (
        "_address",
        "_advancing",
        "_ahead",
        "_armed",
        "_current",
        "_due",
        "_lingered",
        "_loop",
        "_paused",
        "_reader",
        "_reason",
        "_seconds",
        "_server",
        "_timer",
        "_transport",
        "_writable",
    )

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._loop = server.loop
        self._transport: asyncio.Transport | None = None
        self._address: str | None = None
        self._reader = RequestReader(self, server.limits)
        self._current: Request | None = None  # it is being answered
        self._lingered = 0
        self._ahead = 0
        self._paused = False
        self._writable = True
        self._advancing = False
        self._timer: asyncio.TimerHandle | None = None
        self._armed = _FOREVER
        self._due = _FOREVER
        self._seconds = 0.0
        self._reason = ""

    # -- what the event loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        address = peer[0] if isinstance(peer, tuple) else ""
        if not self._server.opened(self, address):
            self._reader.deaf = True
            self._reader.refusal = refusals.too_many_connections()
            self._advance()
            return
        self._address = address
        self.expect("head", self._server.limits.head_s)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._due = _FOREVER
        self._reader.release()
        self._transport = None
        current, self._current = self._current, None
        if self._address is not None:
            self._server.closed(self, self._address)
        if current is not None and current.handler is not None:
            handler, current.handler = current.handler, None  # they hold each other
            handler.on_disconnect()

    def eof_received(self) -> bool:
        return False  # nobody will read an answer: the transport is closed, and `connection_lost` follows

    def pause_writing(self) -> None:
        self._writable = False
        if self._current is not None and self._current.handler is not None:
            self._current.handler.on_pause()

    def resume_writing(self) -> None:
        self._writable = True
        if self._current is not None and self._current.handler is not None:
            self._current.handler.on_resume()

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        if self._current is None and not reader.queue:
            request = reader.again(data)
            if request is not None:
                self._serve(request)
                return
        if reader.deaf:
            self._lingered += len(data)
            if self._lingered > _LINGER_BYTES:
                self.abort()
            return
        if self._current is not None:
            self._ahead += len(data)
        reader.feed(data)
        if reader.in_head and self._current is None and not reader.queue and self._reason != "head":
            self.expect("head", self._server.limits.head_s)
        self._advance()
        if self._ahead > _AHEAD_BYTES and reader.queue:
            self._pause()

    # -- turns

    def _pause(self) -> None:
        if not self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def _advance(self) -> None:
        """Do what can be done now: begin the next request, hand over a body, tell what was not understood."""
        if self._advancing:
            return
        self._advancing = True
        try:
            while self._transport is not None and self._step():
                pass
        finally:
            self._advancing = False

    def _step(self) -> bool:
        request = self._current
        if request is None:
            if self._reader.queue:
                self._begin(self._reader.queue.popleft())
                return True
            if self._reader.refusal is not None:
                self._tell(self._reader.refusal)
            return False
        handler = request.handler
        if handler is None:
            return False
        if request.refusal is not None:
            request.handler = None
            handler.on_refused(request.refusal)
            return True
        body = request.take()
        if body is None:
            return False
        handler.on_body(body)
        return True

    def _serve(self, request: Request) -> None:
        """Begin a request that is whole, and comes alone."""
        self._current = request
        self._server.application.begin(request)
        if not request.delivered:
            self._advance()

    def _begin(self, request: Request) -> None:
        self._current = request
        if not request.complete:
            self.expect("body", self._server.limits.body_s)
        self._server.application.begin(request)
        if self._current is not request or request.complete or request.started:
            return
        if request.expects and request.refusal is None:
            request.expects = False
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _tell(self, refusal: Refusal) -> None:
        """Answer what was not understood, and close."""
        method, target = self._reader.begun
        self._reader.stop()
        request = Request(self, Head(method, b"/", 0, [], []))
        request.refusal = refusal
        self._current = request
        headers, body = self._server.application.refuse(refusal, target)
        request.respond(refusal.status, headers, body)

    # -- writing

    @property
    def draining(self) -> bool:
        """Whether clients are told to close their connections."""
        return self._server.draining

    @property
    def writable(self) -> bool:
        """False while more is waiting to be sent than is good."""
        return self._writable

    def send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def done(self, request: Request) -> None:
        """A request has been answered completely."""
        if self._current is not request:
            return
        self._current = None
        request.handler = None
        if request.close:
            self._close(lingering=not request.complete or request.refusal is not None)
            return
        if self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()
        self._ahead = 0
        reader = self._reader
        if reader.parsing is request:
            self.expect("rest", self._server.limits.body_s)
        elif not reader.queue:
            self.expect("idle", self._server.limits.keepalive_s)
        if reader.queue or reader.refusal is not None:
            self._advance()

    def cut(self, *, framed: bool) -> None:
        """Close in the middle of an answer. A client sees the missing end if the answer is `framed`."""
        if self._current is not None:
            self._current.handler = None
        self._current = None
        if framed:
            self._close(lingering=False)
        elif self._transport is not None:
            # Only a reset tells a client whose answer ends where the connection ends.
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.abort()

    def _close(self, *, lingering: bool) -> None:
        transport = self._transport
        self._reader.stop()
        if transport is None:
            return
        self.expect("linger", self._server.limits.linger_s)
        if lingering and not transport.is_closing():
            # Closing while the client still sends would reset the connection and could destroy the answer.
            transport.write_eof()
        else:
            transport.close()

    def abort(self) -> None:
        """Close at once; what was not sent is lost."""
        if self._transport is not None:
            self._transport.abort()

    # -- the end of the server

    @property
    def idle(self) -> bool:
        return self._current is None and not self._reader.queue

    def shut_idle(self) -> None:
        """Close, unless a request is being served."""
        if self.idle:
            self._close(lingering=False)

    def shut_down(self) -> None:
        """End what is being served now."""
        if self._current is not None and self._current.handler is not None:
            self._current.close = True
            self._current.handler.on_shutdown()

    # -- time

    def expect(self, reason: str, seconds: float) -> None:
        """From now on, `seconds` without `progress` have the consequence that `reason` names."""
        self._reason = reason
        self._seconds = seconds
        self._due = due = self._loop.time() + seconds
        # A timer that fires too early is armed again then: most requests need none of their own.
        if self._armed > due:
            if self._timer is not None:
                self._timer.cancel()
            self._armed = due
            self._timer = self._loop.call_at(due, self._on_timer)

    def progress(self) -> None:
        """What is expected goes on."""
        self._due = self._loop.time() + self._seconds

    def _on_timer(self) -> None:
        self._timer = None
        self._armed = _FOREVER
        if self._due > self._loop.time():
            if self._due < _FOREVER:
                self._armed = self._due
                self._timer = self._loop.call_at(self._due, self._on_timer)
            return
        self._due = _FOREVER
        reason, request = self._reason, self._current
        if reason == "head" and self._reader.in_head and not self._reader.deaf:
            self._reader.deaf = True
            self._reader.refusal = refusals.head_too_slow()
            self._advance()
        elif reason == "body" and request is not None:
            self._reader.deaf = True
            request.close = True
            request.refusal = refusals.body_too_slow()
            self._advance()
        elif request is not None and request.handler is not None:
            request.handler.on_timeout(reason)
        elif self._transport is not None:
            # Nothing is under way. What still waits to be sent has had its time.
            if reason != "linger" and self._transport.get_write_buffer_size() == 0:
                self._transport.close()
            else:
                self._transport.abort()

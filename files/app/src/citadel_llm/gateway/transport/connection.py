"""One connection of a client."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, cast

import httptools

from citadel_llm.gateway.transport import refusals
from citadel_llm.gateway.transport.refusals import Refusal
from citadel_llm.gateway.transport.request import FRAMING, Header, Request

if TYPE_CHECKING:
    from citadel_llm.gateway.transport.server import HttpServer

_VERSIONS = {"1.1": 1, "1.0": 0}
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"})
_PIPELINE = 32
_AHEAD_BYTES = 64 * 1024  # of later requests; beyond that nothing is read until their turn has come
_LINGER_BYTES = 64 * 1024 * 1024
_FOREVER = float("inf")


class ClientConnection(asyncio.Protocol):
    """Reads requests, has them answered one after the other, and watches the clock with a single timer."""

    __slots__ = (
        "_address",
        "_advancing",
        "_ahead",
        "_armed",
        "_bad_target",
        "_current",
        "_deaf",
        "_due",
        "_framing",
        "_head_fed",
        "_head_size",
        "_headers",
        "_in_head",
        "_lingered",
        "_loop",
        "_parser",
        "_parsing",
        "_paused",
        "_queue",
        "_reason",
        "_refusal",
        "_seconds",
        "_server",
        "_target",
        "_timer",
        "_transport",
        "_upgrading",
        "_writable",
    )

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._loop = server.loop
        self._transport: asyncio.Transport | None = None
        self._address: str | None = None
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._in_head = False
        self._head_fed = 0
        self._head_size = 0
        self._target = b""
        self._bad_target = False
        self._headers: list[Header] = []
        self._framing: list[Header] = []
        self._parsing: Request | None = None  # its body arrives
        self._current: Request | None = None  # it is being answered
        self._queue: deque[Request] = deque()
        self._refusal: Refusal | None = None  # what is told after the last request that was understood
        self._deaf = False
        self._upgrading = False
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
            self._deaf = True
            self._refusal = refusals.too_many_connections()
            self._advance()
            return
        self._address = address
        self.expect("head", self._server.limits.head_s)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._due = _FOREVER
        self._parser = None  # it holds this object, and this object holds it
        self._deaf = True
        self._transport = None
        self._queue.clear()
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
        if self._deaf or self._parser is None:
            self._lingered += len(data)
            if self._lingered > _LINGER_BYTES:
                self.abort()
            return
        if self._current is not None:
            self._ahead += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._read_on(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._not_understood(error)
        if self._in_head and not self._deaf:
            self._head_unfinished(len(data))
        self._advance()
        if self._ahead > _AHEAD_BYTES and self._queue:
            self._pause()

    # -- what the parser tells

    def on_message_begin(self) -> None:
        self._in_head = True
        self._head_fed = 0
        self._head_size = 0
        self._target = b""
        self._headers = []
        self._framing = []

    def on_url(self, part: bytes) -> None:
        self._target += part
        self._grow(len(part))

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if self._in_head:  # what comes after the body is no header, and nobody here has a use for it
            (self._framing if name in FRAMING else self._headers).append((name, value))
        self._grow(len(name) + len(value) + 4)

    def on_headers_complete(self) -> None:
        self._in_head = False
        parser = self._parser
        assert parser is not None
        limits = self._server.limits
        if len(self._headers) + len(self._framing) > limits.head_fields:
            self._refuse(refusals.too_many_fields(limits.head_fields))
        minor = _VERSIONS.get(parser.get_http_version())
        method = parser.get_method().decode("ascii")
        if minor is None or method not in _METHODS:
            self._refuse(refusals.malformed("its method or its version is not known here"))
        if len(self._queue) >= _PIPELINE:
            self._refuse(refusals.too_deep_a_pipeline(_PIPELINE))
        try:
            request = Request(self, method, self._target, minor or 0, self._headers, self._framing)
        except Refusal as refusal:
            self._refuse(refusal)
        self._parsing = request
        self._queue.append(request)
        self._upgrading = parser.should_upgrade()
        if request.length is not None and request.length > limits.body_bytes:
            self._refuse(refusals.body_too_large(limits.body_bytes))

    def on_body(self, part: bytes) -> None:
        request = self._parsing
        assert request is not None
        request.received += len(part)
        if request.received > self._server.limits.body_bytes:
            self._refuse(refusals.body_too_large(self._server.limits.body_bytes))
        if not request.answered:
            request.parts.append(part)

    def on_message_complete(self) -> None:
        if self._parsing is not None and not self._upgrading:
            self._parsing.complete = True
            self._parsing = None

    # -- reading

    def _read_on(self, rest: bytes) -> None:
        """The client asks for another protocol. It is answered in this one, and nothing after that is read.

        The parser takes what follows the head for the other protocol; another parser reads the body.
        """
        self._upgrading = False
        request = self._parsing
        if request is None:
            return
        body = _Body(self)
        self._parser = httptools.HttpRequestParser(body)
        framing = (
            b"transfer-encoding: chunked"
            if request.length is None
            else b"content-length: %d" % request.length
        )
        try:
            self._parser.feed_data(b"POST / HTTP/1.1\r\nconnection: close\r\n%b\r\n\r\n%b" % (framing, rest))
        except httptools.HttpParserError as error:
            self._not_understood(error)

    def _grow(self, size: int) -> None:
        self._head_size += size
        if self._head_size > self._server.limits.head_bytes:
            self._refuse(refusals.head_too_large(self._server.limits.head_bytes))

    def _refuse(self, refusal: Refusal) -> None:
        """Stop parsing for good. What was understood before is still answered."""
        self._deaf = True
        if self._parsing is not None:
            self._parsing.refusal = refusal
            self._parsing.close = True
        else:
            self._refusal = refusal
        raise refusal

    def _not_understood(self, error: Exception) -> None:
        if not self._deaf:
            self._bad_target = isinstance(error, httptools.HttpParserInvalidURLError)
            last = self._queue[-1] if self._queue else self._current
            closing = last is not None and last.close and last.complete
            self._deaf = True
            if not closing:  # else these are bytes after the end, and the end was announced
                refusal = refusals.malformed(str(error) or type(error).__name__)
                if self._parsing is not None:
                    self._parsing.refusal = refusal
                    self._parsing.close = True
                else:
                    self._refusal = refusal

    def _head_unfinished(self, size: int) -> None:
        """Part of a head has arrived. A single endless header is not seen by `on_header`."""
        self._head_fed += size
        limit = self._server.limits.head_bytes
        if self._head_fed > limit:
            self._deaf = True
            self._refusal = refusals.head_too_large(limit)
        elif self._current is None and not self._queue and self._reason != "head":
            self.expect("head", self._server.limits.head_s)

    def _pause(self) -> None:
        if not self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    # -- turns

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
            if self._queue:
                self._begin(self._queue.popleft())
                return True
            if self._refusal is not None:
                self._tell(self._refusal)
            return False
        handler = request.handler
        if handler is None:
            return False
        if request.refusal is not None:
            request.handler = None
            handler.on_refused(request.refusal)
            return True
        if request.complete and not request.delivered:
            request.delivered = True
            parts, request.parts = request.parts, []
            handler.on_body(parts[0] if len(parts) == 1 else b"".join(parts))
            return True
        return False

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
        self._refusal = None
        self._deaf = True
        parser = self._parser
        # Before the target has been reached, the parser's method is the last request's.
        head = (
            parser is not None and bool(self._target or self._bad_target) and parser.get_method() == b"HEAD"
        )
        request = Request(self, "HEAD" if head else "GET", b"/", 0, [], [])
        request.refusal = refusal
        self._current = request
        headers, body = self._server.application.refuse(refusal, self._target)
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
        if self._parsing is request:
            self.expect("rest", self._server.limits.body_s)
        elif not self._queue:
            self.expect("idle", self._server.limits.keepalive_s)
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
        self._deaf = True
        self._queue.clear()
        self._refusal = None
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
        return self._current is None and not self._queue

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
        if reason == "head" and self._in_head and not self._deaf:
            self._deaf = True
            self._refusal = refusals.head_too_slow()
            self._advance()
        elif reason == "body" and request is not None:
            self._deaf = True
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


class _Body:
    """What a parser needs that reads nothing but a body."""

    def __init__(self, connection: ClientConnection) -> None:
        self.on_body = connection.on_body
        self.on_message_complete = connection.on_message_complete

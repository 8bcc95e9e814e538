"""One request of a client: its head, its body, and the answer to it."""

from __future__ import annotations

import time
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

from citadel_llm.gateway.transport.head import Head, Header
from citadel_llm.gateway.transport.refusals import Refusal

if TYPE_CHECKING:
    from citadel_llm.gateway.transport.connection import ClientConnection

_MAX_LEFT_BEHIND = 64 * 1024  # of a body that nobody waits for: more than that and the connection is closed
_NO_BODY = (204, 304)
_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}

_OK = _LINES[200]


class Handler(Protocol):
    """Who answers a request. The connection calls it; it answers by the request's own methods."""

    def on_body(self, body: bytes) -> None:
        """The body is complete."""

    def on_refused(self, refusal: Refusal) -> None:
        """The body will never be complete; what remains is to answer."""

    def on_timeout(self, reason: str) -> None:
        """What `Request.expect` waited for did not happen."""

    def on_disconnect(self) -> None:
        """The client is gone; nothing can be answered any more."""

    def on_pause(self) -> None:
        """The client reads more slowly than it is written to."""

    def on_resume(self) -> None:
        """The client has caught up."""

    def on_shutdown(self) -> None:
        """The server stops; the answer must end now."""


class Application(Protocol):
    """What a listener serves."""

    def begin(self, request: Request) -> None:
        """A head is complete: answer at once, or set `request.handler`. The body may still be under way."""

    def refuse(self, refusal: Refusal, target: bytes) -> tuple[bytes, bytes]:
        """Header lines and body that tell of a request without a handler. `target`: as far as it is known."""


class Request:
    """One request; what its head says is in `head`."""

    __slots__ = (
        "_chunked",
        "_connection",
        "_held",
        "_silent",
        "answered",
        "close",
        "complete",
        "delivered",
        "expects",
        "handler",
        "head",
        "length",
        "parts",
        "received",
        "refusal",
        "started",
    )

    def __init__(self, connection: ClientConnection, head: Head) -> None:
        self.head = head
        self.length = head.length
        self.expects = head.expects
        self.close = head.close
        self.handler: Handler | None = None
        self.parts: list[bytes] = []
        self.received = 0
        self.complete = False
        self.delivered = False
        self.refusal: Refusal | None = None
        self.started = False
        self.answered = False
        self._connection = connection
        self._held = b""
        self._chunked = False
        self._silent = head.method == "HEAD"

    @property
    def method(self) -> str:
        return self.head.method

    @property
    def path(self) -> bytes:
        return self.head.path

    @property
    def query(self) -> bytes:
        return self.head.query

    @property
    def headers(self) -> list[Header]:
        return self.head.headers

    # -- the body

    def take(self) -> bytes | None:
        """The body if all of it is here; then it is not told to the handler any more. None otherwise."""
        if not self.complete or self.delivered or self.refusal is not None:
            return None
        self.delivered = True
        parts, self.parts = self.parts, []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    # -- waiting

    def expect(self, reason: str, seconds: float) -> None:
        """From now on, `seconds` without `progress` make the handler's `on_timeout(reason)` be called."""
        self._connection.expect(reason, seconds)

    def progress(self) -> None:
        """What was expected has happened; the same is expected again."""
        self._connection.progress()

    @property
    def writable(self) -> bool:
        """False while the client has to catch up; `Handler.on_resume` tells when it has."""
        return self._connection.writable

    # -- the answer

    def respond(self, status: int, headers: bytes, body: bytes, length: int | None = -1) -> None:
        """Send a whole answer. `headers` are lines, each with its CRLF, without framing and date.

        `length` is what its head tells; without it, the body's.
        """
        connection = self._connection
        plain = status == 200 and length == len(body)
        if plain and self.complete and not (self.close or self._silent or connection.draining):
            self.started = self.answered = True
            head = _OK + date() + headers
            connection.send(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body))
            connection.done(self)
            return
        self.start(status, headers, len(body) if length == -1 else length)
        self.finish(body)

    def start(self, status: int, headers: bytes, length: int | None) -> None:
        """Begin an answer whose body has `length` bytes, if that is known. It leaves with its first part."""
        self.started = True
        connection = self._connection
        if connection.draining or (not self.complete and self._leaves_much_behind()):
            self.close = True
        framing = b""
        if status in _NO_BODY:
            self._silent = True
        elif length is not None:
            framing = b"content-length: %d\r\n" % length
        elif self.head.minor:
            self._chunked = not self._silent
            framing = b"transfer-encoding: chunked\r\n"
        else:
            self.close = True
        line = _LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
        ending = b"connection: close\r\n\r\n" if self.close else b"\r\n"
        self._held = b"".join((line, date(), headers, framing, ending))

    def write(self, data: bytes) -> None:
        """Send a part of the body. It must not be empty."""
        if self._silent:
            return
        if self._chunked:
            data = b"%b%x\r\n%b\r\n" % (self._held, len(data), data)
        elif self._held:
            data = self._held + data
        self._held = b""
        self._connection.send(data)

    def finish(self, data: bytes = b"") -> None:
        """Send the last part of the body, which may be empty."""
        if self._silent:
            data = b""
        if self._chunked:
            data = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n"
        if self._held:
            data = self._held + data
            self._held = b""
        if data:
            self._connection.send(data)
        self.answered = True
        self._connection.done(self)

    def cut(self) -> None:
        """End an answer that cannot be completed so that nobody takes it for a whole one."""
        self.answered = True
        self._connection.cut(framed=self._chunked or self.head.minor > 0)

    def _leaves_much_behind(self) -> bool:
        if self.expects or self.length is None or self.refusal is not None:
            return True
        return self.length - self.received > _MAX_LEFT_BEHIND


_date_of = 0
_date = b""


def date() -> bytes:
    """The Date header's line; made once a second."""
    global _date_of, _date
    now = int(time.time())
    if now != _date_of:
        _date_of = now
        _date = b"date: %b\r\n" % formatdate(now, usegmt=True).encode()
    return _date

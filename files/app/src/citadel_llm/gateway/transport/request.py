"""One request of a client: its head, its body, and the answer to it."""

from __future__ import annotations

import time
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

from citadel_llm.gateway.transport.refusals import Refusal, malformed

if TYPE_CHECKING:
    from citadel_llm.gateway.transport.connection import ClientConnection

Header = tuple[bytes, bytes]

FRAMING = frozenset(
    {
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"http2-settings",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Headers that say how the message is to be read. They are kept apart from the others."""

_MAX_LEFT_BEHIND = 64 * 1024  # of a body that nobody waits for: more than that and the connection is closed
_NO_BODY = (204, 304)
_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


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
    """Names of headers are in lower case; `headers` lacks those that frame the message (`FRAMING`)."""

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
        "framing",
        "handler",
        "headers",
        "length",
        "method",
        "minor",
        "nominated",
        "parts",
        "path",
        "query",
        "received",
        "refusal",
        "started",
    )

    def __init__(
        self,
        connection: ClientConnection,
        method: str,
        target: bytes,
        minor: int,
        headers: list[Header],
        framing: list[Header],
    ) -> None:
        self.method = method
        self.minor = minor
        self.headers = headers
        self.framing = framing
        self.length: int | None = 0  # None: chunked
        self.nominated = b""
        self.expects = False
        self.close = minor == 0
        host = self._read_framing(framing)
        if not target.startswith(b"/"):
            target = _origin_form(target, host)
        self.path, _, self.query = target.partition(b"?") if b"?" in target else (target, b"", b"")
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
        self._silent = method == "HEAD"

    def _read_framing(self, framing: list[Header]) -> bytes | None:
        """Decide what the head says of its body and its connection. Raises Refusal when it is ambiguous."""
        host = None
        framed = False
        for name, value in framing:
            if name == b"host":
                if host is not None:
                    raise malformed("there are two Host headers")
                host = value.strip()
            elif name in (b"content-length", b"transfer-encoding"):
                if framed:
                    raise malformed("the length of its body is told twice")
                framed = True
                self.length = self._read_length(name, value.strip().lower())
            elif name == b"connection":
                self._read_connection(value)
            elif name == b"expect":
                self.expects = value.strip().lower() == b"100-continue" and self.minor > 0
            elif name == b"upgrade":
                self.close = True  # not followed, and what comes after could be in any protocol
        if host is None and self.minor > 0:
            raise malformed("there is no Host header")
        return host

    def _read_length(self, name: bytes, value: bytes) -> int | None:
        if name == b"content-length":
            if not value.isdigit():
                raise malformed("Content-Length is not one number")
            return int(value)
        if value != b"chunked" or self.minor == 0:
            raise malformed("Transfer-Encoding can only be 'chunked', and only in HTTP/1.1")
        return None

    def _read_connection(self, value: bytes) -> None:
        value = value.strip().lower()
        if value == b"keep-alive":
            return
        self.nominated = value if not self.nominated else self.nominated + b"," + value
        if b"close" in value or b"upgrade" in value:
            self.close = True

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

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        """Send a whole answer. `headers` are lines, each with its CRLF, without framing and date."""
        self.start(status, headers, len(body))
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
        elif self.minor:
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
        self._connection.cut(framed=self._chunked or self.minor > 0)

    def _leaves_much_behind(self) -> bool:
        if self.expects or self.length is None or self.refusal is not None:
            return True
        return self.length - self.received > _MAX_LEFT_BEHIND


def _origin_form(target: bytes, host: bytes | None) -> bytes:
    """The path of a target in absolute form. Raises Refusal when its host is not that of the Host header."""
    if target == b"*":
        return target
    scheme, separator, rest = target.partition(b"://")
    authority, slash, path = rest.partition(b"/")
    if not separator or scheme.lower() not in (b"http", b"https"):
        raise malformed("its target is neither a path nor a URL")
    if host is None or authority.lower() != host.lower():
        raise malformed("its URL and its Host header name different hosts")
    return slash + path if slash else b"/"


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

"""From the bytes of one client to its requests."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import httptools

from citadel_llm.gateway.transport import refusals
from citadel_llm.gateway.transport.head import FRAMING, Head, Header, Known, known
from citadel_llm.gateway.transport.limits import Limits
from citadel_llm.gateway.transport.refusals import Refusal
from citadel_llm.gateway.transport.request import Request

if TYPE_CHECKING:
    from citadel_llm.gateway.transport.connection import ClientConnection

_VERSIONS = {"1.1": 1, "1.0": 0}
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"})
_PIPELINE = 32


class RequestReader:
    """Parses what a client sends. Requests go to the end of `queue` when their head is complete.

    When `deaf`, nothing is parsed any more; `refusal` is what is told after the last request in the queue.
    The methods `on_…` are the parser's.
    """

    __slots__ = (
        "_bad_target",
        "_connection",
        "_fed",
        "_framing",
        "_headers",
        "_known",
        "_last",
        "_limits",
        "_parser",
        "_size",
        "_target",
        "_upgrading",
        "deaf",
        "in_head",
        "parsing",
        "queue",
        "refusal",
    )

    def __init__(self, connection: ClientConnection, limits: Limits) -> None:
        self.queue: deque[Request] = deque()
        self.deaf = False
        self.refusal: Refusal | None = None
        self.in_head = False
        self.parsing: Request | None = None  # its body arrives
        self._connection = connection
        self._limits = limits
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._known: Known | None = None
        self._last: Request | None = None
        self._upgrading = False
        self._fed = 0
        self._size = 0
        self._target = b""
        self._bad_target = False
        self._headers: list[Header] = []
        self._framing: list[Header] = []

    def again(self, data: bytes) -> Request | None:
        """The request when `data` is a whole one with the head of the one before; None otherwise."""
        last = self._known
        if last is None or self.parsing is not None or self.in_head or self.deaf:
            return None
        body = last.body_in(data)
        if body is None or len(body) > self._limits.body_bytes:
            return None
        request = Request(self._connection, last.head)
        request.length = request.received = len(body)
        request.parts.append(body)
        request.complete = True
        return request

    def feed(self, data: bytes) -> None:
        """Parse a part of what the client sends."""
        parser = self._parser
        if parser is None:
            return
        begins = not self.in_head and self.parsing is None
        queued = len(self.queue)
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._read_on(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._not_understood(error)
        else:
            if begins and len(self.queue) == queued + 1:
                self._remember(self.queue[-1], data)
        if self.in_head and not self.deaf:
            self._head_unfinished(len(data))

    @property
    def begun(self) -> tuple[str, bytes]:
        """Method (as far as it matters for an answer) and target of the head that is being read."""
        parser = self._parser
        # Before the target has been reached, the parser's method is the last request's.
        reached = bool(self._target or self._bad_target)
        head = parser is not None and reached and parser.get_method() == b"HEAD"
        return "HEAD" if head else "GET", self._target

    def release(self) -> None:
        """The connection is gone: let go of all that leads back here, or only the collector would free it."""
        self.stop()
        del self._connection
        self._parser = self._known = self._last = self.parsing = None

    def stop(self) -> None:
        """Read nothing more, and forget what has been read."""
        self.deaf = True
        self.queue.clear()
        self.refusal = None

    # -- what the parser tells

    def on_message_begin(self) -> None:
        self.in_head = True
        self._fed = 0
        self._size = 0
        self._target = b""
        self._headers = []
        self._framing = []

    def on_url(self, part: bytes) -> None:
        self._target += part
        self._grow(len(part))

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if self.in_head:  # what comes after the body is no header, and nobody here has a use for it
            (self._framing if name in FRAMING else self._headers).append((name, value))
        self._grow(len(name) + len(value) + 4)

    def on_headers_complete(self) -> None:
        self.in_head = False
        parser = self._parser
        assert parser is not None
        limits = self._limits
        if len(self._headers) + len(self._framing) > limits.head_fields:
            self._refuse(refusals.too_many_fields(limits.head_fields))
        minor = _VERSIONS.get(parser.get_http_version())
        method = parser.get_method().decode("ascii")
        if minor is None or method not in _METHODS:
            self._refuse(refusals.malformed("its method or its version is not known here"))
        if len(self.queue) >= _PIPELINE:
            self._refuse(refusals.too_deep_a_pipeline(_PIPELINE))
        try:
            head = Head(method, self._target, minor or 0, self._headers, self._framing)
        except Refusal as refusal:
            self._refuse(refusal)
        request = self.parsing = self._last = Request(self._connection, head)
        self.queue.append(request)
        self._upgrading = parser.should_upgrade()
        if request.length is not None and request.length > limits.body_bytes:
            self._refuse(refusals.body_too_large(limits.body_bytes))

    def on_body(self, part: bytes) -> None:
        request = self.parsing
        assert request is not None
        request.received += len(part)
        if request.received > self._limits.body_bytes:
            self._refuse(refusals.body_too_large(self._limits.body_bytes))
        if not request.answered:
            request.parts.append(part)

    def on_message_complete(self) -> None:
        if self.parsing is not None and not self._upgrading:
            parser = self._parser
            assert parser is not None
            self.parsing.complete = True
            if not parser.should_keep_alive():
                # It takes Proxy-Connection, and what follows a body, for Connection, and reads no further.
                self.parsing.close = True
            self.parsing = None

    # -- reading

    def _remember(self, request: Request, data: bytes) -> None:
        """Keep the head of a request that came alone and whole, if it can come again with another body."""
        head = request.head
        if request.complete and head.length and not (request.close or head.expects):
            self._known = known(data, len(head.headers) + len(head.framing) + 2, head)
            if self._known is not None and self._known.body_in(data) is None:
                self._known = None

    def _read_on(self, rest: bytes) -> None:
        """The client asks for another protocol. It is answered in this one, and nothing after that is read.

        The parser takes what follows the head for the other protocol; another parser reads the body.
        """
        self._upgrading = False
        request = self.parsing
        if request is None:
            return
        self._parser = httptools.HttpRequestParser(_Body(self))
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
        self._size += size
        if self._size > self._limits.head_bytes:
            self._refuse(refusals.head_too_large(self._limits.head_bytes))

    def _refuse(self, refusal: Refusal) -> None:
        """Stop parsing for good. What was understood before is still answered."""
        self._tell(refusal)
        raise refusal

    def _tell(self, refusal: Refusal) -> None:
        self.deaf = True
        if self.parsing is not None:
            self.parsing.refusal = refusal
            self.parsing.close = True
        else:
            self.refusal = refusal

    def _not_understood(self, error: Exception) -> None:
        if self.deaf:
            return
        self.deaf = True
        self._bad_target = isinstance(error, httptools.HttpParserInvalidURLError)
        last = self._last
        if last is None or not (last.close and last.complete):
            # Else these are bytes after the end, and the end was announced.
            self._tell(refusals.malformed(str(error) or type(error).__name__))

    def _head_unfinished(self, size: int) -> None:
        """Part of a head has arrived. A single endless header is not seen by `on_header`."""
        self._fed += size
        limit = self._limits.head_bytes
        if self._fed > limit:
            self.deaf = True
            self.refusal = refusals.head_too_large(limit)


class _Body:
    """What a parser needs that reads nothing but a body."""

    def __init__(self, reader: RequestReader) -> None:
        self.on_body = reader.on_body
        self.on_message_complete = reader.on_message_complete

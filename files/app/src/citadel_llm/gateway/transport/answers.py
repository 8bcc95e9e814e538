"""From the bytes of an engine to its answers."""

from __future__ import annotations

from typing import Any

import httptools

from citadel_llm.gateway.transport.head import Header

_LAST_STATUS = 599
_MAX_HEAD_BYTES = 64 * 1024


class AnswerHead:
    """Status and headers (names in lower case), and whether the connection may be kept (`keep`). The body's
    length is no part of it: it differs where all else is the same.

    `memo` belongs to the receiver: what it found out from the head holds whenever the same head comes again.
    """

    __slots__ = ("headers", "keep", "memo", "status")

    def __init__(self, status: int, headers: list[Header], *, keep: bool) -> None:
        self.status = status
        self.headers = headers
        self.keep = keep
        self.memo: Any = None


class AnswerReader:
    """Parses one answer after the other. `head` and `length` (of the body, when it is announced)
    are there when all of the head has been read.

    `surplus`: the engine sent more than its answer. The methods `on_…` are the parser's.
    """

    __slots__ = (
        "_chunked",
        "_headers",
        "_heard",
        "_parser",
        "_used",
        "complete",
        "head",
        "length",
        "parts",
        "surplus",
        "until_eof",
    )

    def __init__(self) -> None:
        self._parser: httptools.HttpResponseParser | None = None
        self._used = True
        self.parts: list[bytes] = []
        self.begin()

    def open(self) -> None:
        """The connection is there."""
        self._parser = httptools.HttpResponseParser(self)

    def begin(self) -> None:
        """Another answer is to come."""
        if not self._used:
            return
        self._used = False
        self._heard = 0
        self._headers: list[Header] = []
        self._chunked = False
        self.head: AnswerHead | None = None
        self.length: int | None = None
        self.until_eof = False
        self.complete = False
        self.surplus = False

    def feed(self, data: bytes) -> Exception | None:
        """Parse a part of the answer. Returns what is wrong with it."""
        self._used = True
        self._heard += len(data)
        parser = self._parser
        if parser is None:
            return ValueError("the connection is closed")
        broken: Exception | None = None
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            broken = error
        if self.head is None and self._heard > _MAX_HEAD_BYTES:
            broken = ValueError("its head is too large")
        if broken is not None and self.complete:
            self.surplus = True
            return None
        return broken

    def take(self) -> bytes:
        """What has been read of the body since the last time."""
        parts = self.parts
        if not parts:
            return b""
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        return data

    @property
    def lines(self) -> int:
        """How many lines the head has, the empty one included."""
        return len(self._headers) + 2

    def release(self) -> None:
        """The connection is gone."""
        self._parser = None  # it holds this object, and this object holds it

    # -- what the parser tells

    def on_message_begin(self) -> None:
        if self.complete:
            self.surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.surplus and self.head is None:  # what comes after the body is no header
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self.surplus:
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
        for name, value in self._headers:
            if name == b"content-length":
                self.length = int(value)
            elif name == b"transfer-encoding":
                if value.strip().lower() != b"chunked":
                    raise ValueError("its Transfer-Encoding is not 'chunked'")
                self._chunked = True
        self.until_eof = self.length is None and not self._chunked and status not in (204, 304)
        keep = parser.should_keep_alive() and not self.until_eof
        self.head = AnswerHead(status, self._headers, keep=keep)

    def on_body(self, part: bytes) -> None:
        if not self.surplus:
            self.parts.append(part)

    def on_message_complete(self) -> None:
        if self.head is not None and not self.surplus:
            self.complete = True

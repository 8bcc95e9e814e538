"""The head of a request: what it says, and how one that comes again is recognised."""

from __future__ import annotations

import re
from typing import Any

from citadel_llm.gateway.transport.refusals import malformed

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

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)\r\n", re.IGNORECASE)
_LENGTH_DIGITS = 10


class Head:
    """Names of headers are in lower case; `headers` lacks those that frame the message (`FRAMING`).

    `memo` belongs to the application: what it found out from the head holds whenever the head comes again.
    """

    __slots__ = (
        "close",
        "expects",
        "framing",
        "headers",
        "length",
        "memo",
        "method",
        "minor",
        "nominated",
        "path",
        "query",
    )

    def __init__(
        self, method: str, target: bytes, minor: int, headers: list[Header], framing: list[Header]
    ) -> None:
        """Raises Refusal when the head is ambiguous about its body, its connection or its target."""
        self.method = method
        self.minor = minor
        self.headers = headers
        self.framing = framing
        self.length: int | None = 0  # None: chunked
        self.nominated = b""
        self.expects = False
        self.close = minor == 0
        self.memo: Any = None
        host = self._read_framing(framing)
        if not target.startswith(b"/"):
            target = _origin_form(target, host)
        self.path, _, self.query = target.partition(b"?")

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


class Known:
    """The bytes of a head that was parsed, but for the digits of its Content-Length.

    Who talks over a connection for long sends the same head again and again. Equal bytes mean the same, so
    what follows from them need not be found out again.
    """

    __slots__ = ("after", "before", "head")

    def __init__(self, before: bytes, after: bytes, head: Any) -> None:
        self.before = before
        self.after = after
        self.head = head

    def body_in(self, data: bytes) -> bytes | None:
        """The body when `data` is this head and its whole body and nothing else; None otherwise."""
        before, after = self.before, self.after
        if not data.startswith(before):
            return None
        at = len(before)
        end = data.find(b"\r", at, at + _LENGTH_DIGITS)
        if end < 0 or not data.startswith(after, end):
            return None
        digits = data[at:end]
        start = end + len(after)
        if not digits.isdigit() or len(data) - start != int(digits):
            return None
        return data[start:]


def known(data: bytes, lines: int, head: object) -> Known | None:
    """What `data` has to be compared with, if it begins with a head of so many lines that tells its length.

    A head of which the parser saw another number of lines than stand there is not remembered.
    """
    end = data.find(b"\r\n\r\n") + 4
    length = _LENGTH.search(data, 0, end)
    if length is None or not lines == data.count(b"\n", 0, end) == data.count(b"\r\n", 0, end):
        return None
    return Known(data[: length.start(1)], data[length.end(1) : end], head)


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

"""A reading of HTTP/1.1 that takes only what RFC 9112 allows, to compare the gateway's with.

It shares no code with the gateway: regular expressions over whole messages, where the gateway has a parser
that reads as bytes arrive. What parsers may forgive, and nobody can take for anything else, is forgiven: line
ends before a request whatever they are, and more than one space in its first line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Header = tuple[bytes, bytes]
End = Literal["clean", "unfinished", "invalid"]

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_VALUE = rb"[\t\x20-\x7e\x80-\xff]*"
_FIELDS = rb"((?:" + _TOKEN + rb":" + _VALUE + rb"\r\n)*)\r\n"
_REQUEST = re.compile(rb"[\r\n]*(" + _TOKEN + rb") +([\x21-\x7e]+) +HTTP/1\.([01])\r\n" + _FIELDS)
_ANSWER = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) " + _VALUE + rb"\r\n" + _FIELDS)
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[\t ]*;" + _VALUE + rb")?\r\n")
_TRAILER = re.compile(_FIELDS)
_ONLY_EMPTY_LINES = re.compile(rb"[\r\n]*").fullmatch


@dataclass(frozen=True)
class Message:
    """A request or an answer. `first` is the method and the target, or the status; names in lower case."""

    first: tuple[bytes, ...]
    headers: tuple[Header, ...]
    body: bytes
    minor: int = 1

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key == name]

    @property
    def method(self) -> bytes:
        return self.first[0]

    @property
    def status(self) -> int:
        return int(self.first[0])


@dataclass(frozen=True)
class Reading:
    """The messages that some bytes hold, and how the bytes end after them. `rest` is where that begins."""

    messages: tuple[Message, ...]
    end: End
    rest: int
    last: bytes = b""
    """The method of the request that could not be read to its end, as far as it has one."""

    @property
    def methods(self) -> list[bytes]:
        """The methods of all requests, that one included."""
        return [*(message.method for message in self.messages), self.last or b"GET"]


class _Unfinished(Exception):  # noqa: N818 (it is a finding, not a fault)
    pass


class _Invalid(Exception):  # noqa: N818
    pass


def read_requests(data: bytes) -> Reading:
    """What a client sent on one connection."""
    messages: list[Message] = []
    at = 0
    while True:
        if _ONLY_EMPTY_LINES(data, at):
            return Reading(tuple(messages), "clean", at)
        try:
            message, at = _request(data, at)
        except _Unfinished:
            return Reading(tuple(messages), "unfinished", at, _method(data, at))
        except _Invalid:
            return Reading(tuple(messages), "invalid", at, _method(data, at))
        messages.append(message)


def _method(data: bytes, at: int) -> bytes:
    return data[at : at + 200].lstrip(b"\r\n").partition(b" ")[0]


def read_answers(data: bytes, methods: Sequence[bytes], *, closed: bool) -> Reading:
    """What a server answered to requests with these methods. Interim answers (1xx) are left out."""
    messages: list[Message] = []
    at = 0
    while at < len(data):
        method = methods[len(messages)] if len(messages) < len(methods) else b"GET"
        try:
            message, at = _answer(data, at, method, closed=closed)
        except _Unfinished:
            return Reading(tuple(messages), "unfinished", at)
        except _Invalid:
            return Reading(tuple(messages), "invalid", at)
        if message.status >= 200:
            messages.append(message)
    return Reading(tuple(messages), "clean", at)


def _request(data: bytes, at: int) -> tuple[Message, int]:
    match = _REQUEST.match(data, at)
    if match is None:
        raise _Invalid if b"\r\n\r\n" in data[at:].lstrip(b"\r\n") else _Unfinished
    method, target, minor, lines = match.groups()
    headers = _fields(lines)
    if sum(name == b"host" for name, _ in headers) != 1 and minor == b"1":
        raise _Invalid
    length = _length(headers)
    if length is None and minor == b"0":
        raise _Invalid
    body, end = _body(data, match.end(), length)
    return Message((method, target), headers, body, int(minor)), end


def _answer(data: bytes, at: int, method: bytes, *, closed: bool) -> tuple[Message, int]:
    match = _ANSWER.match(data, at)
    if match is None:
        raise _Invalid if b"\r\n\r\n" in data[at:] else _Unfinished
    status, lines = match.groups()
    headers = _fields(lines)
    end = match.end()
    body = b""
    if method != b"HEAD" and status not in (b"204", b"304") and not status.startswith(b"1"):
        framed = any(name in (b"content-length", b"transfer-encoding") for name, _ in headers)
        if framed:
            body, end = _body(data, end, _length(headers))
        elif closed:
            body, end = data[end:], len(data)
        else:
            raise _Unfinished
    return Message((status,), headers, body), end


def _fields(lines: bytes) -> tuple[Header, ...]:
    pairs = (line.partition(b":") for line in lines.split(b"\r\n")[:-1])
    return tuple((name.lower(), value.strip(b" \t")) for name, _, value in pairs)


def _length(headers: Sequence[Header]) -> int | None:
    """The length of a body, None for a chunked one."""
    framing = [header for header in headers if header[0] in (b"content-length", b"transfer-encoding")]
    if not framing:
        return 0
    (name, value), *more = framing
    if more:
        raise _Invalid
    if name == b"transfer-encoding":
        if value.lower() != b"chunked":
            raise _Invalid
        return None
    if not re.fullmatch(rb"[0-9]{1,18}", value):
        raise _Invalid
    return int(value)


def _body(data: bytes, at: int, length: int | None) -> tuple[bytes, int]:
    if length is not None:
        if len(data) - at < length:
            raise _Unfinished
        return data[at : at + length], at + length
    parts: list[bytes] = []
    while True:
        match = _CHUNK.match(data, at)
        if match is None:
            raise _Invalid if b"\n" in data[at:] else _Unfinished
        size, at = int(match[1], 16), match.end()
        if size == 0:
            break
        if len(data) - at < size + 2:
            raise _Unfinished
        if data[at + size : at + size + 2] != b"\r\n":
            raise _Invalid
        parts.append(data[at : at + size])
        at += size + 2
    match = _TRAILER.match(data, at)
    if match is None:
        raise _Invalid if b"\r\n\r\n" in data[at:] or data[at : at + 2] == b"\r\n" else _Unfinished
    return b"".join(parts), match.end()

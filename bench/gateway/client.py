"""Clients on asyncio's protocols: they cost less than what they measure."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import cast

import httptools

_MARK = b"@"
_STAMP = 17


class Client(asyncio.Protocol):
    """One connection. Requests go out one after the other; `done` is called after each answer."""

    def __init__(self, done: Callable[[Client], None]) -> None:
        self.status = 0
        self.failed = False
        self.began = 0.0
        self.first = 0.0
        """When the first part of the body came."""
        self.arrivals: list[float] = []
        """When each frame came."""
        self.transits: list[float] = []
        """How long each frame was on its way."""
        self.ended = False
        """Whether a stream told its end."""
        self.done = done
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._rest = b""
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        if self._busy:
            self._busy = False
            self.failed = True
            self.done(self)

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, request: bytes) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.status, self.failed, self.ended = 0, False, False
        self.first, self._rest = 0.0, b""
        self.arrivals, self.transits = [], []
        self._busy = True
        self.began = time.monotonic()
        assert self._transport is not None
        self._transport.write(request)

    def close(self) -> None:
        self._busy = False
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, part: bytes) -> None:
        now = time.monotonic()
        if not self.first:
            self.first = now
        if b"[DONE]" in part:
            self.ended = True
        text = self._rest + part
        at = text.find(_MARK)
        while at >= 0:
            end = at + 1 + _STAMP
            if len(text) <= end:
                break
            self.arrivals.append(now)
            self.transits.append(now - float(text[at + 1 : end]))
            text = text[end + 1 :]
            at = text.find(_MARK)
        self._rest = text[at:] if at >= 0 else b""

    def on_message_complete(self) -> None:
        if self._busy:
            self._busy = False
            if not self._parser.should_keep_alive() and self._transport is not None:
                self._transport.close()
            self.done(self)


def request_of(port: int, path: str, headers: dict[str, str], body: bytes) -> bytes:
    """The bytes of a request."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n{lines}"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


async def connect(port: int, done: Callable[[Client], None] = lambda _client: None) -> Client:
    """Open a connection. Raises OSError."""
    _, client = await asyncio.get_running_loop().create_connection(lambda: Client(done), "127.0.0.1", port)
    return client

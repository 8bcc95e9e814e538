"""Engines on real sockets that write down every request, and answer what the input says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import cast

from tools.fuzz import answers
from tools.fuzz.answers import Script
from tools.fuzz.strict import Message, read_requests

_KEEP_S = 0.05


class Engine:
    """Listens on a port of its own. `seen` has every request of an input, in the order of arrival.

    `scripts` are the answers that it gives in turn; without any, it answers as it should. `complaints`
    has what arrived and was no proper request.
    """

    def __init__(self) -> None:
        self.seen: list[Message] = []
        self.complaints: list[str] = []
        self.scripts: Sequence[Script] = ()
        self.port = 0
        self.turn = 0
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self, self._connections), "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.abort()

    def begin(self, scripts: Sequence[Script]) -> None:
        """Another input: forget the requests of the last one."""
        self.seen, self.complaints = [], []
        self.scripts = scripts
        self.turn = 0


class _Connection(asyncio.Protocol):
    def __init__(self, engine: Engine, connections: set[_Connection]) -> None:
        self._engine = engine
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        self._connections.discard(self)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._data += data
        reading = read_requests(self._data)
        if reading.end == "invalid":
            self._engine.complaints.append(
                f"an engine got no proper request: {self._data[reading.rest :][:300]!r}"
            )
        self._data = self._data[reading.rest :]
        for message in reading.messages:
            if message.method == b"GET":  # whether it is ready, asked by the gateway itself
                self._write(answers.proper(stream=False))
            else:
                self._engine.seen.append(message)
                self._answer(message)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _answer(self, message: Message) -> None:
        engine, transport = self._engine, self._transport
        if transport is None:
            return
        if not engine.scripts:
            stream = b'"stream":true' in message.body.replace(b" ", b"")
            self._write(answers.proper(stream=stream))
            return
        script = engine.scripts[engine.turn % len(engine.scripts)]
        engine.turn += 1
        _play(transport, list(script.pieces), script.ending)


def _play(transport: asyncio.Transport, pieces: list[bytes], ending: answers.Ending) -> None:
    """Send one piece in each round of the event loop, so that each one arrives by itself."""
    if transport.is_closing():
        return
    if pieces:
        transport.write(pieces.pop(0))
        again: Callable[[], object] = lambda: _play(transport, pieces, ending)  # noqa: E731
        asyncio.get_running_loop().call_soon(again)
    elif ending == "close":
        transport.close()
    elif ending == "keep":
        # Long enough for another request, and no time-out has to end what is not complete.
        asyncio.get_running_loop().call_later(_KEEP_S, transport.close)
    elif ending == "reset":
        transport.abort()

"""An engine on a real socket whose every byte and every moment a test decides."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass
class Received:
    """A request as it arrived, and the connection to answer on."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    connection: Connection

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Connection:
    """One connection of the gateway. `closed` is set when the gateway closes it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def json(self, document: Any, status: str = "200 OK", headers: str = "") -> None:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        await self.write(f"{head}{headers}\r\n".encode() + body)

    async def start_stream(self) -> None:
        head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
        await self.write(f"{head}transfer-encoding: chunked\r\n\r\n".encode())

    async def chunk(self, data: bytes) -> None:
        await self.write(b"%x\r\n%s\r\n" % (len(data), data))

    async def end_stream(self) -> None:
        await self.write(b"0\r\n\r\n")

    def abort(self) -> None:
        """Die: the peer gets a reset."""
        self.writer.transport.abort()

    def close(self) -> None:
        self.writer.close()


Behaviour = Callable[[Received], Awaitable[None]]

COMPLETION: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "served",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Paris"},
            "finish_reason": "stop",
            "x_extra": 1,
        }
    ],
    "usage": {"prompt_tokens": 7, "total_tokens": 9, "completion_tokens": 2},
    "x_unknown": {"kept": True},
}


def event(content: str) -> bytes:
    """One event of a chat stream."""
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": None}
    document = {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "served",
        "choices": [choice],
    }
    return b"data: " + json.dumps(document).encode() + b"\n\n"


async def answer(request: Received) -> None:
    """What an engine does when nothing goes wrong."""
    if not request.json.get("stream"):
        await request.connection.json(COMPLETION)
        return
    await request.connection.start_stream()
    for word in ("Pa", "ris"):
        await request.connection.chunk(event(word))
    await request.connection.chunk(
        b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}\n\n'
    )
    await request.connection.chunk(b"data: [DONE]\n\n")
    await request.connection.end_stream()


class MockEngine:
    """Listens on a port of its own. `behaviour` answers requests; /health and /metrics are answered by
    `healthy` and `exposition`, and not at all while it is `hung`.
    """

    def __init__(self) -> None:
        self.behaviour: Behaviour = answer
        self.healthy = True
        self.hung = False
        self.exposition = b""
        self.probed: list[str] = []
        self.requests: list[Received] = []
        self.connections = 0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> Self:
        """Listen; after `stop`, on the same port again."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Close the port and every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        connection = Connection(reader, writer)
        try:
            while not writer.is_closing() and await self._one(connection):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _one(self, connection: Connection) -> bool:
        try:
            head = await connection.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return False
        line, *rest = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        method, path, _ = line.split(" ")
        headers = [(name, value.strip()) for name, _, value in (item.partition(":") for item in rest)]
        length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
        request = Received(method, path, headers, await connection.reader.readexactly(length), connection)
        if path in ("/health", "/metrics"):
            self.probed.append(path)
            if self.hung:
                await asyncio.Event().wait()
            await connection.json(self.exposition, "200 OK" if self.healthy else "503 Service Unavailable")
            return True
        self.requests.append(request)
        watcher = asyncio.create_task(_watch(connection))
        try:
            await self.behaviour(request)
        finally:
            watcher.cancel()
        return not connection.closed.is_set()


async def _watch(connection: Connection) -> None:
    """Set `closed` at the end of the peer's input. The gateway never sends two requests at once."""
    while not connection.reader.at_eof():  # noqa: ASYNC110 (a stream has no event)
        await asyncio.sleep(0.002)
    connection.closed.set()

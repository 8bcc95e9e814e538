"""An engine for measurements: answers after a given time, streams at a given pace, and notes who left.

Run as `engine.py PORT SECONDS`, in an environment that has httptools and uvloop. A GET of any path tells what
it noted. A stream's frames carry the moment at which they were written.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import cast

import httptools
import uvloop

FRAME_S = 0.02
FRAMES = 64
_ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "served",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "Paris"}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 7, "total_tokens": 9, "completion_tokens": 2},
    }
).encode()
_FRAME = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"served","choices":'
    b'[{"index":0,"delta":{"content":"@%017.6f@"},"finish_reason":null}]}\n\n'
)
_LAST = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"served","choices":'
    b'[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)
_STREAM = (b'"stream":true', b'"stream": true')


class Engine:
    """What all connections share. `delay_s` is the time before an answer begins."""

    def __init__(self, delay_s: float) -> None:
        self.delay_s = delay_s
        self.begun = 0
        """Requests that arrived."""
        self.left: list[float] = []
        """When connections were closed on which an answer was still due; seconds of the monotonic clock."""

    def noted(self) -> bytes:
        return json.dumps({"begun": self.begun, "left": self.left[-1000:]}).encode()


class _Connection(asyncio.Protocol):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._parts: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._sent = 0
        self._next = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
            self._engine.left.append(time.monotonic())

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._url = url

    def on_body(self, part: bytes) -> None:
        self._parts.append(part)

    def on_message_complete(self) -> None:
        body = b"".join(self._parts)
        self._parts.clear()
        if self._parser.get_method() == b"GET":
            self._send(self._engine.noted())
            return
        self._engine.begun += 1
        delay_s = self._engine.delay_s
        if any(word in body for word in _STREAM):
            self._sent = 0
            self._next = self._loop.time() + delay_s
            self._timer = self._loop.call_at(self._next, self._frame)
        elif delay_s:
            self._timer = self._loop.call_later(delay_s, self._answer)
        else:
            self._answer()

    def _answer(self) -> None:
        self._timer = None
        self._send(_ANSWER)

    def _send(self, body: bytes) -> None:
        if self._transport is not None:
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            self._transport.write(head % len(body) + body)
            if not self._parser.should_keep_alive():
                self._transport.close()

    def _frame(self) -> None:
        if self._transport is None:
            return
        frame = _FRAME % time.monotonic()
        data = b"%x\r\n%b\r\n" % (len(frame), frame)
        if self._sent == 0:
            head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
            data = head + b"transfer-encoding: chunked\r\n\r\n" + data
        self._sent += 1
        if self._sent < FRAMES:
            self._next += FRAME_S
            self._timer = self._loop.call_at(self._next, self._frame)
        else:
            self._timer = None
            data += b"%x\r\n%b\r\n0\r\n\r\n" % (len(_LAST), _LAST)
        self._transport.write(data)


async def _serve(port: int, delay_s: float) -> None:
    engine = Engine(delay_s)
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: _Connection(engine), "127.0.0.1", port, backlog=4096)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), float(sys.argv[2])))

"""An engine that computes nothing, for loads that a real one on two cores could not bear.

Run as `simulated_engine.py PORT`. It takes a moment for each answer, and streams where it is asked to. When
told to stop it ends what is under way first, as vLLM does.
"""

import asyncio
import json
import signal
import sys

import httptools
import uvloop

DELAY_S, FRAMES, FRAME_S, DRAIN_S = 0.005, 5, 0.01, 5.0
ANSWER = {
    "id": "sim-1",
    "object": "chat.completion",
    "created": 1,
    "model": "simulated",
    "choices": [
        {
            "index": 0,
            "text": "one",
            "message": {"role": "assistant", "content": "one"},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}
FRAME = {"id": "sim-1", "object": "chat.completion.chunk", "created": 1, "model": "simulated"}
FRAME["choices"] = [{"index": 0, "delta": {"content": "one"}, "finish_reason": None}]
BODY = json.dumps(ANSWER).encode()
EVENT = b"data: " + json.dumps(FRAME).encode() + b"\n\n"
CONNECTIONS = set()


class Connection(asyncio.Protocol):
    """Serves one request after the other."""

    def __init__(self):
        self.parser = httptools.HttpRequestParser(self)
        self.body = b""
        self.busy = False

    def connection_made(self, transport):
        self.transport = transport
        CONNECTIONS.add(self)

    def connection_lost(self, _error):
        CONNECTIONS.discard(self)

    def data_received(self, data):
        self.parser.feed_data(data)

    def on_body(self, part):
        self.body += part

    def on_message_complete(self):
        body, self.body, self.busy = self.body, b"", True
        loop = asyncio.get_running_loop()
        if self.parser.get_method() == b"GET":
            self.answer(b"{}")
        elif b'"stream": true' in body or b'"stream":true' in body:
            head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            loop.call_later(DELAY_S, self.frames, head, FRAMES)
        else:
            loop.call_later(DELAY_S, self.answer, BODY)

    def answer(self, body):
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        self.transport.write(head % len(body) + body)
        self.busy = False

    def frames(self, head, left):
        if left:
            self.transport.write(head + b"%x\r\n%b\r\n" % (len(EVENT), EVENT))
            asyncio.get_running_loop().call_later(FRAME_S, self.frames, b"", left - 1)
        else:
            self.transport.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
            self.busy = False


async def serve(port):
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    server = await loop.create_server(Connection, "127.0.0.1", port, backlog=4096)
    await stopped.wait()
    server.close()
    deadline = loop.time() + DRAIN_S
    while any(one.busy for one in CONNECTIONS) and loop.time() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


uvloop.run(serve(int(sys.argv[1])))

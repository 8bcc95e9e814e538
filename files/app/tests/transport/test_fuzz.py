"""Any bytes, in any pieces."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from citadel_llm.gateway.transport.connection import ClientConnection
from citadel_llm.gateway.transport.limits import Limits
from citadel_llm.gateway.transport.server import HttpServer
from files.app.tests.transport.conftest import Recorder

pytestmark = pytest.mark.slow

FRAGMENTS = [
    b"GET ", b"POST ", b"HEAD ", b"CONNECT ", b"/a", b"http://x/", b"*", b" HTTP/1.1", b" HTTP/1.0", b"\r\n",
    b"\r\n\r\n", b"\n", b"\r", b"\0", b" ", b":", b";", b",", b"host: x", b"content-length: ",
    b"transfer-encoding: ", b"chunked", b"identity", b"connection: ", b"close", b"keep-alive", b"upgrade",
    b"upgrade: h2c", b"expect: 100-continue", b"0", b"1", b"5", b"a", b"hello", b"ffffffffffffffff",
    b"GET /b HTTP/1.1\r\nhost: x\r\n\r\n",
    b"POST /c HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello",
    b"POST /d HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
]  # fmt: skip
streams = st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=4), max_size=12).map(b"".join)


class Transport:
    """Takes what is written; when it is closed it says so, as the event loop would."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def get_extra_info(self, _name: str) -> Any:
        return ("127.0.0.1", 1)

    def write(self, data: bytes) -> None:
        assert data
        if not self.closed:
            self.written += data

    def close(self) -> None:
        self.closed = True

    write_eof = abort = close

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


def feed(parts: list[bytes]) -> tuple[list[tuple[str, bytes, bytes | None]], list[str]]:
    """What the application was asked, and the statuses that were answered."""

    async def run() -> tuple[list[tuple[str, bytes, bytes | None]], list[str]]:
        recorder = Recorder()
        connection = ClientConnection(HttpServer(recorder, Limits(head_bytes=4_096, body_bytes=4_096)))
        transport = Transport()
        connection.connection_made(transport)  # type: ignore[arg-type]
        for part in parts:
            if not transport.closed:
                connection.data_received(part)
        answered = transport.written.split(b"HTTP/1.1 ")[1:]
        statuses = [status for answer in answered if (status := answer[:3].decode()) != "100"]
        connection.connection_lost(None)
        assert len(statuses) <= len(recorder.served) + 1
        return [served.summary for served in recorder.served], statuses

    return asyncio.run(run())


@settings(max_examples=200, deadline=None)
@given(streams, st.data())
def test_how_bytes_are_cut_changes_nothing(stream: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, max(len(stream), 1)), max_size=6)))
    parts = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    whole, pieces = feed([stream]), feed([part for part in parts if part])
    assert whole == pieces

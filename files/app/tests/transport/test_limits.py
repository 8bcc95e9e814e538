"""Clients that want too much, are too slow, or leave."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from files.app.tests.gateway.harness import until
from files.app.tests.transport.conftest import Recorder, Served, Site

HEAD = b"POST /a HTTP/1.1\r\nhost: x\r\n"
GET = b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n"
Serve = Callable[..., Awaitable[Site]]


def status(answer: bytes) -> int:
    return int(answer.split(b" ")[1])


@pytest.mark.parametrize(
    "data",
    [
        HEAD + b"x: " + b"a" * 3_000 + b"\r\n\r\n",
        HEAD + b"x: " + b"a" * 3_000,
        HEAD + b"".join(b"x%d: %b\r\n" % (n, b"a" * 90) for n in range(15)) + b"\r\n",
        HEAD + b"x: y\r\n" * 30 + b"\r\n",
        b"GET /" + b"a" * 3_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /" + b"a" * 3_000,
        HEAD + b"a" * 3_000,
    ],
)
async def test_a_head_that_is_too_large(serve: Serve, application: Recorder, data: bytes) -> None:
    site = await serve(head_bytes=1_024, head_fields=20, linger_s=0.1)
    for parts in ([data], [data[at : at + 300] for at in range(0, len(data), 300)]):
        assert status(await site.raw(*parts)) == 431
    assert application.served == []


async def test_a_head_of_many_pieces_below_the_limit(serve: Serve, application: Recorder) -> None:
    site = await serve(head_bytes=1_024)
    data = HEAD + b"connection: close\r\nx: " + b"a" * 900 + b"\r\n\r\n"
    assert status(await site.raw(*[data[at : at + 100] for at in range(0, len(data), 100)])) == 200


@pytest.mark.parametrize(
    "data",
    [
        HEAD + b"content-length: 101\r\n\r\n",
        HEAD + b"content-length: 101\r\n\r\n" + b"a" * 101,
        HEAD + b"transfer-encoding: chunked\r\n\r\n" + b"32\r\n%b\r\n" % (b"a" * 50) * 3,
    ],
)
async def test_a_body_that_is_too_large(serve: Serve, application: Recorder, data: bytes) -> None:
    site = await serve(body_bytes=100, linger_s=0.1)
    assert status(await site.raw(data)) == 413
    assert application.bodies == [None]


async def test_a_body_of_the_largest_size(serve: Serve, application: Recorder) -> None:
    site = await serve(body_bytes=100)
    assert (
        status(await site.raw(HEAD + b"connection: close\r\ncontent-length: 100\r\n\r\n" + b"a" * 100)) == 200
    )


async def test_a_large_body_that_nobody_waits_for(serve: Serve, application: Recorder) -> None:
    """The answer reaches a client that reads only after it has sent everything."""
    site = await serve(linger_s=5)

    def begin(request: Any) -> None:
        request.respond(401, b"", b"no")

    application.begin = begin  # type: ignore[method-assign]
    reader, writer = await site.connect()
    writer.write(HEAD + b"content-length: 8000000\r\n\r\n")
    for _ in range(80):
        writer.write(b"a" * 100_000)
        await writer.drain()
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    assert status(answer) == 401
    assert b"\r\nconnection: close\r\n" in answer


async def test_a_small_body_that_nobody_waits_for_costs_no_connection(
    serve: Serve, application: Recorder
) -> None:
    site = await serve()
    real = application.begin

    def begin(request: Any) -> None:
        request.respond(401, b"", b"no")
        application.begin = real  # type: ignore[method-assign]

    application.begin = begin  # type: ignore[method-assign]
    reader, writer = await site.connect()
    writer.write(HEAD + b"content-length: 4\r\n\r\nab")
    assert status(await asyncio.wait_for(reader.readuntil(b"\r\n\r\nno"), 20)) == 401
    writer.write(b"cd" + HEAD + b"connection: close\r\n\r\n")
    assert status(await asyncio.wait_for(reader.read(), 20)) == 200
    writer.close()


async def test_leave_to_send_is_given_once_and_only_when_it_is_waited_for(
    serve: Serve, application: Recorder
) -> None:
    site = await serve()
    reader, writer = await site.connect()
    writer.write(HEAD + b"content-length: 2\r\nexpect: 100-continue\r\n\r\n")
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20) == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"hi" + HEAD + b"content-length: 2\r\nexpect: 100-continue\r\nconnection: close\r\n\r\nho")
    assert b" 100 " not in await asyncio.wait_for(reader.read(), 20)
    writer.close()
    assert application.bodies == [b"hi", b"ho"]


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"", None),
        (b"GET /a HT", 408),
        (HEAD, 408),
        (HEAD + b"content-length: 5\r\n\r\nab", 408),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nab", 408),
        (GET, 200),
    ],
)
async def test_who_sends_nothing_more_is_not_waited_for(
    serve: Serve, data: bytes, answer: int | None
) -> None:
    site = await serve(head_s=0.1, body_s=0.1, keepalive_s=0.1, linger_s=0.1)
    received = await site.raw(data)  # it returns when the connection is closed
    assert (status(received) if received else None) == answer
    assert received.count(b"HTTP/1.1 ") == (answer is not None)


async def test_a_drip_does_not_extend_the_time_for_a_head(serve: Serve) -> None:
    site = await serve(head_s=0.2, linger_s=0.1)
    reader, writer = await site.connect()

    async def drip() -> None:
        while True:
            writer.write(b"x")
            await asyncio.sleep(0.02)

    writer.write(b"GET /")
    dripping = asyncio.create_task(drip())
    try:
        assert status(await asyncio.wait_for(reader.read(), 20)) == 408
    finally:
        dripping.cancel()
        writer.close()


async def test_connections_are_counted_in_all_and_by_address(serve: Serve) -> None:
    site = await serve(connections=4, connections_per_address=2, linger_s=0.1)
    open_ones = [await site.connect(local_addr=("127.0.0.2", 0)) for _ in range(2)]
    await until(lambda: site.http.count.total == 2)
    reader, writer = await site.connect(local_addr=("127.0.0.2", 0))
    assert status(await asyncio.wait_for(reader.read(), 20)) == 503
    writer.close()
    open_ones += [await site.connect() for _ in range(2)]  # the edge is not counted by address
    await until(lambda: site.http.count.total == 4)
    assert status(await site.raw(GET)) == 503
    for _, opened in open_ones:
        opened.close()
    await until(lambda: site.http.count.total == 0)
    assert site.http.count.refused == 2
    assert status(await site.raw(HEAD + b"connection: close\r\n\r\n")) == 200
    assert site.http.connections == set()


async def test_a_client_that_leaves_is_noticed_at_any_moment(serve: Serve, application: Recorder) -> None:
    site = await serve()
    application.answer = lambda served: None
    for data in (HEAD + b"content-length: 5\r\n\r\nab", GET):
        _, writer = await site.connect()
        writer.write(data)
        count = len(application.served)
        await until(lambda count=count: len(application.served) == count + 1)  # type: ignore[misc]
        writer.close()
        await until(lambda: application.served[-1].told == ["disconnect"])
    assert site.http.connections == set()


async def test_a_slow_reader_is_told_of_and_then_not_waited_for(serve: Serve, application: Recorder) -> None:
    site = await serve()

    def answer(served: Served) -> None:
        served.request.expect("slow", 0.2)
        served.request.start(200, b"", None)
        for _ in range(100):
            served.request.write(b"a" * 100_000)

    application.answer = answer
    reader, writer = await site.connect()
    writer.write(GET)
    await until(lambda: application.served[:1] != [] and "slow" in application.served[0].told)
    assert application.served[0].told == ["pause", "slow"]
    application.served[0].request.finish()
    received = b""
    while not received.endswith(b"\r\n0\r\n\r\n"):
        received += await asyncio.wait_for(reader.read(1 << 20), 20)
    writer.close()
    assert received.count(b"a") > 10_000_000


async def test_draining_tells_clients_to_close(serve: Serve, application: Recorder) -> None:
    site = await serve()
    reader, writer = await site.connect()
    writer.write(GET)
    assert b"connection: close" not in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
    site.http.stop_accepting()
    with pytest.raises(ConnectionRefusedError):
        await site.connect()
    writer.write(GET)
    assert b"connection: close" in await asyncio.wait_for(reader.read(), 20)
    writer.close()

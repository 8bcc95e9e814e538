"""Connections to engines: what comes back, and which connections are used again."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import uvloop

from citadel_llm.gateway.transport.answers import AnswerHead
from citadel_llm.gateway.transport.client import EngineConnection, Failure
from citadel_llm.gateway.transport.head import Header
from citadel_llm.gateway.transport.pool import Origin, Pool
from files.app.tests.gateway.harness import until
from files.app.tests.gateway.mock_engine import MockEngine, Received

REQUEST = b"POST /v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"


class Answer:
    """A receiver that remembers everything."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.status = 0
        self.headers: list[Header] = []
        self.length: int | None = None
        self.parts: list[bytes] = []
        self.over = asyncio.Event()
        self.reason = ""

    @property
    def body(self) -> bytes:
        return b"".join(self.parts)

    def on_connected(self) -> None:
        self.events.append("connected")

    def on_head(self, head: AnswerHead, length: int | None) -> None:
        self.events.append("head")
        self.status, self.headers, self.length = head.status, head.headers, length

    def on_data(self, data: bytes) -> None:
        assert data
        self.parts.append(data)

    def on_end(self, data: bytes) -> None:
        self.parts.append(data)
        self.events.append("end")
        self.over.set()

    def on_failure(self, failure: Failure, reason: str, *, stale: bool) -> None:
        self.events.append(failure + (" stale" if stale else ""))
        self.reason = reason
        self.over.set()


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    made = Pool(connect_s=1, keepalive_s=60)
    yield made
    made.close()
    await asyncio.sleep(0)


@pytest.fixture
async def engine() -> AsyncIterator[MockEngine]:
    started = await MockEngine().start()
    yield started
    await started.stop()


def saying(*parts: bytes, close: bool = False) -> Callable[[Received], Awaitable[None]]:
    async def behave(request: Received) -> None:
        for part in parts:
            await request.connection.write(part)
            await asyncio.sleep(0.01)
        if close:
            request.connection.close()

    return behave


async def ask(pool: Pool, engine: MockEngine) -> Answer:
    answer = Answer()
    pool.send(Origin.of(engine.url), REQUEST, answer)
    await asyncio.wait_for(answer.over.wait(), 20)
    return answer


@pytest.mark.parametrize(
    ("parts", "close", "body", "length", "again"),
    [
        ([WHOLE], False, b"ok", 2, True),
        ([WHOLE[:5], WHOLE[5:30], WHOLE[30:]], False, b"ok", 2, True),
        ([CHUNKED + b"1\r\no\r\n", b"1\r\nk\r\n0\r\n\r\n"], False, b"ok", None, True),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"], False, b"", 0, True),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], False, b"", None, True),
        ([b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nx: a\r\n\r\n", WHOLE], False, b"ok", 2, True),
        ([b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"], False, b"ok", 2, False),
        ([b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok"], False, b"ok", 2, False),
        ([b"HTTP/1.1 200 OK\r\n\r\no", b"k"], True, b"ok", None, False),
        ([WHOLE + b"HTTP/1.1 200 OK\r\n"], False, b"ok", 2, False),
        ([WHOLE + b"surplus"], False, b"ok", 2, False),
        ([WHOLE, b"surplus"], False, b"ok", 2, False),
    ],
)  # fmt: skip
async def test_an_answer_and_whether_its_connection_is_used_again(
    pool: Pool,
    engine: MockEngine,
    parts: list[bytes],
    close: bool,
    body: bytes,
    length: int | None,
    again: bool,
) -> None:
    engine.behaviour = saying(*parts, close=close)
    for _ in range(3):
        answer = await ask(pool, engine)
        assert answer.events[-2:] == ["head", "end"]
        assert (answer.body, answer.length) == (body, length)
        assert all(name == name.lower() for name, _ in answer.headers)
        await asyncio.sleep(0.03)  # what an engine sends unasked arrives while the connection is idle
    assert engine.connections == (1 if again else 3)
    assert len(pool.connections) == again


async def test_an_answer_with_the_head_of_the_one_before_has_a_length_of_its_own(
    pool: Pool, engine: MockEngine
) -> None:
    heads = []
    for body in (b"ok", b"a longer one", b"no", b""):
        engine.behaviour = saying(
            b"HTTP/1.1 503 Busy\r\nx: y\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )
        answer = await ask(pool, engine)
        assert (answer.status, answer.body, answer.length) == (503, body, len(body))
        heads.append(answer.headers)
    assert heads[0] is heads[1] is heads[2]
    assert engine.connections == 1


@pytest.mark.parametrize(
    ("parts", "failure"),
    [
        ([], "lost"),
        ([b"HTTP/1.1 200"], "lost"),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok"], "lost"),
        ([b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n"], "lost"),
        ([b"220 mail ESMTP\r\n"], "garbage"),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\nok"], "garbage"),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok"], "garbage"),
        ([b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"], "garbage"),
        ([b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n"], "garbage"),
        ([b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n"], "garbage"),
        ([b"HTTP/1.1 200 OK\r\nx: a\nset-cookie: b\r\n\r\n"], "garbage"),
        ([b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"], "garbage"),
        ([b"HTTP/1.1 200 OK\r\nx: " + b"a" * 100_000], "garbage"),
        ([b"HTTP/1.1 099 Low\r\ncontent-length: 2\r\n\r\nok"], "garbage"),
        ([b"HTTP/1.1 600 High\r\ncontent-length: 2\r\n\r\nok"], "garbage"),
    ],
)  # fmt: skip
async def test_an_answer_that_is_none(
    pool: Pool, engine: MockEngine, parts: list[bytes], failure: str
) -> None:
    engine.behaviour = saying(*parts, close=True)
    answer = await ask(pool, engine)
    assert answer.events[-1] == failure
    assert "end" not in answer.events
    await until(lambda: pool.connections == set())


async def test_what_follows_a_body_is_no_header(pool: Pool, engine: MockEngine) -> None:
    engine.behaviour = saying(CHUNKED + b"1\r\no\r\n0\r\nx-late: a\r\n\r\n")
    assert b"x-late" not in dict((await ask(pool, engine)).headers)


async def test_a_connection_that_the_engine_closed_is_not_used_again(pool: Pool, engine: MockEngine) -> None:
    engine.behaviour = saying(WHOLE)
    await ask(pool, engine)
    engine.requests[0].connection.close()
    await until(lambda: pool.connections == set())
    assert (await ask(pool, engine)).events == ["connected", "head", "end"]


async def test_a_connection_that_ends_as_it_is_used_is_stale(pool: Pool, engine: MockEngine) -> None:
    engine.behaviour = saying(WHOLE)
    await ask(pool, engine)
    engine.behaviour = saying(close=True)
    assert (await ask(pool, engine)).events == ["lost stale"]
    assert (await ask(pool, engine)).events == ["connected", "lost"]


async def test_an_idle_connection_grows_old(engine: MockEngine) -> None:
    pool = Pool(connect_s=1, keepalive_s=0.1)
    engine.behaviour = saying(WHOLE)
    await ask(pool, engine)
    await until(lambda: pool.connections == set())
    await ask(pool, engine)
    assert engine.connections == 2
    pool.close()


async def test_who_cannot_be_reached(pool: Pool) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        for url in (f"http://127.0.0.1:{taken.getsockname()[1]}", "http://no..host:1"):
            answer = Answer()
            pool.send(Origin.of(url), REQUEST, answer)
            await asyncio.wait_for(answer.over.wait(), 20)
            assert answer.events == ["unreachable"]
            assert answer.reason


async def test_a_connection_that_nobody_accepts_is_given_up() -> None:
    pool = Pool(connect_s=0.2, keepalive_s=1)
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        origin = Origin.of(f"http://127.0.0.1:{full.getsockname()[1]}")
        answers = [Answer() for _ in range(6)]
        for answer in answers:
            pool.send(origin, REQUEST, answer)
        await until(lambda: any("unreachable" in answer.events for answer in answers))
    assert {answer.reason for answer in answers if answer.reason} == {"no connection in 0.2 s"}
    pool.close()


async def test_a_cancelled_request_is_told_nothing_and_closes_its_connection(
    pool: Pool, engine: MockEngine
) -> None:
    async def behave(request: Received) -> None:
        await request.connection.closed.wait()

    engine.behaviour = behave
    answer = Answer()
    connection = pool.send(Origin.of(engine.url), REQUEST, answer)
    await until(lambda: len(engine.requests) == 1)
    connection.cancel()
    await asyncio.wait_for(engine.requests[0].connection.closed.wait(), 20)
    early = pool.send(Origin.of(engine.url), REQUEST, answer)
    early.cancel()  # not even connected
    await until(lambda: pool.connections == set())
    assert answer.events == ["connected"]


class _Impatient(Answer):
    """Gives up in the moment in which the connection has been opened."""

    connection: EngineConnection | None = None

    def on_connected(self) -> None:
        super().on_connected()
        assert self.connection is not None
        self.connection.cancel()


def test_who_gives_up_as_the_connection_opens_leaves_nothing_behind() -> None:
    """In that moment uvloop, as the gateway runs on it, tells of no end of the connection by itself."""

    async def give_up() -> None:
        engine = await MockEngine().start()
        pool = Pool(connect_s=5, keepalive_s=60)
        answers = [_Impatient() for _ in range(5)]
        for answer in answers:
            answer.connection = pool.send(Origin.of(engine.url), REQUEST, answer)
        await until(lambda: all(answer.events == ["connected"] for answer in answers))
        await until(lambda: pool.connections == set())
        await engine.stop()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(give_up())


async def test_nothing_is_read_while_it_is_paused(pool: Pool, engine: MockEngine) -> None:
    sent = 0

    async def behave(request: Received) -> None:
        nonlocal sent
        await request.connection.start_stream()
        for _ in range(300):
            await request.connection.chunk(b"a" * 65_536)
            sent += 1
        await request.connection.end_stream()

    engine.behaviour = behave
    answer = Answer()
    connection = pool.send(Origin.of(engine.url), REQUEST, answer)
    await until(lambda: answer.parts != [])
    connection.pause()
    size = len(answer.body)
    await asyncio.sleep(0.3)
    assert len(answer.body) <= size + 262_144
    assert sent < 300  # the engine is held up by its own buffers
    connection.resume()
    await asyncio.wait_for(answer.over.wait(), 20)
    assert len(answer.body) == 300 * 65_536


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("http://127.0.0.1:8000", b"127.0.0.1:8000"),
        ("http://[::1]:8000", b"[::1]:8000"),
        ("http://engine", b"engine"),
        ("https://engine:443", b"engine"),
        ("https://engine:80", b"engine:80"),
    ],
)
def test_the_name_of_an_origin(url: str, authority: bytes) -> None:
    assert Origin.of(url).authority == authority

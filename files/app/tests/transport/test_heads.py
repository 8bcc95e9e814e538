"""Heads that come again on a connection: what is remembered of them changes nothing but the time it takes."""

from __future__ import annotations

import asyncio
import gc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from citadel_llm.gateway.transport.head import Known, known
from citadel_llm.gateway.transport.limits import Limits
from citadel_llm.gateway.transport.reading import RequestReader
from files.app.tests.gateway.harness import until
from files.app.tests.transport.conftest import Recorder, Site
from files.app.tests.transport.test_fuzz import feed

HEAD = b"POST /a HTTP/1.1\r\nhost: x\r\nContent-Length: %d\r\nauthorization: Bearer k\r\n\r\n"
BODY = b"hello"
FIRST = HEAD % len(BODY) + BODY
SECOND = [
    HEAD % 5 + b"world",
    HEAD % 12 + b"another body",
    HEAD % 0,
    HEAD % 5 + b"wor",
    HEAD % 5 + b"world!",
    HEAD % 5 + b"world" + FIRST,
    HEAD % 5_000 + b"x" * 5_000,
    (HEAD % 5).replace(b": 5", b": 05") + b"world",
    (HEAD % 5).replace(b": 5", b": +5") + b"world",
    (HEAD % 5).replace(b": 5", b": 5 ") + b"world",
    (HEAD % 5).replace(b": 5", b": 5\r\ncontent-length: 5") + b"world",
    (HEAD % 5).replace(b": 5", b": 5\r\ntransfer-encoding: chunked") + b"world",
    (HEAD % 5).replace(b": 5", b": 99999999999999999999") + b"world",
    (HEAD % 5).replace(b"Bearer k", b"Bearer l") + b"world",
    (HEAD % 5).replace(b"Bearer k", b"Bearer k\r\nconnection: close") + b"world",
    b"\r\n" + HEAD % 5 + b"world",
    b"GET /b HTTP/1.1\r\nhost: x\r\n\r\n",
    b"nonsense\r\n\r\n",
]


@pytest.mark.parametrize("second", SECOND)
def test_a_request_in_one_piece_is_what_it_is_in_two(second: bytes) -> None:
    # The parser reads what comes in pieces; what comes at once may be recognised instead.
    expected = feed([FIRST, second[:1], second[1:], FIRST[:1], FIRST[1:]])
    assert feed([FIRST, second, FIRST]) == expected
    assert expected[0][0] == ("POST", b"/a", BODY)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(FIRST) - 1), st.binary(max_size=3), st.integers(0, 3))
def test_another_head_is_never_taken_for_the_one_before(at: int, put: bytes, removed: int) -> None:
    second = FIRST[:at] + put + FIRST[at + removed :]
    if second:
        assert feed([FIRST, second, FIRST]) == feed([FIRST, second[:1], second[1:], FIRST])


def test_only_a_head_that_is_what_the_parser_saw_is_remembered() -> None:
    assert isinstance(known(FIRST, 5, "head"), Known)
    assert known(FIRST, 6, "head") is None
    assert known(FIRST.replace(b"host: x\r", b"host: x"), 5, "head") is None
    assert known(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", 3, "head") is None


async def test_a_head_that_comes_again_is_not_read_again(site: Site, application: Recorder) -> None:
    reader, writer = await site.connect()
    for text in (b"one", b"and another"):
        writer.write(HEAD % len(text) + text)
        answer = await asyncio.wait_for(reader.readuntil(text), 20)
        assert b"content-length: %d\r\n" % len(text) in answer
    first, second = (served.request for served in application.served)
    assert first.head is second.head
    assert (first.length, second.length) == (3, 11)
    writer.close()


async def test_nothing_of_a_connection_that_is_gone_waits_for_the_collector(
    site: Site, application: Recorder
) -> None:
    def readers() -> int:
        return sum(type(one) is RequestReader for one in gc.get_objects())

    gc.collect()
    before = readers()
    gc.disable()
    try:
        for parts in (
            [HEAD % 3 + b"one", HEAD % 3 + b"two"],
            [HEAD % 3 + b"o"],
            [b"GET"],
            [b"nonsense\r\n\r\n"],
        ):
            _, writer = await site.connect()
            for part in parts:
                writer.write(part)
                await asyncio.sleep(0.01)
            writer.close()
            await until(lambda: not site.http.connections)
        application.served.clear()
        assert readers() == before
    finally:
        gc.enable()


def test_limits_hold_for_it_too() -> None:
    most = Limits(head_bytes=4_096, body_bytes=4_096).body_bytes
    served, statuses = feed([FIRST, HEAD % (most + 1) + b"x" * (most + 1)])
    assert (len(served), statuses) == (2, ["200", "413"])

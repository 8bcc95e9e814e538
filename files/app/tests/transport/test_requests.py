"""What clients may send, and what is refused because two readers could understand it differently."""

from __future__ import annotations

import asyncio

import pytest

from files.app.tests.transport.conftest import Recorder, Site

HEAD = b"POST /a HTTP/1.1\r\nhost: x\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
NEXT = b"GET /smuggled HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [
        # two lengths
        HEAD + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n0\r\n\r\n",
        HEAD + b"content-length: 0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\nab",
        HEAD + b"content-length: 2\r\ncontent-length: 2\r\n\r\nab",
        HEAD + b"content-length: 2, 2\r\n\r\nab",
        # no number
        HEAD + b"content-length: +2\r\n\r\nab",
        HEAD + b"content-length: -2\r\n\r\nab",
        HEAD + b"content-length: 0x2\r\n\r\nab",
        HEAD + b"content-length: 2 2\r\n\r\nab",
        HEAD + b"content-length: \r\n\r\nab",
        HEAD + b"content-length: 99999999999999999999999\r\n\r\nab",
        # other codings
        HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: identity\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        HEAD + b'transfer-encoding: "chunked"\r\n\r\n0\r\n\r\n',
        HEAD + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        b"POST /a HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        # chunks
        CHUNKED + b"+1\r\na\r\n0\r\n\r\n",
        CHUNKED + b"-1\r\na\r\n0\r\n\r\n",
        CHUNKED + b"0x1\r\na\r\n0\r\n\r\n",
        CHUNKED + b"1_0\r\na\r\n0\r\n\r\n",
        CHUNKED + b"1 \r\na\r\n0\r\n\r\n",
        CHUNKED + b"\r\na\r\n0\r\n\r\n",
        CHUNKED + b"1\na\r\n0\r\n\r\n",
        CHUNKED + b"1\r\na\n0\r\n\r\n",
        CHUNKED + b"1;x\na\r\n0\r\n\r\n",
        CHUNKED + b"2\r\na\r\n0\r\n\r\n",
        CHUNKED + b"fffffffffffffffff\r\na\r\n0\r\n\r\n",
        CHUNKED + b"1\r\na\r\n0\r\ncontent-length: 5\r\n\r\n",
        # lines
        HEAD + b"x: a\r\n folded\r\n\r\n",
        HEAD + b"content-length:\r\n 5\r\n\r\nhello",
        HEAD + b"x: a\ny: b\r\n\r\n",
        HEAD + b"x: a\rb: c\r\n\r\n",
        HEAD + b"x: a\0b\r\n\r\n",
        HEAD + b"x : a\r\n\r\n",
        HEAD + b": a\r\n\r\n",
        HEAD + b"no colon\r\n\r\n",
        HEAD + b"bad name: a\r\n\r\n",
        HEAD + b"\xff: a\r\n\r\n",
        b"POST /a HTTP/1.1\nhost: x\n\n",
        # first lines
        b"POST /a\0b HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST /a\tb HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST /a\xc3\xa9 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST /a HTTP/1.1 \r\nhost: x\r\n\r\n",
        b"POST /a HTTP/1.2\r\nhost: x\r\n\r\n",
        b"POST /a HTTP/2.0\r\nhost: x\r\n\r\n",
        b"GET /a\r\n\r\n",
        b"FETCH /a HTTP/1.1\r\nhost: x\r\n\r\n",
        b"post /a HTTP/1.1\r\nhost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT x:80 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        # hosts
        b"POST /a HTTP/1.1\r\n\r\n",
        b"POST /a HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n",
        b"POST http://y/a HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST ftp://x/a HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST http://x@y/a HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST a HTTP/1.1\r\nhost: x\r\n\r\n",
    ],
)
async def test_what_is_ambiguous_is_refused_and_ends_the_connection(
    site: Site, application: Recorder, data: bytes
) -> None:
    answer = await site.raw(data + NEXT)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"\r\nconnection: close\r\n" in answer
    assert application.bodies in ([], [None])
    assert len(application.refused) == 1


@pytest.mark.parametrize(
    ("data", "summary"),
    [
        (b"GET /a HTTP/1.1\r\nhost: x\r\n", ("GET", b"/a", b"")),
        (b"GET /a?b=/c HTTP/1.1\r\nhost: x\r\n", ("GET", b"/a", b"")),
        (b"GET http://X/a HTTP/1.1\r\nhost: x\r\n", ("GET", b"/a", b"")),
        (b"GET http://x HTTP/1.1\r\nhost: x\r\n", ("GET", b"/", b"")),
        (b"OPTIONS * HTTP/1.1\r\nhost: x\r\n", ("OPTIONS", b"*", b"")),
        (b"\r\n\r\nGET /a HTTP/1.1\r\nhost: x\r\n", ("GET", b"/a", b"")),
        (b"GET /a HTTP/1.0\r\n", ("GET", b"/a", b"")),
        (b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 2 \r\n", ("POST", b"/a", b"hi")),
        (b"POST /a HTTP/1.1\r\nhost: x\r\nTransfer-Encoding: Chunked\r\n", ("POST", b"/a", b"hi")),
    ],
)
async def test_what_is_clear_is_served(
    site: Site, application: Recorder, data: bytes, summary: tuple[str, bytes, bytes]
) -> None:
    body = b""
    if summary[2]:
        body = b"1;ext=1\r\nh\r\n1\r\ni\r\n0\r\nx: y\r\n\r\n" if b"Chunked" in data else b"hi"
    whole = data + b"connection: close\r\n\r\n" + body
    for parts in ([whole], [whole[at : at + 1] for at in range(len(whole))]):
        answer = await site.raw(*parts)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nconnection: close\r\n" in answer
        assert application.served[-1].summary == summary
    assert len(application.served) == 2


async def test_what_follows_a_body_is_no_header(site: Site, application: Recorder) -> None:
    """However it arrives: as a header it could say what another reader before this one has checked."""
    data = CHUNKED.replace(b"host: x", b"host: x\r\nconnection: close") + b"1\r\na\r\n0\r\nx-user: b\r\n\r\n"
    for parts in ([data], [data[:-20], data[-20:]], [data[at : at + 1] for at in range(len(data))]):
        assert (await site.raw(*parts)).startswith(b"HTTP/1.1 200 OK\r\n")
        assert application.served[-1].request.headers == []


async def test_an_upgrade_is_ignored_and_nothing_after_it_is_read(site: Site, application: Recorder) -> None:
    head = HEAD + b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AA\r\n"
    for framing in (
        b"content-length: 2\r\n\r\nhi",
        b"transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    ):
        data = head + framing
        for parts in ([data + NEXT], [data[at : at + 1] for at in range(len(data))]):
            answer = await site.raw(*parts)
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert answer.endswith(b"\r\n\r\nhi")
            assert application.bodies[-1] == b"hi"
    assert len(application.served) == 4
    assert all(
        name not in (b"upgrade", b"http2-settings") for name, _ in application.served[0].request.headers
    )


async def test_nothing_is_read_after_a_request_that_closes(site: Site, application: Recorder) -> None:
    answer = await site.raw(HEAD + b"connection: close\r\n\r\n" + NEXT)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert len(application.served) == 1


@pytest.mark.parametrize(
    "data",
    [
        HEAD + b"proxy-connection: close\r\ncontent-length: 1\r\n\r\na",
        CHUNKED + b"1\r\na\r\n0\r\nconnection: close\r\n\r\n",
    ],
)
async def test_what_the_parser_takes_for_a_close_closes(
    site: Site, application: Recorder, data: bytes
) -> None:
    """It reads no further; a client that is told of the close asks again, instead of being refused."""
    for parts in ([data + NEXT], [data, NEXT], [data[at : at + 1] for at in range(len(data))]):
        answer = await site.raw(*parts)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nconnection: close\r\n" in answer
        assert answer.count(b"HTTP/1.1 ") == 1
    assert len(application.served) == 3


async def test_requests_in_one_piece_are_answered_in_their_order(site: Site, application: Recorder) -> None:
    numbers = [b"%d" % number for number in range(20)]
    data = b"".join(HEAD + b"content-length: %d\r\n\r\n%b" % (len(n), n) for n in numbers)
    answer = await site.raw(data + NEXT)
    assert application.bodies == [*numbers, b""]
    assert answer.count(b"HTTP/1.1 200 OK") == 21
    places = [answer.index(b"\r\n\r\n%b" % number) for number in numbers]
    assert places == sorted(places)


async def test_what_was_understood_before_a_malformed_request_is_answered(
    site: Site, application: Recorder
) -> None:
    answer = await site.raw(HEAD + b"content-length: 2\r\n\r\nhi" + b"nonsense\r\n\r\n" + NEXT)
    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")] == [b"", b"200", b"400"]
    assert application.bodies == [b"hi"]


async def test_too_many_unanswered_requests_end_the_connection(site: Site, application: Recorder) -> None:
    waiting: list[object] = []
    application.answer = waiting.append
    reader, writer = await site.connect()
    writer.write(b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n" * 100)
    await asyncio.sleep(0.05)
    assert len(waiting) == 1  # the others wait for their turn
    application.answer = lambda served: served.request.respond(200, b"", b"")
    application.served[0].request.respond(200, b"", b"")
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    assert 30 < len(application.served) < 40
    assert answer.count(b" 200 OK") == len(application.served)
    assert answer.count(b" 400 Bad Request") == 1


async def test_head_has_no_body_but_its_length(site: Site) -> None:
    answer = await site.raw(
        b"HEAD /a HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi"
    )
    assert b"\r\ncontent-length: 2\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("data", [b"HEAD /a HTTP/1.1\r\n\r\n", b"HEAD x:1 HTTP/1.1\r\nhost: x\r\n\r\n"])
async def test_head_has_no_body_when_it_is_refused(site: Site, data: bytes) -> None:
    answer = await site.raw(data)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.endswith(b"\r\n\r\n")
    answers = await site.raw(b"HEAD /a HTTP/1.1\r\nhost: x\r\n\r\nnonsense")
    assert answers.endswith(b"Invalid method encountered.")  # of what came after it, nobody knows the method


async def test_an_answer_of_unknown_length_ends_as_the_client_understands_it(
    site: Site, application: Recorder
) -> None:
    def answer(served: object) -> None:
        request = application.served[-1].request
        request.start(200, b"", None)
        request.write(b"a" * 20)
        request.finish(b"b")

    application.answer = answer
    new = await site.raw(b"GET /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    old = await site.raw(b"GET /a HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
    assert new.endswith(
        b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n14\r\n%b\r\n1\r\nb\r\n0\r\n\r\n"
        % (b"a" * 20)
    )
    assert old.endswith(b"\r\nconnection: close\r\n\r\n" + b"a" * 20 + b"b")
    assert b"transfer-encoding" not in old


async def test_an_answer_that_is_cut_is_not_taken_for_a_whole_one(site: Site, application: Recorder) -> None:
    def answer(served: object) -> None:
        request = application.served[-1].request
        request.start(200, b"", None)
        request.write(b"a")
        request.cut()

    application.answer = answer
    data = await site.raw(b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n")
    assert data.endswith(b"\r\n\r\n1\r\na\r\n")
    with pytest.raises(ConnectionResetError):
        await site.raw(b"GET /a HTTP/1.0\r\n\r\n")

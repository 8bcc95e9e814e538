"""Bytes on the wire that no client should send."""

from __future__ import annotations

import asyncio

import pytest

from files.app.tests.gateway.harness import MODEL, Running
from files.app.tests.gateway.mock_engine import MockEngine

BODY = f'{{"model":"{MODEL}"}}'


def _request(gateway: Running, headers: str, body: str = BODY, version: str = "1.1") -> bytes:
    line = f"POST /v1/completions HTTP/{version}\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n"
    return f"{line}{headers}\r\n{body}".encode()


CHUNKED = f"{len(BODY):x}\r\n{BODY}\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (f"content-length: {len(BODY)}\r\ntransfer-encoding: chunked\r\n", CHUNKED),
        (f"transfer-encoding: chunked\r\ncontent-length: {len(BODY)}\r\n", CHUNKED),
        (f"content-length: {len(BODY)}\r\ncontent-length: {len(BODY) + 5}\r\n", BODY),
        (f"content-length: +{len(BODY)}\r\n", BODY),
        ("content-length: -1\r\n", BODY),
        ("content-length: 0x10\r\n", BODY),
        ("transfer-encoding: chunked, identity\r\n", CHUNKED),
        ("transfer-encoding: xchunked\r\n", CHUNKED),
        ("transfer-encoding : chunked\r\n", CHUNKED),
        ("transfer-encoding: chunked\r\n", f"+{len(BODY):x}\r\n{BODY}\r\n0\r\n\r\n"),
        ("transfer-encoding: chunked\r\n", f"{len(BODY) + 1:x}\r\n{BODY}\r\n0\r\n\r\n"),
        ("bad header: 1\r\n", BODY),
        ("x: a\0b\r\n", BODY),
        ("x: a\rb: c\r\n", BODY),
    ],
)
async def test_an_ambiguous_request_never_reaches_the_engine(
    gateway: Running, engine: MockEngine, headers: str, body: str
) -> None:
    data = await gateway.raw(_request(gateway, headers, body))
    assert data.startswith(b"HTTP/1.1 400 ")
    assert data.count(b"HTTP/1.1 ") == 1
    assert engine.requests == []


@pytest.mark.parametrize(
    ("path", "start"),
    [
        ("/v1/messages", b'{"type": "error", "error": {"type": "invalid_request_error", "message": "The req'),
        ("/v1/completions", b'{"error": {"message": "The request'),
    ],
)
@pytest.mark.parametrize("header", ["bad header: 1", "x: " + "a" * 40_000, "content-length: 1\r\nx\0: y"])
async def test_what_is_no_request_is_told_in_the_form_of_the_api_that_was_called(
    gateway: Running, path: str, start: bytes, header: str
) -> None:
    data = await gateway.raw(f"POST {path} HTTP/1.1\r\nhost: x\r\n{header}\r\n\r\n".encode())
    head, _, body = data.partition(b"\r\n\r\n")
    assert head[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 431")
    assert b"\r\nx-request-id: " in head
    assert body.startswith(start)


async def test_a_prefix_of_the_next_request_cannot_be_smuggled(gateway: Running, engine: MockEngine) -> None:
    inner = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(BODY)}\r\n\r\n{BODY}"
    outer = f'{{"model":"{MODEL}","prompt":"\\n{inner.encode().hex()}"}}'
    data = _request(gateway, f"content-length: {len(outer)}\r\n", outer)
    # The second one is complete and has no key of its own.
    answer = await gateway.raw(data + inner.replace("host: x", "host: x\r\nconnection: close").encode())
    assert answer.count(b"HTTP/1.1 200 OK") == 1
    assert answer.count(b"HTTP/1.1 401 ") == 1
    assert len(engine.requests) == 1


async def test_pipelined_requests_are_answered_in_turn(gateway: Running, engine: MockEngine) -> None:
    first = _request(gateway, f"content-length: {len(BODY)}\r\nx-request-id: one\r\n")
    second = _request(gateway, f"content-length: {len(BODY)}\r\nx-request-id: two\r\nconnection: close\r\n")
    data = await gateway.raw(first + second)
    assert data.count(b"HTTP/1.1 200 OK") == 2
    assert data.index(b"x-request-id: one") < data.index(b"x-request-id: two")
    assert [request.values("x-request-id") for request in engine.requests] == [["one"], ["two"]]


async def test_chunked_bodies_and_old_clients_are_served(gateway: Running, engine: MockEngine) -> None:
    data = await gateway.raw(
        _request(gateway, "transfer-encoding: chunked\r\nconnection: close\r\n", CHUNKED)
    )
    assert data.startswith(b"HTTP/1.1 200 OK")
    data = await gateway.raw(_request(gateway, f"content-length: {len(BODY)}\r\n", version="1.0"))
    assert data.startswith(b"HTTP/1.1 200 OK")
    assert [request.body for request in engine.requests] == [BODY.replace(MODEL, "served").encode()] * 2


async def test_an_upgrade_is_not_followed(gateway: Running, engine: MockEngine) -> None:
    upgrade = f"connection: upgrade, close\r\nupgrade: websocket\r\ncontent-length: {len(BODY)}\r\n"
    data = await gateway.raw(_request(gateway, upgrade))
    assert b" 101 " not in data
    assert all(request.values("upgrade") == [] for request in engine.requests)


async def test_a_client_that_waits_for_leave_to_send_gets_it(gateway: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(_request(gateway, f"content-length: {len(BODY)}\r\nexpect: 100-continue\r\n", ""))
    assert b" 100 Continue" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
    writer.write(BODY.encode())
    assert b" 200 OK" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
    writer.close()


async def test_a_wrong_key_is_told_before_the_body_is_asked_for(gateway: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(
        b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n"
    )
    assert b" 401 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
    writer.close()

"""What clients and engines send reaches the other side unchanged, and at once."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator

import pytest

from files.app.tests.gateway.harness import MODEL, SERVED, Running
from files.app.tests.gateway.mock_engine import COMPLETION, MockEngine, Received, event

ODD = (
    '{ "messages" : [ {"role":"user","content":"caf\\u00e9 \\ud83d\\ude00 é 😀"} ],\n'
    '  "x_unknown": {"a": [1.50, 1e400, -0, 123456789012345678901234567890]}, "MODEL": "decoy",'
    ' "nested": {"model": "inner"}, "model" : %s ,"n":1}\n '
)


async def test_only_the_models_name_changes_on_the_way_to_the_engine(
    gateway: Running, engine: MockEngine
) -> None:
    async with await gateway.chat((ODD % f'"{MODEL}"').encode()) as response:
        assert response.status == 200
    assert engine.requests[0].body == (ODD % f'"{SERVED}"').encode()


async def test_an_alias_and_an_escaped_name_reach_the_same_engine(
    gateway: Running, engine: MockEngine
) -> None:
    for name in ('"smol"', '"org\\/smol"', '"\\u006frg/smol"'):
        async with await gateway.chat((ODD % name).encode()) as response:
            assert response.status == 200
    assert [request.body for request in engine.requests] == [(ODD % f'"{SERVED}"').encode()] * 3


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_an_answer_arrives_byte_for_byte(gateway: Running, engine: MockEngine, path: str) -> None:
    raw = json.dumps(COMPLETION, indent=3).encode() + b"\n\xff\x00"

    async def behave(request: Received) -> None:
        await request.connection.json(raw, headers="X-Engine: yes\r\nserver: mock\r\nset-cookie: a=b\r\n")

    engine.behaviour = behave
    async with await gateway.chat(path=path) as response:
        assert await response.read() == raw
        assert response.headers["x-engine"] == "yes"
        assert response.headers["content-type"] == "application/json"
        assert "set-cookie" not in response.headers
        assert "server" not in response.headers
        assert len(response.headers.getall("date")) == 1
    assert engine.requests[0].path == path


async def test_each_chunk_of_a_stream_arrives_before_the_next_is_sent(
    gateway: Running, engine: MockEngine
) -> None:
    arrived: asyncio.Queue[None] = asyncio.Queue()
    chunks = [event("a"), b"data: half", b" of an event\n\n", b": comment\n\n", b"data: [DONE]\n\n"]

    async def behave(request: Received) -> None:
        await request.connection.start_stream()
        for chunk in chunks:
            await request.connection.chunk(chunk)
            await asyncio.wait_for(arrived.get(), 20)  # a gateway that buffers makes this fail
        await request.connection.end_stream()

    engine.behaviour = behave
    async with await gateway.chat({"model": MODEL, "stream": True}) as response:
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        received = []
        for chunk in chunks:
            received.append(await asyncio.wait_for(response.content.readexactly(len(chunk)), 20))
            arrived.put_nowait(None)
        assert received == chunks
        assert await response.content.read() == b""


async def test_a_large_answer_flows_through_a_slow_client(gateway: Running, engine: MockEngine) -> None:
    piece = b"x" * 65536

    async def behave(request: Received) -> None:
        await request.connection.start_stream()
        for _ in range(256):
            await request.connection.chunk(piece)
        await request.connection.end_stream()

    engine.behaviour = behave
    async with await gateway.chat() as response:
        await asyncio.sleep(0.2)
        size = 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
        assert size == 256 * len(piece)


async def test_a_large_body_in_chunks_reaches_the_engine(gateway: Running, engine: MockEngine) -> None:
    body = (
        json.dumps({"model": SERVED, "prompt": "é" * 1_500_000})
        .encode()
        .replace(SERVED.encode(), MODEL.encode())
    )

    async def parts() -> AsyncIterator[bytes]:
        for at in range(0, len(body), 100_000):
            yield body[at : at + 100_000]

    response = await gateway.http.post(gateway.url + "/v1/completions", data=parts(), headers=gateway.auth)
    assert response.status == 200
    assert engine.requests[0].body == body.replace(MODEL.encode(), SERVED.encode())
    assert engine.requests[0].values("transfer-encoding") == []


async def test_an_engines_error_is_passed_on(gateway: Running, engine: MockEngine) -> None:
    error = {"error": {"message": "too long", "type": "BadRequestError", "param": None, "code": 400}}

    async def behave(request: Received) -> None:
        await request.connection.json(error, "400 Bad Request")

    engine.behaviour = behave
    async with await gateway.chat() as response:
        assert response.status == 400
        assert await response.json() == error
    assert (
        f'citadel_gateway_failures_total{{cause="engine_4xx",model="{MODEL}"}} 1.0' in await gateway.metrics()
    )


@pytest.mark.parametrize(
    ("status", "type_"),
    [("400 Bad Request", "invalid_request_error"), ("503 Service Unavailable", "overloaded_error")],
)
async def test_an_engines_error_has_anthropics_type(
    gateway: Running, engine: MockEngine, status: str, type_: str
) -> None:
    told = {"type": "error", "error": {"type": "BadRequestError", "message": "é is too long", "at": 3}}

    async def behave(request: Received) -> None:
        await request.connection.json(told, status)

    engine.behaviour = behave
    body = {"model": MODEL, "max_tokens": 5, "messages": []}
    async with gateway.http.post(gateway.url + "/v1/messages", json=body, headers=gateway.auth) as response:
        assert response.status == int(status.split()[0])
        error = {"type": type_, "message": "é is too long", "at": 3}
        request_id = response.headers["x-request-id"]
        assert await response.json() == {"type": "error", "error": error, "request_id": request_id}


@pytest.mark.parametrize("told", [b"no JSON {", b'"text"', b'{"error": "text"}', b"[" * 100_000])
async def test_what_is_no_error_of_an_engine_is_passed_on(
    gateway: Running, engine: MockEngine, told: bytes
) -> None:
    async def behave(request: Received) -> None:
        head = f"HTTP/1.1 400 Bad Request\r\ncontent-length: {len(told)}\r\n\r\n"
        await request.connection.write(head.encode() + told)

    engine.behaviour = behave
    body = {"model": MODEL, "max_tokens": 5, "messages": []}
    async with gateway.http.post(gateway.url + "/v1/messages", json=body, headers=gateway.auth) as response:
        assert (response.status, await response.read()) == (400, told)


async def test_credentials_and_hop_by_hop_headers_stay_here(gateway: Running, engine: MockEngine) -> None:
    async with await gateway.chat(
        Cookie="session=1",
        X_Api_Key="other",
        Connection="keep-alive, X-Private",
        X_Private="1",
        TE="trailers",
        Proxy_Authorization="Basic eA==",
        X_Kept="yes",
        Traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ) as response:
        assert response.status == 200
    request = engine.requests[0]
    names = {name.lower() for name, _ in request.headers}
    assert names.isdisjoint(
        {"authorization", "cookie", "x-api-key", "connection", "x-private", "te", "proxy-authorization"}
    )
    assert request.values("x-kept") == ["yes"]
    assert request.values("traceparent")
    assert gateway.key not in str(request.headers)


async def test_a_request_id_is_kept_or_made(gateway: Running, engine: MockEngine) -> None:
    async with await gateway.chat(X_Request_Id="client-1.2:3") as response:
        assert response.headers["x-request-id"] == "client-1.2:3"
    for bad in ("with space", "a" * 129, "ü"):
        async with await gateway.chat(X_Request_Id=bad) as response:
            assert re.fullmatch("[0-9a-f]{32}", response.headers["x-request-id"])
    sent = [request.values("x-request-id") for request in engine.requests]
    assert sent[0] == ["client-1.2:3"]
    assert all(len(values) == 1 and len(values[0]) == 32 for values in sent[1:])


async def test_models_are_listed(gateway: Running) -> None:
    async with gateway.http.get(gateway.url + "/v1/models", headers=gateway.auth) as response:
        listing = await response.json()
    assert [model["id"] for model in listing["data"]] == [MODEL, "smol"]
    assert listing["object"] == "list"
    for path in (f"/v1/models/{MODEL}", "/v1/models/org%2Fsmol"):
        async with gateway.http.get(gateway.url + path, headers=gateway.auth) as response:
            assert (await response.json())["id"] == MODEL


async def test_tokens_are_counted_streaming_or_not(gateway: Running) -> None:
    for stream in (False, True):
        async with await gateway.chat({"model": "smol", "stream": stream}) as response:
            await response.read()
    text = await gateway.metrics()
    assert f'citadel_gateway_tokens_total{{kind="prompt",model="{MODEL}"}} 14.0' in text
    assert f'citadel_gateway_tokens_total{{kind="completion",model="{MODEL}"}} 4.0' in text
    assert (
        f'citadel_gateway_requests_total{{code="200",endpoint="chat_completions",model="{MODEL}"}} 2.0'
        in text
    )
    assert f'citadel_gateway_requests_in_flight{{model="{MODEL}"}} 0.0' in text

"""Errors have OpenAI's form, and its own client understands them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import openai
import pytest

from citadel_llm.keys.records import new_key
from files.app.tests.gateway.harness import MODEL, Running, key_entry, model_of, running
from files.app.tests.gateway.mock_engine import MockEngine, Received, answer, event

QUESTION: list[openai.types.chat.ChatCompletionUserMessageParam] = [
    {"role": "user", "content": "Capital of France?"}
]


@pytest.fixture
async def client(gateway: Running) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=gateway.url + "/v1", api_key=gateway.key, max_retries=0) as made:
        yield made


async def test_the_openai_client_gets_an_answer(client: openai.AsyncOpenAI) -> None:
    completion = await client.chat.completions.create(model=MODEL, messages=QUESTION)
    assert completion.choices[0].message.content == "Paris"
    stream = await client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
    words = [chunk.choices[0].delta.content async for chunk in stream if chunk.choices]
    assert "".join(word or "" for word in words) == "Paris"
    assert [model.id async for model in client.models.list()] == [MODEL, "smol"]


@pytest.mark.parametrize("key", ["wrong", "sk-citadel-" + "0" * 43])
async def test_a_wrong_key_is_an_authentication_error(gateway: Running, engine: MockEngine, key: str) -> None:
    client = openai.AsyncOpenAI(base_url=gateway.url + "/v1", api_key=key, max_retries=0)
    with pytest.raises(openai.AuthenticationError) as caught:
        await client.chat.completions.create(model=MODEL, messages=QUESTION)
    assert caught.value.code == "invalid_api_key"
    assert caught.value.type == "invalid_request_error"
    assert caught.value.param is None
    assert caught.value.request_id
    assert key not in str(caught.value)
    assert engine.requests == []


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer  ",
        "Basic {key}",
        "{key}",
        "Bearer {key}x",
        "Bearer x{key}",
        "Bearer {short}",
    ],
)
async def test_only_a_whole_bearer_key_is_accepted(gateway: Running, authorization: str | None) -> None:
    headers = {}
    if authorization is not None:
        headers["Authorization"] = authorization.format(key=gateway.key, short=gateway.key[:-1])
    async with gateway.http.get(gateway.url + "/v1/models", headers=headers) as response:
        assert response.status == 401
        assert response.headers["www-authenticate"] == "Bearer"
        assert gateway.key not in await response.text()
    headers["Authorization"] = f"bearer   {gateway.key} "
    async with gateway.http.get(gateway.url + "/v1/models", headers=headers) as response:
        assert response.status == 200


async def test_disabled_and_expired_keys_are_refused(tmp_path: Path, engine: MockEngine) -> None:
    now = datetime.now(UTC)
    disabled, expired, valid = new_key(), new_key(), new_key()
    keys = [
        key_entry(disabled, "a", disabled=True),
        key_entry(expired, "b", expires=now - timedelta(seconds=1)),
        key_entry(valid, "c", expires=now + timedelta(hours=1)),
    ]
    async with running(tmp_path, [model_of(engine)], keys=keys) as gateway:
        for key, status, word in (
            (disabled, 401, "disabled"),
            (expired, 401, "expired"),
            (valid, 200, "Paris"),
        ):
            async with await gateway.chat(Authorization=f"Bearer {key}") as response:
                assert response.status == status
                assert word in await response.text()


async def test_an_unknown_model_is_not_found(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await client.chat.completions.create(model="gpt-unknown", messages=QUESTION)
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("gpt-unknown")


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"[]", "not valid JSON"),
        (b'"model"', "not valid JSON"),
        (b'{"model":"org/smol"} x', "not valid JSON"),
        (b'{"model":"org/smol",}', "not valid JSON"),
        (b'{"model" "org/smol"}', "not valid JSON"),
        (b"{}", "must provide 'model'"),
        (b'{"model":null}', "must be a string"),
        (b'{"model":["org/smol"]}', "must be a string"),
        (b'{"model":"smol","model":"org/smol"}', "twice"),
        (b'{"model":"\xff"}', "UTF-8"),
        (b'{"model":"m","a":' + b"[" * 100_000, "nested too deeply"),
        (b'{"model":"m","a":' + b"1" * 5_000 + b"}", "too many digits"),
    ],
)
async def test_a_bad_body_is_a_bad_request(
    gateway: Running, engine: MockEngine, body: bytes, word: str
) -> None:
    async with await gateway.chat(body) as response:
        assert response.status == 400
        error = (await response.json())["error"]
    assert word in error["message"]
    assert error["type"] == "invalid_request_error"
    assert engine.requests == []


async def test_a_task_that_does_not_generate_is_refused(tmp_path: Path, engine: MockEngine) -> None:
    async with (
        running(tmp_path, [model_of(engine, task="embed")]) as gateway,
        await gateway.chat() as response,
    ):
        assert response.status == 400
        assert (await response.json())["error"]["code"] == "unsupported_task"


async def test_a_body_that_is_too_large_is_refused(tmp_path: Path, engine: MockEngine) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 1000

    async with running(tmp_path, [model_of(engine)], max_body_bytes=10_000) as gateway:
        announced = await gateway.chat(b" " * 10_001)
        chunked = await gateway.http.post(
            gateway.url + "/v1/chat/completions", data=parts(), headers=gateway.auth
        )
        for response in (announced, chunked):
            assert response.status == 413
            assert (await response.json())["error"]["code"] == "request_too_large"
        async with await gateway.chat() as response:  # the connection is still good
            assert response.status == 200


async def test_a_compressed_body_is_refused(gateway: Running) -> None:
    async with await gateway.chat(b"\x1f\x8b", Content_Encoding="gzip") as response:
        assert response.status == 415


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1", 404),
        ("GET", "/v1/models/", 404),
        ("POST", "/v1/audio/transcriptions", 404),
        ("POST", "/invocations", 404),
        ("GET", "/metrics", 404),
        ("GET", "/ready", 404),
        ("POST", "/v1/chat/completions/", 404),
        ("POST", "/v1/chat%2Fcompletions", 404),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("POST", "/v1/models/x", 405),
        ("OPTIONS", "/v1/models", 405),
    ],
)
async def test_what_is_not_offered_does_not_exist(
    gateway: Running, method: str, path: str, status: int
) -> None:
    data = await gateway.raw(
        f"{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n".encode()
        + b"connection: close\r\n\r\n"
    )
    head, _, body = data.partition(b"\r\n\r\n")
    assert int(head.split(b" ")[1]) == status
    assert b'"invalid_request_error"' in body
    assert (b"allow: " in head) == (status == 405)


async def test_health_needs_no_key(gateway: Running) -> None:
    async with gateway.http.get(gateway.url + "/health") as response:
        assert response.status == 200
    async with gateway.http.head(gateway.url + "/health") as response:
        assert (response.status, await response.read()) == (200, b"")


async def test_an_engine_that_is_down_is_unavailable(client: openai.AsyncOpenAI, engine: MockEngine) -> None:
    await engine.stop()
    with pytest.raises(openai.InternalServerError) as caught:
        await client.chat.completions.create(model=MODEL, messages=QUESTION)
    assert caught.value.status_code == 503
    assert caught.value.code == "engine_unavailable"
    assert caught.value.response.headers["retry-after"] == "2"


async def test_an_engine_that_talks_nonsense_is_a_bad_gateway(gateway: Running, engine: MockEngine) -> None:
    async def behave(request: Received) -> None:
        await request.connection.write(b"220 mail.example ESMTP\r\n\r\n")

    engine.behaviour = behave
    async with await gateway.chat() as response:
        assert response.status == 502
        assert (await response.json())["error"]["code"] == "engine_error"
    assert len(engine.requests) == 1


async def test_an_engine_that_is_silent_times_out(tmp_path: Path, engine: MockEngine) -> None:
    async def behave(request: Received) -> None:
        await asyncio.wait_for(request.connection.closed.wait(), 20)

    engine.behaviour = behave
    async with running(tmp_path, [model_of(engine)], timeouts={"first_byte_s": 0.1}) as gateway:
        async with await gateway.chat() as response:
            assert response.status == 504
            assert (await response.json())["error"]["code"] == "engine_timeout"
        await asyncio.wait_for(engine.requests[0].connection.closed.wait(), 20)


async def test_a_client_that_sends_too_slowly_times_out(tmp_path: Path, engine: MockEngine) -> None:
    async with running(tmp_path, [model_of(engine)], timeouts={"body_s": 0.1}) as gateway:
        head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(f"{head}content-length: 100\r\n\r\n{{".encode())
        assert b"408 Request Timeout" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        writer.close()


@pytest.mark.parametrize("tail", [b"", b"data: {half"])
async def test_a_stream_that_breaks_ends_with_an_error_event(
    client: openai.AsyncOpenAI, gateway: Running, engine: MockEngine, tail: bytes
) -> None:
    begun = asyncio.Event()

    async def behave(request: Received) -> None:
        await request.connection.start_stream()
        await request.connection.chunk(event("Pa") + tail)
        await asyncio.wait_for(begun.wait(), 20)
        request.connection.abort()

    engine.behaviour = behave
    async with await gateway.chat({"model": MODEL, "stream": True}) as response:
        first = await response.content.readexactly(len(event("Pa") + tail))
        begun.set()
        rest = await asyncio.wait_for(response.content.read(), 20)
    assert first == event("Pa") + tail
    assert rest.startswith(b"\n\ndata: {" if tail else b"data: {")
    assert b'"code": "engine_error"' in rest
    assert rest.endswith(b"\n\n")
    assert b"[DONE]" not in rest
    failures = "citadel_gateway_backend_failures_total"
    assert f'{failures}{{backend="engine-0",cause="broken",model="{MODEL}"}} 1.0' in await gateway.metrics()
    engine.behaviour = answer
    if not tail:
        begun.clear()
        engine.behaviour = behave
        stream = await client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
        with pytest.raises(openai.APIError, match="closed the connection"):
            async for _ in stream:
                begun.set()


async def test_the_error_event_has_room_in_a_stream_whose_length_was_announced(
    gateway: Running, engine: MockEngine
) -> None:
    """Past the length, it would be read as the next answer on the connection."""

    async def behave(request: Received) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 5000\r\n\r\n"
        await request.connection.write(head + event("Pa"))
        await asyncio.sleep(0.05)
        request.connection.close()

    engine.behaviour = behave
    async with await gateway.chat({"model": MODEL, "stream": True}) as response:
        text = await asyncio.wait_for(response.read(), 20)
        assert "content-length" not in response.headers
    assert text.startswith(event("Pa"))
    assert text.count(b'"code": "engine_error"') == 1
    engine.behaviour = answer
    async with await gateway.chat() as again:  # on the same connection
        assert (await again.json())["object"] == "chat.completion"


async def test_a_silent_stream_ends_with_an_error_event(tmp_path: Path, engine: MockEngine) -> None:
    async def behave(request: Received) -> None:
        await request.connection.start_stream()
        for _ in range(3):
            await request.connection.chunk(event("a"))
            await asyncio.sleep(0.4)  # each silence is shorter than the limit, all of them are longer
        await request.connection.closed.wait()

    engine.behaviour = behave
    async with (
        running(tmp_path, [model_of(engine)], timeouts={"idle_s": 1.0}) as gateway,
        await gateway.chat({"model": MODEL, "stream": True}) as response,
    ):
        text = await asyncio.wait_for(response.text(), 20)
    assert text.count('"content": "a"') == 3
    assert text.count('"code": "engine_timeout"') == 1


async def test_an_answer_that_breaks_is_never_taken_for_a_whole_one(
    gateway: Running, engine: MockEngine
) -> None:
    async def behave(request: Received) -> None:
        await request.connection.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n" + b'{"a":'
        )
        await asyncio.sleep(0.05)
        request.connection.close()

    engine.behaviour = behave
    response = await gateway.chat()
    assert response.status == 200
    with pytest.raises(Exception, match=r"(?i)payload|closed|not completed"):
        await response.read()

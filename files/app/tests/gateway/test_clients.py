"""The official clients, sync and async, on every API that they know."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from citadel_llm.schema.snapshot import Backend, Model
from files.app.tests.gateway.dialects import speak
from files.app.tests.gateway.harness import MODEL, Running, model_of, running
from files.app.tests.gateway.mock_engine import MockEngine, Received, event

QUESTION: list[Any] = [{"role": "user", "content": "Capital of France?"}]
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]


def pooling(engine: MockEngine) -> Model:
    return Model(name="mini", task="embed", backends=(Backend(name="pool", url=engine.url, model="mini"),))


@pytest.fixture
async def gateway(tmp_path: Path, engine: MockEngine) -> AsyncIterator[Running]:
    engine.behaviour = speak
    async with running(tmp_path, [model_of(engine), pooling(engine)]) as started:
        yield started


def options(gateway: Running) -> dict[str, Any]:
    return {"api_key": gateway.key, "max_retries": 0}


@pytest.fixture
async def client(gateway: Running) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=gateway.url + "/v1", **options(gateway)) as made:
        yield made


@pytest.fixture
async def claude(gateway: Running) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=gateway.url, **options(gateway)) as made:
        yield made


async def test_openai_chat_tools_and_schemas(client: openai.AsyncOpenAI, engine: MockEngine) -> None:
    answer = await client.chat.completions.create(model=MODEL, messages=QUESTION, tools=TOOLS)
    call = answer.choices[0].message.tool_calls
    assert call is not None
    assert call[0].function.arguments == '{"city":"Paris"}'  # type: ignore[union-attr]
    assert engine.requests[-1].json["tools"] == TOOLS
    schema: Any = {
        "type": "json_schema",
        "json_schema": {"name": "city", "schema": {"type": "object"}, "strict": True},
    }
    answer = await client.chat.completions.create(model=MODEL, messages=QUESTION, response_format=schema)
    assert answer.choices[0].message.content == '{"city":"Paris"}'
    assert engine.requests[-1].json["response_format"] == schema


async def test_openai_content_of_other_kinds_and_unknown_members_pass(
    client: openai.AsyncOpenAI, engine: MockEngine
) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10_000}}
    messages: list[Any] = [{"role": "user", "content": [{"type": "text", "text": "what?"}, image]}]
    answer = await client.chat.completions.create(
        model=MODEL, messages=messages, extra_body={"top_k": 5, "chat_template_kwargs": {"thinking": True}}
    )
    assert answer.choices[0].message.content == "Paris"
    assert engine.requests[-1].json["messages"] == messages
    assert engine.requests[-1].json["top_k"] == 5


async def test_openai_streams(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model=MODEL, messages=QUESTION, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Paris"
    assert chunks[-1].usage is not None
    events = await client.responses.create(model=MODEL, input="Capital of France?", stream=True)
    assert [e.type async for e in events][-1] == "response.completed"


async def test_openai_other_endpoints(client: openai.AsyncOpenAI, engine: MockEngine) -> None:
    completion = await client.completions.create(model=MODEL, prompt="Capital of France?")
    assert completion.choices[0].text == "Paris"
    assert (await client.responses.create(model=MODEL, input="Capital?")).output_text == "Paris"
    embedding = await client.embeddings.create(model="mini", input="a text", encoding_format="float")
    assert embedding.data[0].embedding == [0.5, -0.5]
    assert {model.id async for model in client.models.list()} == {MODEL, "mini"}
    assert (await client.models.retrieve("mini")).owned_by == "citadel"
    assert [request.path for request in engine.requests] == [
        "/v1/completions",
        "/v1/responses",
        "/v1/embeddings",
    ]


async def test_anthropic_messages_streams_and_counts(
    claude: anthropic.AsyncAnthropic, engine: MockEngine
) -> None:
    message = await claude.messages.create(model=MODEL, max_tokens=9, messages=QUESTION)
    assert message.content[0].text == "Paris"  # type: ignore[union-attr]
    received = engine.requests[-1]
    assert received.values("anthropic-version")
    assert received.values("x-api-key") == []
    async with claude.messages.stream(model=MODEL, max_tokens=9, messages=QUESTION) as stream:
        assert "".join([text async for text in stream.text_stream]) == "Paris"
        final = await stream.get_final_message()
    assert (final.usage.input_tokens, final.usage.output_tokens) == (7, 2)
    assert (await claude.messages.count_tokens(model=MODEL, messages=QUESTION)).input_tokens == 7


async def test_the_sync_clients(gateway: Running) -> None:
    def work() -> list[str]:
        with openai.OpenAI(base_url=gateway.url + "/v1", **options(gateway)) as client:
            answer = client.chat.completions.create(model=MODEL, messages=QUESTION)
            stream = client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
            words = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
            found = [answer.choices[0].message.content or "", "".join(words)]
        with anthropic.Anthropic(base_url=gateway.url, **options(gateway)) as claude:
            message = claude.messages.create(model=MODEL, max_tokens=9, messages=QUESTION)
            found.append(message.content[0].text)  # type: ignore[union-attr]
            with claude.messages.stream(model=MODEL, max_tokens=9, messages=QUESTION) as events:
                found.append("".join(events.text_stream))
        return found

    assert await asyncio.to_thread(work) == ["Paris"] * 4


async def test_both_credentials_open_both_apis(gateway: Running) -> None:
    body = {"model": MODEL, "max_tokens": 5, "messages": QUESTION}
    for path in ("/v1/messages", "/v1/chat/completions"):
        for headers in ({"x-api-key": gateway.key}, {"authorization": f"Bearer {gateway.key}"}):
            async with gateway.http.post(gateway.url + path, json=body, headers=headers) as response:
                assert response.status == 200
    wrong = {"x-api-key": gateway.key, "authorization": "Bearer nonsense"}
    async with gateway.http.post(gateway.url + "/v1/messages", json=body, headers=wrong) as response:
        assert response.status == 401


async def test_anthropic_errors(gateway: Running, claude: anthropic.AsyncAnthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as missing:
        await claude.messages.create(model="unknown", max_tokens=9, messages=QUESTION)
    body: Any = missing.value.body
    assert body["type"] == "error"
    assert body["error"]["type"] == "not_found_error"
    assert body["request_id"] == missing.value.response.headers["x-request-id"]
    with pytest.raises(anthropic.BadRequestError) as wrong:
        await claude.messages.create(model="mini", max_tokens=9, messages=QUESTION)
    assert "its task is 'embed'" in str(wrong.value)
    stranger = anthropic.AsyncAnthropic(base_url=gateway.url, api_key="wrong", max_retries=0)
    with pytest.raises(anthropic.AuthenticationError):
        await stranger.messages.create(model=MODEL, max_tokens=9, messages=QUESTION)


async def break_off(request: Received) -> None:
    await request.connection.start_stream()
    await request.connection.chunk(event("Pa"))
    request.connection.abort()


async def test_a_stream_that_breaks_off_is_an_error_in_every_api(
    client: openai.AsyncOpenAI, claude: anthropic.AsyncAnthropic, engine: MockEngine
) -> None:
    engine.behaviour = break_off
    stream = await client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
    with pytest.raises(openai.APIError, match="closed the connection"):
        [chunk async for chunk in stream]
    responses = await client.responses.create(model=MODEL, input="x", stream=True)
    with pytest.raises(openai.APIError, match="closed the connection"):
        [chunk async for chunk in responses]
    events = await claude.messages.create(model=MODEL, max_tokens=9, messages=QUESTION, stream=True)
    with pytest.raises(anthropic.APIError, match="closed the connection"):
        [chunk async for chunk in events]


async def test_clients_repeat_what_may_pass(gateway: Running, engine: MockEngine) -> None:
    failures = iter([True, True])

    async def at_first_not(request: Received) -> None:
        if next(failures, False):
            await request.connection.json({"error": {"message": "busy"}}, "503 Service Unavailable")
        else:
            await speak(request)

    engine.behaviour = at_first_not
    client = openai.AsyncOpenAI(base_url=gateway.url + "/v1", api_key=gateway.key, max_retries=4)
    answer = await client.chat.completions.create(model=MODEL, messages=QUESTION)
    assert answer.choices[0].message.content == "Paris"


async def test_a_client_that_gives_up_gets_its_own_timeout(gateway: Running, engine: MockEngine) -> None:
    async def never(request: Received) -> None:
        await request.connection.closed.wait()

    engine.behaviour = never
    client = openai.AsyncOpenAI(base_url=gateway.url + "/v1", timeout=0.2, **options(gateway))
    with pytest.raises(openai.APITimeoutError):
        await client.chat.completions.create(model=MODEL, messages=QUESTION)
    claude = anthropic.AsyncAnthropic(base_url=gateway.url, timeout=0.2, **options(gateway))
    with pytest.raises(anthropic.APITimeoutError):
        await claude.messages.create(model=MODEL, max_tokens=9, messages=QUESTION)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/rerank", {"query": "fruit", "documents": ["apple"]}),
        ("/v1/score", {"text_1": "fruit", "text_2": "apple"}),
        ("/tokenize", {"prompt": "a text"}),
        ("/detokenize", {"tokens": [1, 2]}),
    ],
)
async def test_the_other_endpoints_pass_through(gateway: Running, path: str, body: dict[str, Any]) -> None:
    async with await gateway.chat({"model": "mini", **body}, path=path) as response:
        assert response.status == 200
    async with await gateway.chat({"model": "mini", **body}, path="/v1/completions") as response:
        assert response.status == 400
        assert (await response.json())["error"]["code"] == "unsupported_task"


async def test_an_old_engine_is_not_asked_for_what_it_lacks(tmp_path: Path, engine: MockEngine) -> None:
    old = Backend(name="old", url=engine.url, model="served", engine="0.9.2")
    async with running(tmp_path, [Model(name=MODEL, backends=(old,))]) as gateway:
        async with await gateway.chat({"model": MODEL, "input": "x"}, path="/v1/responses") as response:
            assert response.status == 400
            assert "would have to be 0.10.0 or newer" in (await response.json())["error"]["message"]
        async with gateway.http.get(gateway.url + "/openapi.json") as response:
            paths = (await response.json())["paths"]
            assert "/v1/chat/completions" in paths
            assert "/v1/responses" not in paths
    assert engine.requests == []

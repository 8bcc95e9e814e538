"""The official clients, sync and async, on real engines through nginx and the gateway.

Of what vLLM 0.32 offers on the CPU: SmolLM2's template tells the model of no tools, so it calls one only when
it has to (`tool_choice`); that a model calls one of its own accord is not shown. The embedding model cannot
shorten its vectors (`dimensions`), and compares texts for `/v1/score` and `/v1/rerank` by their cosine.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from conftest import ADDRESS, EMBEDDINGS, MODEL, QUESTION, SIMULATED
from openai import OpenAI
from testinfra.host import Host

pytestmark = pytest.mark.usefixtures("engines")

ASK: Any = [{"role": "user", "content": QUESTION}]
WEATHER: Any = [{"role": "user", "content": "What is the weather in Paris?"}]
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL: Any = {
    "type": "function",
    "function": {"name": "weather", "description": "The weather of a city", "parameters": CITY},
}
CALL: Any = {"type": "function", "function": {"name": "weather"}}
CLAUDE_TOOL: Any = {"name": "weather", "description": "The weather of a city", "input_schema": CITY}
GREEDY: Any = {"temperature": 0}
TOO_LONG: Any = [{"role": "user", "content": "word " * 3000}]
CATS, KITTENS, STOCKS = (
    "A cat sits on the mat.",
    "A kitten rests on a rug.",
    "The stock market fell sharply.",
)


@pytest.fixture(scope="session")
def trust(ca: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(ca))


@pytest.fixture
def claude(trust: ssl.SSLContext, key: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.DefaultHttpxClient(verify=trust) as http:
        yield anthropic.Anthropic(
            base_url=f"https://{ADDRESS}", api_key=key, http_client=http, timeout=120, max_retries=0
        )


@asynccontextmanager
async def async_openai(trust: ssl.SSLContext, key: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.DefaultAsyncHttpxClient(verify=trust) as http:
        yield openai.AsyncOpenAI(
            base_url=f"https://{ADDRESS}/v1", api_key=key, http_client=http, timeout=120, max_retries=0
        )


def post(client: OpenAI, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """An endpoint that the official client has no method for."""
    found: Any = client.post(f"https://{ADDRESS}{path}", body=body, cast_to=object)
    assert isinstance(found, dict)
    return found


# -- OpenAI's API


def test_both_engines_answer(client: OpenAI, server: Host) -> None:
    assert {model.id for model in client.models.list()} == {MODEL, EMBEDDINGS, SIMULATED}
    assert client.models.retrieve(EMBEDDINGS).id == EMBEDDINGS
    found = client.chat.completions.create(model=MODEL, messages=ASK, temperature=0, max_tokens=12)
    assert "Paris" in (found.choices[0].message.content or "")
    state = json.loads(server.check_output("citadel routing backends --json"))
    # What the engine computes at once, and a quarter more, where that is in the inventory.
    for model, name, most in ((MODEL, "smollm2", 1024), (EMBEDDINGS, "minilm", 10)):
        ((found_name, backend),) = state[model]["backends"].items()
        assert (found_name, backend["state"], backend["max_in_flight"]) == (name, "up", most)


def test_tools_and_schemas(client: OpenAI) -> None:
    for choice in (CALL, "required"):
        found = client.chat.completions.create(
            model=MODEL, messages=WEATHER, tools=[TOOL], tool_choice=choice, temperature=0, max_tokens=80
        )
        calls = found.choices[0].message.tool_calls
        assert calls is not None
        assert calls[0].function.name == "weather"  # type: ignore[union-attr]
        assert set(json.loads(calls[0].function.arguments)) == {"city"}  # type: ignore[union-attr]
    answered: Any = [
        *WEATHER,
        {"role": "assistant", "content": None, "tool_calls": [calls[0].model_dump()]},
        {"role": "tool", "tool_call_id": calls[0].id, "content": "22 degrees, sunny"},
    ]
    final = client.chat.completions.create(model=MODEL, messages=answered, tools=[TOOL], max_tokens=8)
    assert final.choices[0].message.content
    schema: Any = {"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": CITY}}
    shaped = client.chat.completions.create(
        model=MODEL, messages=WEATHER, response_format=schema, temperature=0, max_tokens=60
    )
    assert set(json.loads(shaped.choices[0].message.content or "")) == {"city"}


def test_a_tool_call_is_streamed(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL,
        messages=WEATHER,
        tools=[TOOL],
        tool_choice=CALL,
        temperature=0,
        max_tokens=80,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    parts = [
        call.function.arguments or ""
        for chunk in chunks
        for choice in chunk.choices
        for call in choice.delta.tool_calls or []
        if call.function
    ]
    assert len(parts) > 1
    assert set(json.loads("".join(parts))) == {"city"}
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0


def test_responses(client: OpenAI) -> None:
    found = client.responses.create(model=MODEL, input=QUESTION, temperature=0, max_output_tokens=12)
    assert "Paris" in found.output_text
    events = client.responses.create(
        model=MODEL, input=QUESTION, temperature=0, max_output_tokens=12, stream=True
    )
    kinds = [event.type for event in events]
    assert kinds.count("response.output_text.delta") > 2
    assert kinds[-1] == "response.completed"
    tool: Any = {"type": "function", "name": "weather", "parameters": CITY, "strict": True}
    called = client.responses.create(
        model=MODEL,
        input=WEATHER,
        tools=[tool],
        tool_choice={"type": "function", "name": "weather"},
        temperature=0,
        max_output_tokens=80,
    )
    (call,) = [item for item in called.output if item.type == "function_call"]
    assert set(json.loads(call.arguments)) == {"city"}


def test_embeddings_know_what_is_near(client: OpenAI) -> None:
    texts = [CATS, KITTENS, STOCKS]
    plain = client.embeddings.create(model=EMBEDDINGS, input=texts, encoding_format="float")
    usual = client.embeddings.create(model=EMBEDDINGS, input=texts)  # the client asks for base64 of itself
    vectors = [one.embedding for one in plain.data]
    for vector, other in zip(vectors, usual.data, strict=True):
        assert vector == pytest.approx(other.embedding, abs=1e-4)
    assert {len(vector) for vector in vectors} == {384}

    def near(one: list[float], other: list[float]) -> float:
        return sum(a * b for a, b in zip(one, other, strict=True))

    assert near(vectors[0], vectors[0]) == pytest.approx(1, abs=1e-3)
    assert near(vectors[0], vectors[1]) > near(vectors[0], vectors[2]) + 0.3
    encoded = client.embeddings.create(model=EMBEDDINGS, input=CATS, encoding_format="base64")
    assert len(encoded.data[0].embedding) == 384 * 4 * 4 // 3
    assert plain.usage.prompt_tokens > 10


def test_endpoints_without_a_method_of_the_client(client: OpenAI) -> None:
    score = post(client, "/v1/score", {"model": EMBEDDINGS, "text_1": CATS, "text_2": [KITTENS, STOCKS]})
    assert score["data"][0]["score"] > score["data"][1]["score"] + 0.3
    ranked = post(client, "/v1/rerank", {"model": EMBEDDINGS, "query": "shares", "documents": [CATS, STOCKS]})
    assert [one["index"] for one in ranked["results"]] == [1, 0]
    for model in (MODEL, EMBEDDINGS):
        split = post(client, "/tokenize", {"model": model, "prompt": "hello world"})
        assert split["count"] == len(split["tokens"]) > 1
        joined = post(client, "/detokenize", {"model": model, "tokens": split["tokens"]})
        assert "hello world" in joined["prompt"]


def test_errors_have_the_form_of_openai(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="maximum context length is 1024") as long:
        client.chat.completions.create(model=MODEL, messages=TOO_LONG, max_tokens=5)
    assert long.value.param == "input_tokens"
    with pytest.raises(openai.BadRequestError, match="temperature must be non-negative"):
        client.chat.completions.create(model=MODEL, messages=ASK, temperature=-3)
    with pytest.raises(openai.BadRequestError, match="maximum context length is 256"):
        client.embeddings.create(model=EMBEDDINGS, input="word " * 2000)
    with pytest.raises(openai.BadRequestError) as task:
        client.chat.completions.create(model=EMBEDDINGS, messages=ASK)
    assert task.value.code == "unsupported_task"
    with pytest.raises(openai.NotFoundError) as missing:
        client.embeddings.create(model="no-such-model", input="text")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.AuthenticationError) as stranger:
        client.with_options(api_key="sk-citadel-unknown").models.list()
    assert stranger.value.code == "invalid_api_key"
    assert stranger.value.request_id


def test_the_async_client(trust: ssl.SSLContext, key: str) -> None:
    async def work() -> None:
        async with async_openai(trust, key) as client:
            create = client.chat.completions.create
            answers = await asyncio.gather(
                *(create(model=MODEL, messages=ASK, temperature=0, max_tokens=12) for _ in range(4))
            )
            assert all("Paris" in (answer.choices[0].message.content or "") for answer in answers)
            stream = await create(model=MODEL, messages=ASK, temperature=0, max_tokens=12, stream=True)
            words = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
            assert "Paris" in "".join(words)
            assert len(words) > 2
            vectors = await client.embeddings.create(model=EMBEDDINGS, input=[CATS, STOCKS])
            assert len(vectors.data) == 2
            with pytest.raises(openai.NotFoundError):
                await create(model="no-such-model", messages=ASK)

    asyncio.run(work())


# -- Anthropic's API


def test_messages_streams_and_counts(claude: anthropic.Anthropic) -> None:
    message = claude.messages.create(model=MODEL, max_tokens=12, messages=ASK, extra_body=GREEDY)
    assert "Paris" in message.content[0].text  # type: ignore[union-attr]
    assert message.usage.output_tokens > 2
    with claude.messages.stream(model=MODEL, max_tokens=12, messages=ASK, extra_body=GREEDY) as stream:
        words = list(stream.text_stream)
        final = stream.get_final_message()
    assert len(words) > 2
    assert "Paris" in "".join(words)
    assert final.stop_reason in ("end_turn", "max_tokens")
    counted = claude.messages.count_tokens(model=MODEL, messages=ASK)
    assert counted.input_tokens == message.usage.input_tokens


def test_messages_call_tools(claude: anthropic.Anthropic) -> None:
    choice: Any = {"type": "tool", "name": "weather"}
    options: Any = {"tools": [CLAUDE_TOOL], "tool_choice": choice, "extra_body": GREEDY}
    message = claude.messages.create(model=MODEL, max_tokens=80, messages=WEATHER, **options)
    (use,) = [block for block in message.content if block.type == "tool_use"]
    assert (use.name, set(use.input)) == ("weather", {"city"})
    with claude.messages.stream(model=MODEL, max_tokens=80, messages=WEATHER, **options) as stream:
        streamed = stream.get_final_message()
    assert [set(b.input) for b in streamed.content if b.type == "tool_use"] == [{"city"}]
    result: Any = {"type": "tool_result", "tool_use_id": use.id, "content": "22 degrees, sunny"}
    told: Any = [
        *WEATHER,
        {"role": "assistant", "content": [use.model_dump(include={"type", "id", "name", "input"})]},
        {"role": "user", "content": [result]},
    ]
    answer = claude.messages.create(model=MODEL, max_tokens=8, messages=told, tools=[CLAUDE_TOOL])
    assert answer.content


def test_errors_have_the_form_of_anthropic(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError, match="maximum context length is 1024") as long:
        claude.messages.create(model=MODEL, max_tokens=5, messages=TOO_LONG)
    assert long.value.body["error"]["type"] == "invalid_request_error"  # type: ignore[index, call-overload]
    with pytest.raises(anthropic.NotFoundError) as missing:
        claude.messages.create(model="no-such-model", max_tokens=5, messages=ASK)
    assert missing.value.body["error"]["type"] == "not_found_error"  # type: ignore[index, call-overload]
    with pytest.raises(anthropic.AuthenticationError):
        claude.with_options(api_key="sk-citadel-unknown").messages.create(
            model=MODEL, max_tokens=5, messages=ASK
        )


def test_the_async_client_of_anthropic(trust: ssl.SSLContext, key: str) -> None:
    async def work() -> None:
        async with anthropic.DefaultAsyncHttpxClient(verify=trust) as http:
            claude = anthropic.AsyncAnthropic(
                base_url=f"https://{ADDRESS}", api_key=key, http_client=http, timeout=120, max_retries=0
            )
            message = await claude.messages.create(
                model=MODEL, max_tokens=12, messages=ASK, extra_body=GREEDY
            )
            assert "Paris" in message.content[0].text  # type: ignore[union-attr]
            async with claude.messages.stream(
                model=MODEL, max_tokens=12, messages=ASK, extra_body=GREEDY
            ) as stream:
                assert "Paris" in "".join([text async for text in stream.text_stream])
            assert (await claude.messages.count_tokens(model=MODEL, messages=ASK)).input_tokens > 5

    asyncio.run(work())


# -- time, and trying again


def test_a_client_that_waits_no_longer_ends_the_work(client: OpenAI, server: Host) -> None:
    began = time.monotonic()
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=1).chat.completions.create(
            model=MODEL, messages=ASK, max_tokens=900, extra_body={"ignore_eos": True}
        )
    assert time.monotonic() - began < 10
    running = "curl -s http://127.0.0.1:8101/metrics | grep '^vllm:num_requests_running'"
    for _ in range(50):
        line = server.check_output(running)
        if float(line.split()[-1]) == 0:
            return
        time.sleep(0.2)
    pytest.fail(f"the engine works on: {line}")


def test_a_refused_request_is_repeated_and_succeeds(trust: ssl.SSLContext, server: Host) -> None:
    """429 of a limit: the client waits for what Retry-After says, by which time the first request is over."""
    key = server.check_output("cat /opt/citadel/secrets/keys/one-at-a-time.key").strip()
    told: list[int] = []

    async def work() -> str:
        async with async_openai(trust, key) as narrow:

            async def note(response: Any) -> None:
                told.append(response.status_code)

            narrow._client.event_hooks["response"].append(note)
            long = await narrow.chat.completions.create(
                model=MODEL, messages=ASK, max_tokens=60, stream=True, extra_body={"ignore_eos": True}
            )
            await anext(long)
            with pytest.raises(openai.RateLimitError) as refused:
                await narrow.chat.completions.create(model=SIMULATED, messages=ASK)
            assert int(refused.value.response.headers["retry-after"]) >= 1
            patient = narrow.with_options(max_retries=60)
            second = asyncio.create_task(patient.chat.completions.create(model=SIMULATED, messages=ASK))
            async for _ in long:
                pass
            return (await second).choices[0].message.content or ""

    assert asyncio.run(work()) == "one"
    assert told.count(429) >= 2


def test_a_model_that_is_away_is_asked_again(client: OpenAI, server: Host) -> None:
    """503 while no engine of the model runs, which the client repeats until it is back."""
    unit = f"citadel-engine@{SIMULATED}.service"
    server.check_output(f"systemctl stop {unit}")
    try:
        with pytest.raises(openai.InternalServerError) as away:
            client.chat.completions.create(model=SIMULATED, messages=ASK)
        assert away.value.status_code == 503
        assert away.value.response.headers["retry-after"]
        back = threading.Timer(1, lambda: server.run(f"systemctl start {unit}"))
        back.start()
        patient = client.with_options(max_retries=30)
        found = patient.chat.completions.create(model=SIMULATED, messages=ASK)
        assert found.choices[0].message.content == "one"
        back.join()
    finally:
        server.check_output(f"systemctl start {unit}")

"""Who may do what, how much of it, and what is written down: through a whole gateway."""

from __future__ import annotations

import asyncio
import json
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from aiohttp import web

from citadel_llm.gateway.keeping import CredentialError, read_peppers
from citadel_llm.gateway.server import Process
from citadel_llm.keys.records import new_key, record_of
from citadel_llm.schema.access import Limits, RequestLimits
from citadel_llm.schema.key_hash import parse_peppers
from citadel_llm.schema.snapshot import Key
from files.app.tests.gateway.dialects import speak
from files.app.tests.gateway.harness import (
    MODEL,
    Running,
    key_entry,
    model_of,
    running,
    settings_of,
    until,
    write_snapshot,
)
from files.app.tests.gateway.mock_engine import MockEngine, Received
from files.app.tests.identity.test_tokens import Signer

CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "x"}]}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def ask(
    gateway: Running, key: str, path: str = "/v1/chat/completions", **body: Any
) -> tuple[int, dict[str, Any], Any]:
    async with gateway.http.post(gateway.url + path, json=CHAT | body, headers=bearer(key)) as response:
        text = await response.text()
        return response.status, json.loads(text) if text.startswith("{") else {}, response.headers


async def test_a_key_sees_and_uses_what_it_may(tmp_path: Path, engine: MockEngine) -> None:
    engine.behaviour = speak
    narrow = new_key()
    keys = [key_entry(narrow, "narrow", models=("chat-*",), endpoints=("models", "chat_completions"))]
    models = [model_of(engine, name="chat-small", aliases=("tiny",)), model_of(engine, name="other")]
    async with running(tmp_path, models, keys=keys) as gateway:
        async with gateway.http.get(gateway.url + "/v1/models", headers=bearer(narrow)) as response:
            assert {m["id"] for m in (await response.json())["data"]} == {"chat-small", "tiny"}
        for name, status in (("chat-small", 200), ("other", 404)):
            url = f"{gateway.url}/v1/models/{name}"
            async with gateway.http.get(url, headers=bearer(narrow)) as response:
                assert response.status == status
        assert (await ask(gateway, narrow, model="tiny"))[0] == 200
        status, body, _ = await ask(gateway, narrow, model="other")
        assert (status, body["error"]["code"]) == (403, "model_not_allowed")
        status, body, _ = await ask(gateway, narrow, "/v1/completions", model="chat-small")
        assert (status, body["error"]["code"]) == (403, "endpoint_not_allowed")
        status, body, _ = await ask(gateway, narrow, "/v1/messages", model="chat-small", max_tokens=1)
        assert (status, body["error"]["type"]) == (403, "permission_error")
        assert (await ask(gateway, gateway.key, model="other"))[0] == 200
    assert len(engine.requests) == 2


async def test_on_a_connection_that_stays_open_a_key_holds_only_as_long_as_it_is_valid(
    tmp_path: Path, engine: MockEngine
) -> None:
    engine.behaviour = speak
    key = new_key()
    models = [model_of(engine)]
    path = settings_of(tmp_path).snapshot_path
    async with running(tmp_path, models, keys=[key_entry(key, "one")]) as gateway:

        async def told(entry: Key) -> int:
            write_snapshot(path, models, [entry])
            assert await gateway.process.snapshots.reload()
            return (await ask(gateway, key))[0]

        assert [(await ask(gateway, key))[0] for _ in range(3)] == [200, 200, 200]
        assert await told(key_entry(key, "one", models=("other",))) == 403
        assert await told(key_entry(key, "one", endpoints=("models",))) == 403
        assert await told(key_entry(key, "one")) == 200
        soon = datetime.now(UTC) + timedelta(seconds=1.5)
        assert await told(key_entry(key, "one", expires=soon)) == 200
        await asyncio.sleep(1.6)
        assert (await ask(gateway, key))[0] == 401
        assert await told(key_entry(key, "one")) == 200
        assert await told(key_entry(key, "one", disabled=True)) == 401


async def test_a_fallback_does_not_widen_what_a_key_may_use(tmp_path: Path, make_engine: Any) -> None:
    engine, gone = await make_engine(), await make_engine()
    models = [model_of(gone, name="first", fallback=("second",)), model_of(engine, name="second")]
    narrow = new_key()
    async with running(tmp_path, models, keys=[key_entry(narrow, "n", models=("first",))]) as gateway:
        await gone.stop()
        status, _, headers = await ask(gateway, gateway.key, model="first")
        assert (status, headers["x-citadel-fallback"]) == (200, "second")
        assert (await ask(gateway, narrow, model="first"))[0] == 503


async def test_limits_are_told_held_and_released(tmp_path: Path, engine: MockEngine) -> None:
    key = new_key()
    limits = Limits(requests_per_minute=3, tokens_per_minute=1000)
    async with running(tmp_path, [model_of(engine)], keys=[key_entry(key, "k", limits=limits)]) as gateway:
        status, _, headers = await ask(gateway, key)
        assert (status, headers["x-ratelimit-limit-requests"]) == (200, "3")
        assert headers["x-ratelimit-remaining-requests"] == "2"
        _, _, headers = await ask(gateway, key)
        # The first request was settled with the engine's own numbers: 7 and 2.
        spent = 1000 - int(headers["x-ratelimit-remaining-tokens"])
        assert 9 < spent < 9 + 40
        assert (await ask(gateway, key))[0] == 200
        status, body, headers = await ask(gateway, key)
        assert (status, body["error"]["code"], body["error"]["type"]) == (
            429,
            "rate_limit_exceeded",
            "requests",
        )
        assert 0 < int(headers["retry-after"]) <= 61
        status, body, _ = await ask(gateway, key, "/v1/messages", max_tokens=1)
        assert (status, body["error"]["type"]) == (429, "rate_limit_error")
        assert (await ask(gateway, gateway.key))[0] == 200
        assert 'cause="limit_requests_per_minute"' in await gateway.metrics()
    assert len(engine.requests) == 4


async def test_the_limit_is_exact_under_two_hundred_clients(tmp_path: Path, engine: MockEngine) -> None:
    key = new_key()
    limits = Limits(requests_per_minute=50)
    async with running(tmp_path, [model_of(engine)], keys=[key_entry(key, "k", limits=limits)]) as gateway:
        results = await asyncio.gather(*(ask(gateway, key) for _ in range(200)))
    statuses = [status for status, _, _ in results]
    assert (statuses.count(200), statuses.count(429)) == (50, 150)
    assert len(engine.requests) == 50


async def test_places_come_free_however_a_request_ends(tmp_path: Path, engine: MockEngine) -> None:
    key = new_key()
    entry = key_entry(key, "k", limits=Limits(concurrent_requests=1))
    async with running(tmp_path, [model_of(engine)], keys=[entry]) as gateway:

        async def wait(request: Received) -> None:
            await request.connection.closed.wait()

        engine.behaviour = wait
        waiting = asyncio.create_task(ask(gateway, key))
        await until(lambda: len(engine.requests) == 1)
        status, body, headers = await ask(gateway, key)
        assert (status, headers["retry-after"]) == (429, "1")
        assert "1 requests at the same time" in body["error"]["message"]
        waiting.cancel()
        await until(lambda: gateway.process.gateway.in_flight == 0)

        async def fail(request: Received) -> None:
            await request.connection.json({"error": {}}, "400 Bad Request")

        for behaviour, expected in ((fail, 400), (speak, 200), (speak, 200)):
            engine.behaviour = behaviour
            assert (await ask(gateway, key))[0] == expected


async def test_users_and_models_have_limits_of_their_own(tmp_path: Path, engine: MockEngine) -> None:
    key = new_key()
    entry = key_entry(key, "k", user_limits=Limits(requests_per_minute=1))
    model = model_of(engine, limits=Limits(requests_per_minute=3))
    async with running(tmp_path, [model], keys=[entry]) as gateway:
        assert [(await ask(gateway, key, user=user))[0] for user in ("ann", "ann", "bob")] == [200, 429, 200]
        assert (await ask(gateway, gateway.key))[0] == 200
        status, body, _ = await ask(gateway, gateway.key)
        assert (status, "this model" in body["error"]["message"]) == (429, True)


async def test_streams_count_too_even_when_nobody_tells_the_tokens(
    tmp_path: Path, engine: MockEngine
) -> None:
    async def silent(request: Received) -> None:
        await request.connection.start_stream()
        for _ in range(30):
            await request.connection.chunk(b'data: {"choices":[]}\n\n')
            await asyncio.sleep(0.002)
        await request.connection.end_stream()

    key = new_key()
    entry = key_entry(key, "k", limits=Limits(tokens_per_day=10_000))
    state = tmp_path / "state"
    state.mkdir()
    async with running(tmp_path, [model_of(engine)], keys=[entry], state_dir=state) as gateway:
        await ask(gateway, key, stream=True)
        engine.behaviour = silent
        await ask(gateway, key, stream=True)
        saved = gateway.process.keeping.limiter.local.save()
    ((_, day_used, _, month_used),) = saved.values()
    assert day_used == month_used
    assert 9 + 10 < day_used < 9 + 30 + 40
    told, counted = events(state)
    assert (told["prompt_tokens"], told["completion_tokens"], told["estimated"]) == (7, 2, False)
    assert counted["estimated"] is True
    assert 10 <= counted["completion_tokens"] <= 30


def events(state: Path) -> list[dict[str, Any]]:
    lines = [
        line for path in sorted((state / "usage").glob("*.jsonl")) for line in path.read_text().splitlines()
    ]
    return [json.loads(line) for line in lines]


async def test_usage_is_written_down_without_any_content(tmp_path: Path, engine: MockEngine) -> None:
    engine.behaviour = speak
    async with running(tmp_path, [model_of(engine)], state_dir=tmp_path / "state") as gateway:
        (tmp_path / "state").mkdir(exist_ok=True)
        await ask(gateway, gateway.key, user="ann", messages=[{"role": "user", "content": "secret words"}])
        await ask(gateway, gateway.key, "/v1/messages", max_tokens=5, stream=True)
        await ask(gateway, gateway.key, "/tokenize")
        await ask(gateway, gateway.key, model="unknown")
    chat, message, tokenize = events(tmp_path / "state")
    assert chat["request_id"]
    assert {name: chat[name] for name in ("key_id", "user", "model", "backend", "endpoint", "status")} == {
        "key_id": "team",
        "user": "ann",
        "model": MODEL,
        "backend": "engine-0",
        "endpoint": "chat_completions",
        "status": 200,
    }
    assert (message["prompt_tokens"], message["completion_tokens"], message["stream"]) == (7, 2, True)
    assert (tokenize["prompt_tokens"], tokenize["completion_tokens"]) == (0, 0)
    assert "secret words" not in json.dumps([chat, message])


async def test_what_one_request_may_ask_for(tmp_path: Path, engine: MockEngine) -> None:
    model = model_of(engine, request_limits=RequestLimits(max_tokens=100, max_choices=2))
    async with running(tmp_path, [model], max_json_depth=10) as gateway:
        for body, code in (
            ({"max_tokens": 101}, "max_tokens_too_large"),
            ({"n": 3}, "too_many_choices"),
            ({"x": [[[[[[[[[[1]]]]]]]]]]}, "too_deep"),
        ):
            status, answer, _ = await ask(gateway, gateway.key, **body)
            assert (status, answer["error"]["code"]) == (400, code)
        assert (await ask(gateway, gateway.key, max_tokens=100, n=2))[0] == 200
    assert len(engine.requests) == 1


async def test_traces_are_continued_and_times_are_told(gateway: Running, engine: MockEngine) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    parent = f"00-{trace}-00f067aa0ba902b7-01"
    async with await gateway.chat(traceparent=parent, tracestate="a=1") as response:
        timing = response.headers["server-timing"]
    assert re.fullmatch(r"request;dur=\d+\.\d\d, queue;dur=\d+\.\d\d, engine;dur=\d+\.\d\d", timing)
    (passed,) = engine.requests[0].values("traceparent")
    assert passed.startswith(f"00-{trace}-")
    assert passed != parent
    assert engine.requests[0].values("tracestate") == ["a=1"]
    async with await gateway.chat(traceparent="nonsense"):
        pass
    (made,) = engine.requests[1].values("traceparent")
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", made)


async def test_the_description_and_the_page(gateway: Running, tmp_path: Path, engine: MockEngine) -> None:
    async with gateway.http.get(gateway.url + "/openapi.json") as response:
        document = await response.json()
    chat = document["paths"]["/v1/chat/completions"]["post"]
    schema = chat["requestBody"]["content"]["application/json"]["schema"]
    assert schema["properties"]["model"]["enum"] == [MODEL, "smol"]
    async with gateway.http.get(gateway.url + "/docs") as response:
        assert response.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert "/v1/chat/completions" in await response.text()
    (tmp_path / "closed").mkdir()
    async with running(tmp_path / "closed", [model_of(engine)], docs=False) as closed:
        for path in ("/docs", "/openapi.json"):
            async with closed.http.get(closed.url + path) as response:
                assert response.status == 404


async def test_peppered_keys_and_their_credential(
    tmp_path: Path, engine: MockEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    file = credentials / "gateway_pepper"
    file.write_text("ab" * 32 + "\n")
    (pepper,) = parse_peppers(file.read_text())
    key = new_key()
    record = record_of("peppered", key, pepper=pepper)
    entry = Key(id="peppered", prefix=record.prefix, hash=record.hash)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    async with running(tmp_path, [model_of(engine)], keys=[entry]) as gateway:
        assert (await ask(gateway, key))[0] == 200
        assert (await ask(gateway, gateway.key))[0] == 200
        assert (await ask(gateway, key[:-1] + "x"))[0] == 401
    file.write_text("cd" * 32)
    settings = settings_of(tmp_path)
    write_snapshot(settings.snapshot_path, [model_of(engine)], [entry])
    process = Process(settings)
    assert not await process.snapshots.reload()
    assert "credential gateway_pepper" in (process.snapshots.last_error or "")
    file.write_text("nonsense")
    with pytest.raises(CredentialError, match="gateway_pepper cannot be used: line 1"):
        read_peppers()


async def test_tokens_of_an_identity_provider(tmp_path: Path, engine: MockEngine) -> None:
    signer, up = Signer(), [True]

    async def keys(_request: web.Request) -> web.Response:
        return web.json_response({"keys": [signer.public]}) if up[0] else web.Response(status=503)

    app = web.Application()
    app.router.add_get("/jwks", keys)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    issuer = {
        "name": "idp",
        "issuer": "https://idp.example/",
        "audiences": ["citadel"],
        "jwks_url": f"http://127.0.0.1:{port}/jwks",
        "access": {"limits": {"requests_per_minute": 2}},
    }
    state = tmp_path / "state"
    state.mkdir()
    later = time.time() + 600

    def token(sub: str, **claims: Any) -> str:
        return signer.token(sub=sub, exp=later, **claims).decode()

    try:
        async with running(tmp_path, [model_of(engine)], issuers=[issuer], state_dir=state) as gateway:
            for user, statuses in (("ann", [200, 200, 429]), ("bob", [200])):
                assert [(await ask(gateway, token(user)))[0] for _ in statuses] == statuses
            assert (await ask(gateway, token("eve", citadel_models=["nothing"])))[0] == 403
            assert (await ask(gateway, token("eve", aud="other")))[0] == 401
            assert (await ask(gateway, Signer().token(exp=later).decode()))[0] == 401
            assert (await ask(gateway, gateway.key))[0] == 200
            metrics = await gateway.metrics()
            assert 'citadel_gateway_issuer_keys_age_seconds{issuer="idp"}' in metrics
            await until(lambda: (state / "jwks-idp.json").exists())
        assert {event["key_id"] for event in events(state)} >= {"idp:ann", "idp:bob"}
        # A gateway that starts while the provider is away knows the keys of before.
        up[0] = False
        (tmp_path / "second").mkdir()
        async with running(
            tmp_path / "second", [model_of(engine)], issuers=[issuer], state_dir=state
        ) as gateway:
            assert (await ask(gateway, token("ann")))[0] == 200
        (tmp_path / "third").mkdir()
        async with running(tmp_path / "third", [model_of(engine)], issuers=[issuer]) as gateway:
            status, body, headers = await ask(gateway, token("ann"))
            assert (status, body["error"]["code"]) == (503, "identity_provider_unavailable")
            assert headers["retry-after"]
            assert (await ask(gateway, gateway.key))[0] == 200
    finally:
        await runner.cleanup()


async def test_clients_understand_a_used_up_quota(tmp_path: Path, engine: MockEngine) -> None:
    key = new_key()
    entry = key_entry(key, "k", limits=Limits(tokens_per_month=5))
    async with running(tmp_path, [model_of(engine)], keys=[entry]) as gateway:
        client = openai.AsyncOpenAI(base_url=gateway.url + "/v1", api_key=key, max_retries=5)
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(**CHAT)
        assert caught.value.code == "insufficient_quota"
        claude = anthropic.AsyncAnthropic(base_url=gateway.url, api_key=key, max_retries=5)
        with pytest.raises(anthropic.RateLimitError):
            await claude.messages.create(max_tokens=5, **CHAT)
        # They were told not to repeat it.
        assert 'endpoint="chat_completions",model="org/smol"} 1.0' in await gateway.metrics()


async def test_spans_go_to_the_collector(tmp_path: Path, engine: MockEngine) -> None:
    found: list[Any] = []

    async def collect(request: web.Request) -> web.Response:
        found.append(await request.json())
        return web.json_response({})

    app = web.Application()
    app.router.add_post("/v1/traces", collect)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    traces = {"otlp_endpoint": f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces"}
    try:
        async with running(tmp_path, [model_of(engine)], traces=traces) as gateway:
            await ask(gateway, gateway.key)
            passed = engine.requests[0].values("traceparent")[0].split("-")
    finally:
        await runner.cleanup()
    (span,) = found[0]["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert [span["traceId"], span["spanId"]] == passed[1:3]
    attributes = {item["key"]: item["value"] for item in span["attributes"]}
    assert span["name"] == "POST chat_completions"
    assert attributes["gen_ai.request.model"] == {"stringValue": MODEL}
    assert attributes["gen_ai.usage.output_tokens"] == {"intValue": "2"}

"""What is served is what the API's description says: asked with made-up requests, right and wrong ones."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from citadel_llm.gateway.api.description import operations
from citadel_llm.gateway.api.endpoints import ENDPOINTS
from files.app.tests.gateway.harness import Running, model_of, running
from files.app.tests.gateway.mock_engine import COMPLETION, MockEngine, Received, event

pytestmark = pytest.mark.slow

EXAMPLES = 6
# Not among them is that wrong bodies are refused: members are for the engine to judge, and pass unread.
_CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
_STREAMS = {endpoint.path for endpoint in ENDPOINTS if endpoint.streams}


async def _answer(request: Received) -> None:
    if request.path in _STREAMS and request.json.get("stream") is True:
        await request.connection.start_stream()
        await request.connection.chunk(event("Paris") + b"data: [DONE]\n\n")
        await request.connection.end_stream()
    else:
        await request.connection.json(COMPLETION)


def _ask(schema: Any, gateway: Running, method: str, path: str) -> int:
    """Ask one operation; each answer is compared with the description. How many were asked."""
    asked = 0

    def try_one(mode: GenerationMode) -> None:
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=schema[path][method].as_strategy(generation_mode=mode))
        def one(case: Any) -> None:
            nonlocal asked
            asked += 1
            case.call_and_validate(base_url=gateway.url, headers=gateway.auth, checks=_CHECKS, timeout=20)

        one()

    try_one(GenerationMode.POSITIVE)
    if method == "POST":
        try_one(GenerationMode.NEGATIVE)
    return asked


async def test_every_answer_is_as_described(tmp_path: Path, engine: MockEngine) -> None:
    engine.behaviour = _answer
    models = [
        model_of(engine, name=name, task=task)
        for name, task in (("org/smol", "generate"), ("org/mini", "embed"), ("org/rank", "score"))
    ]
    async with running(tmp_path, models, access_log=False) as gateway:
        async with gateway.http.get(gateway.url + "/openapi.json") as response:
            document = await response.json()
        schema = schemathesis.openapi.from_dict(document)
        for method, path, _ in operations(document):
            asked = await asyncio.to_thread(_ask, schema, gateway, method, path)
            assert asked >= 1, path
        assert len(engine.requests) > EXAMPLES

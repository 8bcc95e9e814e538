"""An engine that speaks every API of the allowlist, as vLLM does."""

from __future__ import annotations

import json
from typing import Any

from files.app.tests.gateway.mock_engine import COMPLETION, Received, event

TOOL_CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}


def named(name: str, document: dict[str, Any]) -> bytes:
    """One event of a stream whose events have names."""
    return f"event: {name}\ndata: {json.dumps({'type': name, **document})}\n\n".encode()


MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "served",
    "content": [{"type": "text", "text": "Paris"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 7, "output_tokens": 2},
}
MESSAGE_EVENTS = [
    named(
        "message_start",
        {"message": MESSAGE | {"content": [], "usage": {"input_tokens": 7, "output_tokens": 0}}},
    ),
    named("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}),
    *[
        named("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": word}})
        for word in ("Pa", "ris")
    ],
    named("content_block_stop", {"index": 0}),
    named("message_delta", {"delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}),
    named("message_stop", {}),
]
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "model": "served",
    "status": "completed",
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "output": [
        {
            "type": "message",
            "id": "m1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Paris", "annotations": []}],
        }
    ],
    "usage": {
        "input_tokens": 7,
        "output_tokens": 2,
        "total_tokens": 9,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    },
}
RESPONSE_EVENTS = [
    named("response.created", {"response": RESPONSE | {"output": [], "usage": None}, "sequence_number": 0}),
    named(
        "response.output_text.delta",
        {"delta": "Paris", "item_id": "m1", "output_index": 0, "content_index": 0, "sequence_number": 1},
    ),
    named("response.completed", {"response": RESPONSE, "sequence_number": 2}),
]
ANSWERS: dict[str, dict[str, Any]] = {
    "/v1/completions": {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1,
        "model": "served",
        "choices": [{"index": 0, "text": "Paris", "finish_reason": "stop", "logprobs": None}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9},
    },
    "/v1/messages": MESSAGE,
    "/v1/messages/count_tokens": {"input_tokens": 7},
    "/v1/responses": RESPONSE,
    "/v1/embeddings": {
        "object": "list",
        "model": "served",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -0.5]}],
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    },
    "/v1/rerank": {
        "id": "r",
        "results": [{"index": 0, "relevance_score": 0.9}],
        "usage": {"prompt_tokens": 5},
    },
    "/v1/score": {"id": "s", "data": [{"index": 0, "score": 0.9}], "usage": {"prompt_tokens": 5}},
    "/tokenize": {"count": 2, "max_model_len": 1024, "tokens": [1, 2]},
    "/detokenize": {"prompt": "a text"},
}


async def speak(request: Received) -> None:
    """Answer in the form of the endpoint; with tools, call one."""
    if request.json.get("stream"):
        await request.connection.start_stream()
        for part in _events(request):
            await request.connection.chunk(part)
        await request.connection.end_stream()
        return
    if request.path != "/v1/chat/completions":
        await request.connection.json(ANSWERS[request.path])
        return
    document = json.loads(json.dumps(COMPLETION))
    if request.json.get("tools"):
        message = {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]}
        document["choices"][0] |= {"message": message, "finish_reason": "tool_calls"}
    if request.json.get("response_format"):
        document["choices"][0]["message"]["content"] = '{"city":"Paris"}'
    await request.connection.json(document)


def _events(request: Received) -> list[bytes]:
    if request.path == "/v1/messages":
        return MESSAGE_EVENTS
    if request.path == "/v1/responses":
        return RESPONSE_EVENTS
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}\n\n'
    return [event("Pa"), event("ris"), usage, b"data: [DONE]\n\n"]

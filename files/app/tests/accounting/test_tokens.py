"""Token counts, wherever the three APIs tell them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from citadel_llm.gateway.accounting.tokens import Tail


def event(document: dict[str, Any], name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(document, separators=(',', ':'))}\n\n".encode()


def anthropic(output: dict[str, int]) -> list[bytes]:
    start = {
        "type": "message_start",
        "message": {"id": "m", "usage": {"input_tokens": 25, "output_tokens": 0}},
    }
    delta = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "word"}}
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": output}
    return [
        event(start, "message_start"),
        *[event(delta, "content_block_delta")] * 30,
        event(end, "message_delta"),
        event({"type": "message_stop"}, "message_stop"),
    ]


RESPONSES = [
    event({"type": "response.created", "response": {"usage": None}}),
    *[event({"type": "response.output_text.delta", "delta": "x"})] * 30,
    event(
        {
            "type": "response.completed",
            "response": {"output": [], "usage": {"input_tokens": 4, "output_tokens": 6, "total_tokens": 10}},
        }
    ),
]


@pytest.mark.parametrize(
    ("chunks", "found"),
    [
        (anthropic({"output_tokens": 15}), (25, 15)),
        (anthropic({"input_tokens": 26, "output_tokens": 15}), (26, 15)),
        ([b"".join(anthropic({"output_tokens": 15}))], (25, 15)),
        (RESPONSES, (4, 6)),
        ([b"".join(RESPONSES)], (4, 6)),
        ([b'{"object":"list","data":[],"usage":{"prompt_tokens":9,"total_tokens":9}}'], (9, 0)),
        ([b'{"id":"m","usage":{"input_tokens":3,"output_tokens":2}}'], (3, 2)),
        ([b'{"results":[],"usage":{"prompt_tokens":7,"total_tokens":7,"completion_tokens":null}}'], (7, 0)),
        ([event({"choices": [{"delta": {"content": "a"}}]})] * 9 + [b"data: [DONE]\n\n"], None),
        ([event({"type": "message_start"}, "message_start")], None),
        ([b'{"usage":{"prompt_tokens":7,"completion_tokens":%d}}' % 10**99], (7, 0)),
    ],
)
def test_counts_are_found(chunks: list[bytes], found: tuple[int, int] | None) -> None:
    tail = Tail(head=True)
    for chunk in chunks:
        tail.add(chunk)
    assert tail.usage() == found
    assert tail.chunks == len(chunks)


def test_a_stream_that_breaks_off_still_tells_what_its_prompt_had() -> None:
    tail = Tail(head=True)
    for chunk in anthropic({"output_tokens": 5})[:20]:
        tail.add(chunk)
    assert tail.usage() == (25, 0)

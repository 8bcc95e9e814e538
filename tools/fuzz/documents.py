"""Bodies of requests: what clients send, and everything that they should not."""

from __future__ import annotations

import json
import random
from typing import Any

from citadel_llm.gateway.api.endpoints import ENDPOINTS
from citadel_llm.gateway.api.schemas import REQUESTS

PATHS = {endpoint.name: endpoint.path for endpoint in ENDPOINTS}
_FIELDS = {name: tuple(model.model_fields) for name, model in REQUESTS.items()}
_MORE_FIELDS = (
    "best_of", "logit_bias", "metadata", "max_output_tokens", "safety_identifier", "top_k", "store",
    "__proto__", "",
)  # fmt: skip
_PROPER: dict[str, Any] = {
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "prompt": "The capital of France is",
    "input": "a text",
    "query": "which",
    "documents": ["one", "two"],
    "text_1": "one",
    "text_2": "two",
    "tokens": [1, 2, 3],
    "max_tokens": 5,
}
_ODD: tuple[bytes, ...] = (
    b"null", b"true", b"false", b"0", b"-1", b"-0", b"1.5", b"1e308", b"1e999", b"-1e999", b"NaN",
    b"Infinity", b"9" * 30, b"1" * 5000, b"1e" + b"9" * 400, b"0" * 9, b"0x10", b"1_000", b'""', b'"5"',
    b'"\\ud800"', b'"\\u0000"', b'"\\uD83D\\uDE00"', b'"\xf0\x9f\x98\x80"', b'"\xff\xfe"',
    b'"\xed\xa0\x80"', b'"a\nb"', b'"\\x"', b'"', b"[]", b"[null]", b"[[[[]]]]", b"{}",
    b'{"a":{"b":[1,{"c":null}]}}', b'{"type":"x","user_id":"\\udfff"}', b'{"user_id":5}',
    b"[" * 70 + b"]" * 70, b"[" * 3000, b'{"a":' * 200 + b"1" + b"}" * 200, b'"' + b"a" * 40_000 + b'"',
    b"", b"// 1", b"tru", b"1,", b"\x00", b"\xef\xbb\xbf1",
)  # fmt: skip


def document(name: str, model: str, chance: random.Random, *, stream: bool = False) -> dict[str, Any]:
    """A proper request for an endpoint."""
    fields = _FIELDS[name]
    found: dict[str, Any] = {"model": model}
    found |= {field: value for field, value in _PROPER.items() if field in fields}
    if name == "tokenize":
        del found["messages"]
    if stream and "stream" in fields:
        found["stream"] = True
    if chance.random() < 0.2:
        found["user"] = chance.choice(("ann", "bob", "é", "x" * 300))
    return found


def encoded(found: dict[str, Any], chance: random.Random) -> bytes:
    """Its bytes, in one of the forms that clients' libraries make."""
    return json.dumps(
        found,
        ensure_ascii=chance.random() < 0.5,
        separators=chance.choice(((",", ":"), (", ", ": "))),
        indent=chance.choice((None, None, None, 2)),
    ).encode()


def spoilt(name: str, model: str, chance: random.Random) -> bytes:
    """A request in which something is wrong, or only odd."""
    found = document(name, model, chance, stream=chance.random() < 0.3)
    pairs = [(json.dumps(field).encode(), json.dumps(value).encode()) for field, value in found.items()]
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        _spoil(pairs, name, chance)
    data = b"{" + b",".join(field + b":" + value for field, value in pairs) + b"}"
    if chance.random() < 0.15:
        data = _around(data, chance)
    return data


def _spoil(pairs: list[tuple[bytes, bytes]], name: str, chance: random.Random) -> None:
    what = chance.randrange(7)
    place = chance.randrange(len(pairs)) if pairs else 0
    if what <= 2 and pairs:  # a wrong value in a field that is there
        pairs[place] = (pairs[place][0], chance.choice(_ODD))
    elif what <= 4:  # any value in any field that is known
        field = chance.choice(_FIELDS[name] + _MORE_FIELDS)
        pairs.insert(place, (json.dumps(field).encode(), chance.choice(_ODD)))
    elif what == 5 and pairs:  # twice, once perhaps spelt with an escape
        again, value = pairs[place]
        if chance.random() < 0.5 and len(again) > 2:
            again = b'"\\u%04x%b' % (again[1], again[2:])
        pairs.append((again, chance.choice((value, chance.choice(_ODD)))))
    elif pairs:
        del pairs[place]


def _around(data: bytes, chance: random.Random) -> bytes:
    what = chance.randrange(6)
    if what == 0:
        return data[: chance.randrange(len(data))]
    if what == 1:
        return b"\xef\xbb\xbf" + data
    if what == 2:
        return data + chance.choice((b"}", b"\0", b" \r\n\t", b"{}", b","))
    if what == 3:
        return data.decode("latin-1").encode("utf-16")
    if what == 4:
        return b"[" + data + b"]"
    place = chance.randrange(len(data))
    return data[:place] + bytes([chance.randrange(256)]) + data[place + 1 :]

"""What engines answer: as they should, and everything else."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Literal

from tools.fuzz.heads import scratch

Ending = Literal["keep", "close", "reset"]
ANSWER = json.dumps(
    {"id": "c", "model": "served", "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}
).encode()
EVENTS = (
    b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"Pa"}}]}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}\n\n',
    b"data: [DONE]\n\n",
)
_STATUSES = (
    b"200 OK", b"200", b"200 ", b"201 \xff", b"204 No Content", b"205 Reset", b"299 x",
    b"304 Not Modified", b"400 Bad Request", b"401 Unauthorized", b"404 Not Found", b"422 No", b"429 Busy",
    b"500 Oops", b"502 Bad", b"503 Busy", b"504 Late", b"599 x", b"600 x", b"999 x", b"99 x", b"000 x",
    b"20 x", b"2000 x", b"-1 x", b"101 Switching", b"100 Continue", b"103 Hints",
)  # fmt: skip
_LINES = (
    b"content-length: 5", b"content-length: 0", b"content-length: -1", b"content-length: 5, 5",
    b"content-length: 99999999999999999999", b"content-length: 5x", b"content-length:",
    b"transfer-encoding: chunked", b"transfer-encoding: gzip", b"transfer-encoding: x, chunked",
    b"transfer-encoding: chunked, chunked", b"connection: close", b"connection: keep-alive",
    b"connection: x-secret, content-type", b"connection: upgrade", b"upgrade: h2c",
    b"keep-alive: timeout=1", b"set-cookie: a=b", b"x-request-id: theirs", b"date: never",
    b"server: engine", b"x: \xff", b"x: \xc3\xa9", b"x: \x7f", b"x: a\0b", b"x: \x01", b"x: a\rb",
    b"x: a\n y", b"x: a\r\n folded", b"x y: z", b": empty", b"no colon", b"\xff: x", b"x:",
    b"x-large: " + b"a" * 5_000, b"x-larger: " + b"a" * 70_000, b"content-type: text/event-stream",
    b"content-type: text/event-stream\x80", b"content-encoding: gzip", b"trailer: x",
    b"location: http://other/", b"www-authenticate: Basic", b"retry-after: -1", b"x-citadel-arm: theirs",
    b"server-timing: x", b"content-length : 5", b" folded: first", b"http/1.1 200 ok: x",
)  # fmt: skip
_BODIES = (
    ANSWER, b"", b"{}", b"null", b"\xff\xfe", b"[" * 5000, b'{"usage":null}',
    b'{"usage":{"prompt_tokens":-5}}', b'{"usage":[1]}',
    b'{"usage":{"prompt_tokens":1e999,"completion_tokens":"x"}}', b'{"usage":{"prompt_tokens":NaN}}',
    b"<html>", b"a" * 70_000, b'{"usage":{"prompt_tokens":' + b"9" * 400 + b',"completion_tokens":2}}',
    b'{"usage":{"prompt_tokens":true}}',
    b'{"usage":{"prompt_tokens":7,"completion_tokens":' + b"9" * 5000 + b"}}",
)  # fmt: skip
_EVENTS = (
    *EVENTS, b"data: {half", b"data:\n\n", b"\n\n", b": comment\n\n", b"event: error\ndata: {}\n\n",
    b'data: {"usage":{}}\n\n', b'data: {"usage":"x"}\n\n', b"data: \xff\n\n", b"data: [DONE]", b"\r\n\r\n",
    b"data: {}\r\n\r\n", b"\0", b"data: " + b"a" * 20_000,
    b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":"x"}}}\n\n',
    b'event: message_start\ndata: {"type":"message_start","message":[]}\n\n',
    b'data: {"usage":{"prompt_tokens":-1}}\n\n',
    b'data: {"type":"message_delta","usage":{"output_tokens":' + b"9" * 99 + b"}}\n\n",
)  # fmt: skip
_NOT_HTTP = (
    b"", b"\r\n\r\n", b"\0" * 100, b"220 mail ESMTP\r\n", b"HTTP/1.1\r\n\r\n", b"HTTP/0.9 200 OK\r\n\r\n",
    b"HTTP/2.0 200 OK\r\n\r\n", b"ICY 200 OK\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x28",
    b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b"H" * 70_000,
    b"HTTP/1.1 100 Continue\r\n\r\n" * 50, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
)  # fmt: skip


@dataclass(frozen=True)
class Script:
    """The answer to one request, in pieces, and what becomes of the connection."""

    pieces: tuple[bytes, ...]
    ending: Ending


def framed(status: bytes, lines: list[bytes], body: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\n%b\r\n%b" % (status, b"".join(line + b"\r\n" for line in lines), body)


def proper(*, stream: bool) -> bytes:
    """What an engine answers when nothing is wrong."""
    if not stream:
        lines = [b"content-type: application/json", b"content-length: %d" % len(ANSWER)]
        return framed(b"200 OK", lines, ANSWER)
    lines = [b"content-type: text/event-stream; charset=utf-8", b"transfer-encoding: chunked"]
    return framed(b"200 OK", lines, b"".join(map(_chunk, EVENTS)) + b"0\r\n\r\n")


def make(chance: random.Random) -> Script:
    """Any answer."""
    data = _any(chance)
    if chance.random() < 0.25 and data:
        for _ in range(chance.choice((1, 1, 3))):
            data = scratch(data, chance) or b"\0"
    if chance.random() < 0.2:
        data = data[: chance.randrange(len(data) + 1)]
    if chance.random() < 0.1:
        data += chance.choice((data, b"\r\n", b"surplus", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"))
    ending: Ending = chance.choices(("keep", "close", "reset"), (5, 3, 1))[0]
    return Script(_cut(data, chance), ending)


def _any(chance: random.Random) -> bytes:
    what = chance.random()
    if what < 0.12:
        return chance.choice(_NOT_HTTP)
    status = chance.choice(_STATUSES) if chance.random() < 0.4 else b"200 OK"
    if what < 0.55:
        lines = [b"content-type: text/event-stream"]
        body = b"".join(chance.choice(_EVENTS) for _ in range(chance.randrange(6)))
    else:
        lines = [b"content-type: application/json"]
        body = chance.choice(_BODIES)
    how = chance.random()
    if how < 0.5:
        lines.append(b"content-length: %d" % max(0, len(body) + chance.choice((0, 0, 0, 0, 1, -1))))
    elif how < 0.9:
        lines.append(b"transfer-encoding: chunked")
        size = chance.choice((1, 7, 500, 50_000))
        parts = [body[at : at + size] for at in range(0, min(len(body), size * 300), size)]
        body = b"".join(map(_chunk, parts)) + chance.choice(
            (b"0\r\n\r\n", b"0\r\n\r\n", b"0\r\nx: y\r\n\r\n", b"", b"x\r\n")
        )
    for _ in range(chance.choice((0, 0, 1, 1, 2, 4))):
        lines.insert(chance.randrange(len(lines) + 1), chance.choice(_LINES))
    found = framed(status, lines, body)
    if chance.random() < 0.1:
        found = (
            chance.choice((b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 x\r\nlink: y\r\n\r\n", b"\r\n"))
            + found
        )
    return found


def _chunk(part: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(part), part) if part else b""


def _cut(data: bytes, chance: random.Random) -> tuple[bytes, ...]:
    if not data:
        return ()
    if chance.random() < 0.1 and len(data) < 600:
        return tuple(data[at : at + 1] for at in range(len(data)))
    cuts = sorted(chance.randrange(len(data)) for _ in range(chance.choice((0, 0, 1, 3))))
    parts = (data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True))
    return tuple(part for part in parts if part)

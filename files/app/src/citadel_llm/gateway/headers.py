"""Headers on their way through the gateway."""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import getrandbits

from citadel_llm.gateway.accounting.traces import Trace, trace_of
from citadel_llm.gateway.errors import Header
from citadel_llm.gateway.transport.request import FRAMING, Request

_HOP_BY_HOP = FRAMING | {
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
}
# What belongs to the client's side alone: credentials, and what is written anew for the engine.
_NOT_FOR_ENGINES = _HOP_BY_HOP | {
    b"authorization",
    b"cookie",
    b"traceparent",
    b"tracestate",
    b"x-api-key",
    b"x-request-id",
}
_NOT_FOR_CLIENTS = _HOP_BY_HOP | {b"date", b"server", b"set-cookie", b"x-request-id"}
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/=+@-]{1,128}").fullmatch


@dataclass(slots=True)
class RequestHeaders:
    """What one pass over a request's headers found. `forward` goes to the engine: whole lines."""

    authorization: bytes | None
    api_key: bytes | None
    trace: Trace
    request_id: bytes
    content_encoding: bytes | None
    forward: bytes


def read_headers(request: Request, *, sample: float = 1.0) -> RequestHeaders:
    """Sort a request's headers (names in lower case). A request id that is not acceptable is replaced.

    `sample` is the share of the requests without a trace of their own that is traced.
    """
    nominated: frozenset[bytes] | set[bytes] = frozenset()
    if request.nominated:
        nominated = {token.strip() for token in request.nominated.split(b",")}
    ours: dict[bytes, bytes] = {}
    lines: list[bytes] = []
    content_encoding = None
    for name, value in request.headers:
        if name in _NOT_FOR_ENGINES:
            ours.setdefault(name, value)
            continue
        if name == b"content-encoding":
            content_encoding = value.strip().lower()
        if name not in nominated:
            lines.append(b"%b: %b\r\n" % (name, value))
    told = ours.get
    given_id = told(b"x-request-id")
    request_id = given_id if given_id is not None and _REQUEST_ID(given_id) else new_id()
    trace = trace_of(told(b"traceparent"), told(b"tracestate"), sample=sample)
    lines.append(b"x-request-id: %b\r\n%b" % (request_id, trace.lines()))
    return RequestHeaders(
        told(b"authorization"), told(b"x-api-key"), trace, request_id, content_encoding, b"".join(lines)
    )


def new_id() -> bytes:
    """128 bits in hexadecimal. It names a request and protects nothing, so it need not be unpredictable."""
    return b"%032x" % getrandbits(128)


def answer_headers(raw: list[Header], request_id: bytes) -> bytes:
    """An engine's headers (names in lower case) as the client gets them: whole lines."""
    nominated: set[bytes] = set()
    for name, value in raw:
        if name == b"connection":
            nominated.update(token.strip().lower() for token in value.split(b","))
    lines = [
        b"%b: %b\r\n" % header
        for header in raw
        if header[0] not in _NOT_FOR_CLIENTS and header[0] not in nominated
    ]
    lines.append(b"x-request-id: %b\r\n" % request_id)
    return b"".join(lines)


def header_lines(headers: tuple[Header, ...]) -> bytes:
    """Headers of our own as whole lines."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])

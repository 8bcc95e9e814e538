"""Headers on their way through the gateway."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from citadel_llm.gateway.errors import Header
from citadel_llm.gateway.transport.answers import AnswerHead
from citadel_llm.gateway.transport.head import FRAMING, Head

if TYPE_CHECKING:
    from citadel_llm.gateway.identity.principal import Principal
    from citadel_llm.gateway.ways import Way

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
_EVENT_STREAM = b"text/event-stream"
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/=+@-]{1,128}").fullmatch


class Told:
    """What one pass over a head's headers found. It holds for every request that has the same head.

    `forward` goes to engines: whole lines. `request_id` is None when none was given that is acceptable.
    What was found out about the owner of the credential is kept beside it: `principal` holds for the table
    `serial` until `expires`, `way` for its owner and model.
    """

    __slots__ = (
        "api_key",
        "authorization",
        "content_encoding",
        "expires",
        "forward",
        "parent",
        "principal",
        "request_id",
        "serial",
        "state",
        "way",
    )

    def __init__(self, head: Head) -> None:
        nominated: frozenset[bytes] | set[bytes] = frozenset()
        if head.nominated:
            nominated = {token.strip() for token in head.nominated.split(b",")}
        ours: dict[bytes, bytes] = {}
        lines: list[bytes] = []
        self.content_encoding: bytes | None = None
        for name, value in head.headers:
            if name in _NOT_FOR_ENGINES:
                ours.setdefault(name, value)
                continue
            if name == b"content-encoding":
                self.content_encoding = value.strip().lower()
            if name not in nominated:
                lines.append(b"%b: %b\r\n" % (name, value))
        told = ours.get
        given_id = told(b"x-request-id")
        self.request_id = given_id if given_id is not None and _REQUEST_ID(given_id) else None
        self.authorization = told(b"authorization")
        self.api_key = told(b"x-api-key")
        self.parent = told(b"traceparent")
        self.state = told(b"tracestate")
        self.forward = b"".join(lines)
        self.serial = 0
        self.expires = 0.0
        self.principal: Principal | None = None
        self.way: Way | None = None


class AnswerLines:
    """What goes to clients of an engine's headers, and whether its body is a stream of events."""

    __slots__ = ("event_stream", "lines")

    def __init__(self, headers: list[Header]) -> None:
        self.lines = answer_headers(headers)
        self.event_stream = any(
            name == b"content-type" and value.startswith(_EVENT_STREAM) for name, value in headers
        )


def lines_of(head: AnswerHead) -> AnswerLines:
    """The lines of an answer's head, made once however often the same head comes."""
    found: AnswerLines | None = head.memo
    if found is None:
        found = head.memo = AnswerLines(head.headers)
    return found


def answer_headers(raw: list[Header]) -> bytes:
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
    return b"".join(lines)


def header_lines(headers: tuple[Header, ...]) -> bytes:
    """Headers of our own as whole lines."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])

"""Headers on their way through the gateway."""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import getrandbits

from citadel_llm.gateway.errors import Header

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# What belongs to the client's side alone: credentials, and what is written anew for the engine.
_NOT_FOR_ENGINES = _HOP_BY_HOP | {
    b"authorization",
    b"content-length",
    b"cookie",
    b"expect",
    b"host",
    b"http2-settings",
    b"x-api-key",
    b"x-request-id",
}
_NOT_FOR_CLIENTS = _HOP_BY_HOP | {b"date", b"server", b"set-cookie", b"x-request-id"}
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/=+@-]{1,128}").fullmatch


@dataclass(slots=True)
class RequestHeaders:
    """What one pass over a request's headers found. `forward` goes to the engine."""

    authorization: bytes | None
    request_id: str
    content_length: int | None
    content_encoding: bytes | None
    forward: list[tuple[str, str]]


def read_headers(headers: list[Header]) -> RequestHeaders:
    """Sort a request's headers (names in lower case). A request id that is not acceptable is replaced."""
    authorization = content_encoding = nominated = given_id = None
    content_length = None
    forward: list[tuple[str, str]] = []
    for name, value in headers:
        if name not in _NOT_FOR_ENGINES:
            if name == b"content-encoding":
                content_encoding = value.strip().lower()
            forward.append((name.decode("latin-1"), value.decode("latin-1")))
        elif name == b"authorization":
            authorization = value if authorization is None else authorization
        elif name == b"x-request-id":
            given_id = value
        elif name == b"content-length":
            content_length = int(value) if value.isdigit() else None
        elif name == b"connection":
            nominated = value if nominated is None else nominated + b"," + value
    if nominated is not None and nominated.strip().lower() not in (b"keep-alive", b"close"):
        dropped = {token.strip().lower().decode("latin-1") for token in nominated.split(b",")}
        forward = [header for header in forward if header[0] not in dropped]
    acceptable = given_id is not None and _REQUEST_ID(given_id) is not None
    request_id = given_id.decode() if given_id is not None and acceptable else _new_id()
    forward.append(("x-request-id", request_id))
    return RequestHeaders(authorization, request_id, content_length, content_encoding, forward)


def _new_id() -> str:
    """128 bits in hexadecimal. It names a request and protects nothing, so it need not be unpredictable."""
    return f"{getrandbits(128):032x}"


def answer_headers(raw: tuple[Header, ...], request_id: str) -> list[Header]:
    """An engine's headers as the client gets them."""
    headers = []
    nominated: set[bytes] = set()
    for name, value in raw:
        lower = name.lower()
        if lower == b"connection":
            nominated.update(token.strip().lower() for token in value.split(b","))
        if lower not in _NOT_FOR_CLIENTS:
            headers.append((lower, value))
    if nominated:
        headers = [header for header in headers if header[0] not in nominated]
    headers.append((b"x-request-id", request_id.encode()))
    return headers

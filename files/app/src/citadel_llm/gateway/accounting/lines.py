"""What is written down of a request that is over, as members of JSON objects."""

from __future__ import annotations

import json
from json.encoder import encode_basestring as _quote
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from citadel_llm.gateway.exchange import Exchange

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str).encode


def common_members(exchange: Exchange) -> str:
    """What the access log and usage events tell alike."""
    return (
        f'"request_id":"{exchange.request_id}","key_id":{text(exchange.key_id)},'
        f'"model":{text(exchange.model or None)},"backend":{text(exchange.backend)},'
        f'"status":{exchange.status},"stream":{"true" if exchange.stream else "false"},'
        f'"duration_ms":{exchange.age * 1000:.3f}'
    )


def access_line(exchange: Exchange, common: str, usage: tuple[int, int] | None) -> str:
    """The line of the access log. No content, no query string, no key."""
    line = (
        f'{common},"method":"{exchange.method}","path":{_quote(exchange.path[:256])},'
        f'"bytes_in":{exchange.bytes_in},"bytes_out":{exchange.bytes_out}'
    )
    if exchange.first_byte_at:
        line += f',"ttft_ms":{(exchange.first_byte_at - exchange.started) * 1000:.3f}'
    if usage is not None:
        line += f',"prompt_tokens":{usage[0]},"completion_tokens":{usage[1]}'
    if exchange.cause is not None:
        line += f',"cause":"{exchange.cause}"'
    if exchange.notes:
        line += f",{_encode(exchange.notes)[1:-1]}"
    return line


def text(value: str | None) -> str:
    """A text or its absence."""
    return "null" if value is None else _quote(value)

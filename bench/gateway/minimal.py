"""The least that a proxy does, as an ASGI application: nobody is identified, nothing is counted."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

_UPSTREAM = os.environ["BENCH_UPSTREAM"]
_DROPPED = {b"host", b"content-length", b"transfer-encoding", b"connection", b"date", b"server"}
_session: list[aiohttp.ClientSession] = []

Message = dict[str, Any]


def _client() -> aiohttp.ClientSession:
    if not _session:
        timeout = aiohttp.ClientTimeout(total=None)
        connector = aiohttp.TCPConnector(limit=0)
        _session.append(aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False))
    return _session[0]


async def app(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """Pass one request on, and its answer back."""
    if scope["type"] != "http":
        return
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    headers = [(name.decode(), value.decode()) for name, value in scope["headers"] if name not in _DROPPED]
    async with _client().request(
        scope["method"], _UPSTREAM + scope["path"], data=b"".join(parts), headers=headers
    ) as answer:
        lines = [(name.lower(), value) for name, value in answer.raw_headers if name.lower() not in _DROPPED]
        await send({"type": "http.response.start", "status": answer.status, "headers": lines})
        async for chunk in answer.content.iter_any():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})

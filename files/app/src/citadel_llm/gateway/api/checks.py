"""Limits on what one request may ask for, checked before an engine sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from citadel_llm.gateway.api.endpoints import Endpoint
from citadel_llm.gateway.errors import bad_request
from citadel_llm.schema.access import RequestLimits

_CONTAINERS = (dict, list)
_SHORT = 4096


def check_depth(body: bytes, document: object, limit: int) -> None:
    """Raise ApiError (400) when a document, read from `body`, is nested more deeply than `limit`."""
    # With few brackets it cannot be deep. In long bodies, counting them costs more than looking.
    if len(body) <= _SHORT and body.count(b"[") + body.count(b"{") <= limit:
        return
    level = [document] if type(document) in _CONTAINERS else []
    for _ in range(limit):
        level = [
            value
            for container in level
            for value in (container.values() if type(container) is dict else container)  # type: ignore[attr-defined]
            if type(value) in _CONTAINERS
        ]
        if not level:
            return
    raise bad_request(f"The body is nested more than {limit} levels deep.", code="too_deep")


def check_members(document: Mapping[str, Any], endpoint: Endpoint, limits: RequestLimits | None) -> None:
    """Raise ApiError (400) when a request wants a longer answer, or more of them, than its model allows."""
    if limits is None:
        return
    if limits.max_tokens is not None:
        for name in endpoint.max_tokens:
            _check(document, name, limits.max_tokens, "max_tokens_too_large")
    if limits.max_choices is not None:
        for name in endpoint.choices:
            _check(document, name, limits.max_choices, "too_many_choices")


def user_of(document: Mapping[str, Any]) -> str | None:
    """The user that a request names: `user` or `safety_identifier`, or Anthropic's `metadata.user_id`."""
    for name in ("user", "safety_identifier"):
        value = document.get(name)
        if isinstance(value, str) and value:
            return encodable(value)
    metadata = document.get("metadata")
    if isinstance(metadata, dict):
        value = metadata.get("user_id")
        if isinstance(value, str) and value:
            return encodable(value)
    return None


def encodable(text: str) -> str:
    """A text that has a form in bytes: JSON can spell halves of characters, which have none."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _check(document: Mapping[str, Any], name: str, most: int, code: str) -> None:
    value = document.get(name)
    # What is not a number is for the engine to refuse.
    if isinstance(value, int | float) and value > most:
        raise bad_request(f"{name!r} is {value!r}; this model accepts at most {most}.", param=name, code=code)

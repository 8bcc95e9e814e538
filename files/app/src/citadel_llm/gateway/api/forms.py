"""Errors in the form of the API that was called."""

from __future__ import annotations

import json
from typing import Any

from citadel_llm.gateway.api.endpoints import Form
from citadel_llm.gateway.errors import ApiError

_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error_body(error: ApiError, form: Form, request_id: str) -> bytes:
    """The JSON document of an error."""
    return _dump(_anthropic(error, request_id) if form == "anthropic" else {"error": _openai(error)})


def error_event(error: ApiError, form: Form, request_id: str) -> bytes:
    """An error as a server-sent event, for a stream that has begun."""
    if form == "anthropic":
        return b"event: error\ndata: " + _dump(_anthropic(error, request_id)) + b"\n\n"
    if form == "responses":
        inner = _openai(error)
        document = {"type": "error", **inner, "error": inner}
        document["type"] = "error"
        return b"event: error\ndata: " + _dump(document) + b"\n\n"
    return b"data: " + _dump({"error": _openai(error)}) + b"\n\n"


def engine_error(status: int, data: bytes, request_id: str) -> bytes:
    """An engine's error in Anthropic's form: vLLM gives it a type of its own, which clients do not know."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return data
    error = document.get("error") if isinstance(document, dict) else None
    if not isinstance(error, dict):
        return data
    named = {**error, "type": _anthropic_type(status)}
    return _dump({"request_id": request_id, **document, "type": "error", "error": named})


def _openai(error: ApiError) -> dict[str, Any]:
    return {"message": error.message, "type": error.type, "param": error.param, "code": error.code}


def _anthropic(error: ApiError, request_id: str) -> dict[str, Any]:
    return {
        "type": "error",
        "error": {"type": _anthropic_type(error.status), "message": error.message},
        "request_id": request_id,
    }


def _anthropic_type(status: int) -> str:
    return _ANTHROPIC_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")


def _dump(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()

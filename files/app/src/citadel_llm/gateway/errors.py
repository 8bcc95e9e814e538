"""Errors as clients see them, in the form of OpenAI's API."""

from __future__ import annotations

import json
import math

from citadel_llm.gateway.transport.refusals import Refusal

Header = tuple[bytes, bytes]

INVALID_REQUEST = "invalid_request_error"
SERVER_ERROR = "server_error"


class ApiError(Exception):
    """An answer that is an error. `cause` is its bounded name in metrics and logs."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        cause: str,
        type_: str = INVALID_REQUEST,
        code: str | None = None,
        param: str | None = None,
        headers: tuple[Header, ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.cause = cause
        self.type = type_
        self.code = code
        self.param = param
        self.headers = headers

    def body(self) -> bytes:
        """The JSON document."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return json.dumps({"error": error}, ensure_ascii=False).encode()

    def event(self) -> bytes:
        """The same as a server-sent event, for a stream that has begun."""
        return b"data: " + self.body() + b"\n\n"


def invalid_key(message: str) -> ApiError:
    return ApiError(
        401,
        message,
        cause="unauthorized",
        code="invalid_api_key",
        headers=((b"www-authenticate", b"Bearer"),),
    )


def bad_request(message: str, *, param: str | None = None, code: str | None = None) -> ApiError:
    return ApiError(400, message, cause="bad_request", param=param, code=code)


_REFUSED = {
    408: "request_timeout",
    413: "request_too_large",
    431: "request_too_large",
    503: "service_unavailable",
}


def refused(refusal: Refusal) -> ApiError:
    """What the transport refused."""
    code = _REFUSED.get(refusal.status)
    type_ = SERVER_ERROR if refusal.status >= 500 else INVALID_REQUEST
    return ApiError(refusal.status, refusal.message, cause=refusal.cause, type_=type_, code=code)


def compressed() -> ApiError:
    return ApiError(
        415,
        "Compressed request bodies are not accepted; send the JSON as it is.",
        cause="bad_request",
        code="unsupported_content_encoding",
    )


def wrong_task(model: str, task: str, path: str) -> ApiError:
    return bad_request(
        f"The model {model!r} is not served at {path}; its task is {task!r}.",
        param="model",
        code="unsupported_task",
    )


def engine_too_old(model: str, path: str, least: str) -> ApiError:
    return bad_request(
        f"The model {model!r} is not served at {path}; its engine would have to be {least} or newer.",
        param="model",
        code="unsupported_endpoint",
    )


def client_too_slow(seconds: float) -> ApiError:
    message = f"The client took nothing of the answer for {seconds:g} seconds."
    return ApiError(408, message, cause="slow_client", code="request_timeout")


def model_not_found(model: str) -> ApiError:
    message = f"The model {model[:200]!r} does not exist here. GET /v1/models lists those that do."
    return ApiError(404, message, cause="model_not_found", param="model", code="model_not_found")


def unknown_url(method: str, path: str) -> ApiError:
    message = f"There is nothing at {method} {path[:200]}."
    return ApiError(404, message, cause="not_found", code="unknown_url")


def method_not_allowed(method: str, path: str, allowed: str) -> ApiError:
    message = f"{path} does not accept {method}; use {allowed}."
    return ApiError(
        405,
        message,
        cause="method_not_allowed",
        code="method_not_allowed",
        headers=((b"allow", allowed.encode()),),
    )


def not_loaded(retry_after_s: int) -> ApiError:
    return _unavailable("The gateway has no routing snapshot yet.", "no_snapshot", retry_after_s)


def no_backend(model: str, retry_after_s: int) -> ApiError:
    message = f"No engine that serves {model!r} can be reached at the moment. Try again shortly."
    return _unavailable(message, "backend_unreachable", retry_after_s, code="engine_unavailable")


def queue_full(model: str, retry_after_s: float, *, crowded: bool) -> ApiError:
    """`crowded`: the key has more requests waiting than its part, so that it is to blame."""
    seconds = math.ceil(retry_after_s)
    if not crowded:
        message = f"Too many requests for {model!r} are waiting. Try again later."
        return _unavailable(message, "queue_full", seconds, code="engine_overloaded")
    return ApiError(
        429,
        f"Too many requests of this key for {model!r} are waiting. Send fewer at a time.",
        cause="queue_full",
        type_="rate_limit_error",
        code="rate_limit_exceeded",
        headers=_retry_after(seconds),
    )


def queued_too_long(model: str, reason: str, retry_after_s: float) -> ApiError:
    message = f"No place for the request was found in time: {reason}. Model: {model!r}."
    return _unavailable(message, "queue_timeout", math.ceil(retry_after_s), code="engine_overloaded")


def backend_hangs(retry_after_s: int) -> ApiError:
    message = "The engine does not answer any more, and no other one is left. Try again shortly."
    return _unavailable(message, "backend_hangs", retry_after_s, code="engine_unavailable")


def shutting_down(retry_after_s: int) -> ApiError:
    return _unavailable("The gateway is shutting down. Try again shortly.", "shutdown", retry_after_s)


def backend_lost(retry_after_s: int) -> ApiError:
    return ApiError(
        502,
        "The engine closed the connection before its answer was complete.",
        cause="backend_lost",
        type_=SERVER_ERROR,
        code="engine_error",
        headers=_retry_after(retry_after_s),
    )


def backend_garbage(retry_after_s: int) -> ApiError:
    return ApiError(
        502,
        "The engine's answer was not valid HTTP.",
        cause="backend_garbage",
        type_=SERVER_ERROR,
        code="engine_error",
        headers=_retry_after(retry_after_s),
    )


def backend_timeout(what: str, seconds: float) -> ApiError:
    return ApiError(
        504,
        f"The engine sent nothing for {seconds:g} seconds.",
        cause=what,
        type_=SERVER_ERROR,
        code="engine_timeout",
    )


def internal() -> ApiError:
    return ApiError(
        500,
        "The gateway met an unexpected error. Its log has the details under this request id.",
        cause="internal",
        type_=SERVER_ERROR,
        code="internal_error",
    )


def _unavailable(
    message: str, cause: str, retry_after_s: int, *, code: str = "service_unavailable"
) -> ApiError:
    return ApiError(
        503, message, cause=cause, type_=SERVER_ERROR, code=code, headers=_retry_after(retry_after_s)
    )


def _retry_after(seconds: int) -> tuple[Header, ...]:
    return ((b"retry-after", str(seconds).encode()),)

"""What clients are told of limits: headers and errors in the words of OpenAI's API."""

from __future__ import annotations

import functools
import math

from citadel_llm.gateway.errors import ApiError, Header
from citadel_llm.gateway.limits.subjects import (
    CONCURRENT,
    REQUESTS_PER_MINUTE,
    TOKENS_PER_DAY,
    TOKENS_PER_MINUTE,
    TOKENS_PER_MONTH,
    Decision,
    Refusal,
)

_REQUEST_LINES = (
    b"x-ratelimit-limit-requests: %d\r\n"
    b"x-ratelimit-remaining-requests: %d\r\n"
    b"x-ratelimit-reset-requests: %b\r\n"
)
_TOKEN_LINES = _REQUEST_LINES.replace(b"requests", b"tokens")
_WHOSE = {
    "key": "this API key",
    "user": "this user",
    "key_model": "this API key on this model",
    "model": "this model",
}
_WHAT = {
    REQUESTS_PER_MINUTE: "requests per minute",
    TOKENS_PER_MINUTE: "tokens per minute",
    CONCURRENT: "requests at the same time",
    TOKENS_PER_DAY: "tokens per day",
    TOKENS_PER_MONTH: "tokens per month",
}
_QUOTAS = (TOKENS_PER_DAY, TOKENS_PER_MONTH)


def limit_lines(decision: Decision) -> bytes:
    """`x-ratelimit-*` for the requests and the tokens of which least is left: whole lines."""
    lines = b""
    if decision.requests is not None:
        limit, remaining, reset_s = decision.requests
        lines = _REQUEST_LINES % (limit, max(0, remaining), duration(reset_s).encode())
    if decision.tokens is not None:
        limit, remaining, reset_s = decision.tokens
        lines += _TOKEN_LINES % (limit, max(0, remaining), duration(reset_s).encode())
    return lines


def limit_headers(decision: Decision) -> list[Header]:
    """The same as single headers."""
    lines = limit_lines(decision).split(b"\r\n")[:-1]
    return [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]


def limit_error(decision: Decision) -> ApiError:
    """The 429 of a decision that has a refusal."""
    refusal = decision.refusal
    if refusal is None:
        raise ValueError("the decision let the request in")
    quota = refusal.limit in _QUOTAS
    headers = limit_headers(decision)
    if refusal.retry_s is not None:
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(refusal.retry_s))))
    if quota or refusal.retry_s is None:
        # Clients repeat every 429 a few times unless they are told not to.
        headers.append((b"x-should-retry", b"false"))
    return ApiError(
        429,
        _message(refusal),
        cause=f"limit_{refusal.limit}",
        type_=_type(refusal),
        code="insufficient_quota" if quota else "rate_limit_exceeded",
        headers=tuple(headers),
    )


def duration(seconds: float) -> str:
    """A span as OpenAI writes it: 12ms, 5.2s, 6m0s, 1h2m3s."""
    if seconds < 1:
        return f"{max(0, round(seconds * 1000))}ms"
    return _long(int(seconds * 10))


@functools.lru_cache(maxsize=4096)
def _long(tenths: int) -> str:
    if tenths < 600:
        return f"{tenths / 10:g}s"
    minutes, rest = divmod((tenths + 5) // 10, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s"


def _type(refusal: Refusal) -> str:
    if refusal.limit in _QUOTAS:
        return "insufficient_quota"
    return "tokens" if refusal.limit == TOKENS_PER_MINUTE else "requests"


def _message(refusal: Refusal) -> str:
    whose, what = _WHOSE[refusal.subject.kind], _WHAT[refusal.limit]
    if refusal.retry_s is None:
        return (
            f"The request is too large for {whose}: limit {refusal.allowed} {what}, "
            f"requested about {refusal.asked}. Send a shorter one."
        )
    text = f"Limit reached for {whose}: {refusal.allowed} {what}"
    if refusal.limit == CONCURRENT:
        return f"{text}. Try again when one of them has ended."
    text += f", used {refusal.used}"
    if refusal.limit != REQUESTS_PER_MINUTE:
        text += f", requested about {refusal.asked}"
    return f"{text}. Try again in {duration(refusal.retry_s)}."

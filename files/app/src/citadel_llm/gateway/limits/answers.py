"""What clients are told of limits: headers and errors in the words of OpenAI's API."""

from __future__ import annotations

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
    Standing,
)

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


def limit_headers(decision: Decision) -> list[Header]:
    """`x-ratelimit-*` for the requests and the tokens of which least is left."""
    headers: list[Header] = []
    for what, standing in ((b"requests", decision.requests), (b"tokens", decision.tokens)):
        if standing is not None:
            headers += _standing(what, standing)
    return headers


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
    if seconds < 60:
        return f"{math.floor(seconds * 10) / 10:g}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s"


def _standing(what: bytes, standing: Standing) -> list[Header]:
    return [
        (b"x-ratelimit-limit-" + what, b"%d" % standing.limit),
        (b"x-ratelimit-remaining-" + what, b"%d" % standing.remaining),
        (b"x-ratelimit-reset-" + what, duration(standing.reset_s).encode()),
    ]


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

"""Whose counts a request belongs to, and what a decision about it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from citadel_llm.gateway.identity.principal import Principal
from citadel_llm.schema.access import Limits

_MAX_USER = 200

REQUESTS_PER_MINUTE = "requests_per_minute"
TOKENS_PER_MINUTE = "tokens_per_minute"
CONCURRENT = "concurrent_requests"
TOKENS_PER_DAY = "tokens_per_day"
TOKENS_PER_MONTH = "tokens_per_month"
KINDS = (REQUESTS_PER_MINUTE, TOKENS_PER_MINUTE, CONCURRENT, TOKENS_PER_DAY, TOKENS_PER_MONTH)


class Subject(NamedTuple):
    """Something that requests are counted for. `kind` is key, user, key_model or model."""

    kind: str
    name: str
    limits: Limits


class Standing(NamedTuple):
    """How one limit stands. `reset_s` is the time until nothing of it is used any more."""

    limit: int
    remaining: int
    reset_s: float


class Refusal(NamedTuple):
    """Why a request must wait. `retry_s` is None when waiting does not help."""

    subject: Subject
    limit: str
    allowed: int
    used: int
    asked: int
    retry_s: float | None


@dataclass(slots=True)
class Decision:
    """What counting a request found. With a refusal, nothing was counted."""

    refusal: Refusal | None = None
    requests: Standing | None = None
    tokens: Standing | None = None


@dataclass(slots=True)
class Reservation:
    """A request that was let in, to be settled once when it is over."""

    subjects: Sequence[Subject]
    tokens: int
    second: int = 0
    """When it was counted here, in whole seconds of the limiter's clock."""
    shared_second: int = 0
    lease: str | None = None
    """Its name in the shared store; None when it was counted here alone."""
    decision: Decision = field(default_factory=Decision)
    settled: bool = False


def subjects_of(
    principal: Principal, model: str, model_limits: Limits | None, user: str | None
) -> tuple[Subject, ...]:
    """Everything that a request counts for; nothing for one without limits.

    `user` is what the request itself says of its user; a token's own user comes first.
    """
    rules = principal.rules
    found = []
    if rules.limits is not None:
        found.append(Subject("key", f"key\0{principal.id}", rules.limits))
    if rules.user_limits is not None:
        name = principal.user or user
        if name:
            found.append(Subject("user", f"user\0{principal.id}\0{name[:_MAX_USER]}", rules.user_limits))
    limits = rules.limits_for_model(model)
    if limits is not None:
        found.append(Subject("key_model", f"key_model\0{principal.id}\0{model}", limits))
    if model_limits is not None:
        found.append(Subject("model", f"model\0{model}", model_limits))
    return tuple(found)


def tighter(first: Standing | None, second: Standing | None) -> Standing | None:
    """The one of which less is left."""
    if first is None or second is None:
        return first or second
    return second if second.remaining < first.remaining else first


def worst(refusals: Sequence[Refusal]) -> Refusal:
    """The refusal with the longest wait, which is the one that helps; what can never pass has none."""
    return max(refusals, key=lambda refusal: float("inf") if refusal.retry_s is None else refusal.retry_s)

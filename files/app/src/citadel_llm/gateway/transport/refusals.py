"""Requests that are turned away by the transport itself, before or while they arrive."""

from __future__ import annotations


class Refusal(Exception):  # noqa: N818 (it is an answer, not a fault of ours)
    """Why a request is not taken. `cause` is its bounded name in metrics."""

    def __init__(self, status: int, cause: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.cause = cause
        self.message = message


def malformed(reason: str) -> Refusal:
    return Refusal(400, "malformed", f"The request is not valid HTTP: {reason}.")


def head_too_large(limit: int) -> Refusal:
    return Refusal(
        431, "too_large", f"The request's headers are larger than the {limit} bytes that are accepted."
    )


def too_many_fields(limit: int) -> Refusal:
    return Refusal(431, "too_large", f"The request has more than the {limit} headers that are accepted.")


def body_too_large(limit: int) -> Refusal:
    return Refusal(
        413, "too_large", f"The request's body is larger than the {limit} bytes that are accepted."
    )


def head_too_slow() -> Refusal:
    return Refusal(408, "slow_client", "The request's headers did not arrive in time.")


def body_too_slow() -> Refusal:
    return Refusal(408, "slow_client", "The request's body did not arrive in time.")


def too_many_connections() -> Refusal:
    return Refusal(503, "too_many_connections", "Too many connections are open. Try again shortly.")


def too_deep_a_pipeline(limit: int) -> Refusal:
    return Refusal(400, "malformed", f"More than {limit} requests were sent without waiting for an answer.")

"""What a key or a token may do: fields that the routing snapshot and the settings share."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import AwareDatetime, Field, model_validator

from citadel_llm.schema.parts import Part

Glob = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9*?][A-Za-z0-9._:/@+*?-]*$")]
"""A name in which * stands for any characters and ? for one."""

EndpointName = Literal[
    "models",
    "chat_completions",
    "completions",
    "embeddings",
    "responses",
    "messages",
    "count_tokens",
    "rerank",
    "score",
    "tokenize",
    "detokenize",
]
ENDPOINT_NAMES: tuple[str, ...] = get_args(EndpointName)

Priority = Literal["high", "normal", "low"]

KEY_HASH = r"^(sha256:|hmac-sha256:[0-9a-f]{8}:)[0-9a-f]{64}$"
"""`sha256:` and a key's digest, or `hmac-sha256:`, a pepper's name and the digest under that pepper."""

_Count = Annotated[int, Field(ge=1, le=10**15)]


class Limits(Part):
    """How much one subject may use. What is not named has no limit."""

    requests_per_minute: _Count | None = Field(default=None, description="Requests in any 60 seconds.")
    tokens_per_minute: _Count | None = Field(
        default=None, description="Tokens of prompts and answers in any 60 seconds."
    )
    concurrent_requests: _Count | None = Field(default=None, description="Requests being served at once.")
    tokens_per_day: _Count | None = Field(default=None, description="Tokens in a calendar day, UTC.")
    tokens_per_month: _Count | None = Field(default=None, description="Tokens in a calendar month, UTC.")

    @model_validator(mode="after")
    def _something(self) -> Limits:
        if not self.model_fields_set:
            raise ValueError(f"names no limit; there are {', '.join(type(self).model_fields)}")
        return self


class RequestLimits(Part):
    """What one request to a model may ask for."""

    max_tokens: _Count | None = Field(
        default=None, description="Largest max_tokens, max_completion_tokens or max_output_tokens."
    )
    max_choices: _Count | None = Field(default=None, description="Largest n and best_of.")


class Access(Part):
    """What the owner of a key or a token may do, and how much of it."""

    models: tuple[Glob, ...] | None = Field(
        default=None, description="Models that may be used, * and ? matching; all when it is not given."
    )
    endpoints: tuple[EndpointName, ...] | None = Field(
        default=None, description="Endpoints that may be used; all when it is not given."
    )
    limits: Limits | None = Field(default=None, description="Limits on all its requests together.")
    user_limits: Limits | None = Field(
        default=None, description="Limits on each user that requests name, within the limits above."
    )
    model_limits: dict[Glob, Limits] = Field(
        default={}, description="Limits on its requests to single models; the first name that matches counts."
    )
    priority: Priority = Field(
        default="normal",
        description="Its place in the queue of a busy model: high, normal and low get 16, 4 and 1 turns.",
    )


class PreviousKey(Part):
    """A text that a rotated key had before, accepted until the overlap ends."""

    prefix: str = Field(min_length=16, max_length=16, description="The key's first 16 characters.")
    hash: str = Field(pattern=KEY_HASH, description="Digest of the key.")
    expires: AwareDatetime = Field(description="End of the overlap.")

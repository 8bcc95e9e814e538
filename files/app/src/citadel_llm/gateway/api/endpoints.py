"""The allowlist of endpoints, as data. What is not here does not exist for clients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from citadel_llm.schema.parts import Task

Form = Literal["openai", "anthropic", "responses"]
"""The API that an endpoint belongs to: it decides how errors are written."""

_GENERATE: tuple[Task, ...] = ("generate",)
_POOL: tuple[Task, ...] = ("embed", "score")
_ALL: tuple[Task, ...] = ("generate", "embed", "score")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint that engines serve. `least_engine` is the first version of vLLM that has it.

    Least versions are those whose source has the route below `vllm/entrypoints` while the release before has
    not: PyPI's sdists of 0.9.2 and 0.10.0, of 0.11.0 and 0.11.1, of 0.16.0 and 0.17.0.
    """

    name: str
    path: str
    tasks: tuple[Task, ...]
    summary: str
    form: Form = "openai"
    least_engine: str | None = None
    streams: bool = False
    max_tokens: tuple[str, ...] = ()
    """Members of the request that say how long the answer may become."""
    choices: tuple[str, ...] = ()
    """Members that say how many answers are wanted."""
    computes: bool = True
    """Whether the model computes; what only splits texts uses no tokens."""


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "chat_completions",
        "/v1/chat/completions",
        _GENERATE,
        "Answer a conversation",
        streams=True,
        max_tokens=("max_completion_tokens", "max_tokens"),
        choices=("n",),
    ),
    Endpoint(
        "completions",
        "/v1/completions",
        _GENERATE,
        "Continue a text",
        streams=True,
        max_tokens=("max_tokens",),
        choices=("n", "best_of"),
    ),
    Endpoint(
        "responses",
        "/v1/responses",
        _GENERATE,
        "Answer, in the form of OpenAI's Responses API",
        form="responses",
        least_engine="0.10.0",
        streams=True,
        max_tokens=("max_output_tokens",),
    ),
    Endpoint(
        "messages",
        "/v1/messages",
        _GENERATE,
        "Answer, in the form of Anthropic's Messages API",
        form="anthropic",
        least_engine="0.11.1",
        streams=True,
        max_tokens=("max_tokens",),
    ),
    Endpoint(
        "count_tokens",
        "/v1/messages/count_tokens",
        _GENERATE,
        "Count the tokens of messages, in the form of Anthropic's API",
        form="anthropic",
        least_engine="0.17.0",
        computes=False,
    ),
    Endpoint("embeddings", "/v1/embeddings", ("embed",), "Embed texts"),
    Endpoint("rerank", "/v1/rerank", _POOL, "Order documents by how well they answer a query"),
    Endpoint("score", "/v1/score", _POOL, "Score pairs of texts"),
    Endpoint("tokenize", "/tokenize", _ALL, "Split a text into tokens", computes=False),
    Endpoint("detokenize", "/detokenize", _ALL, "Join tokens to a text", computes=False),
)
BY_NAME = {endpoint.name: endpoint for endpoint in ENDPOINTS}


def form_of(path: str) -> Form:
    """The form of errors for a path, also for one that does not exist."""
    if path.startswith("/v1/messages"):
        return "anthropic"
    return "responses" if path.startswith("/v1/responses") else "openai"


def offered(task: Task, engines: Sequence[str | None]) -> frozenset[str]:
    """Names of the endpoints that a model has. `engines` are the versions of its back ends, where known.

    A request may go to any back end, so an endpoint that one of them lacks is not offered.
    """
    versions = [version(engine) for engine in engines if engine is not None]
    return frozenset(
        endpoint.name
        for endpoint in ENDPOINTS
        if task in endpoint.tasks
        and (
            endpoint.least_engine is None
            or all(known >= version(endpoint.least_engine) for known in versions)
        )
    )


def version(text: str) -> tuple[int, ...]:
    """The numbers that a version begins with: 0.10.1rc2+cpu is (0, 10, 1)."""
    numbers: list[int] = []
    for part in text.split("+")[0].split("."):
        digits = _leading_digits(part)
        if not digits:
            break
        numbers.append(int("".join(digits)))
        if len(digits) < len(part):
            break
    return tuple(numbers)


def _leading_digits(part: str) -> list[str]:
    digits: list[str] = []
    for character in part:
        if not character.isdigit():
            break
        digits.append(character)
    return digits

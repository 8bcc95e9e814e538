"""Requests and answers as the API's description shows them. Serving never imports this: bodies pass unread.

Engines accept and answer more than is named here; unknown members pass through both ways.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

_MODEL = Field(min_length=1, description="Name or alias of a model that is served here.")
_STREAM = Field(default=None, description="Send the answer as server-sent events while it is made.")
_USER = Field(default=None, description="Your own name for who asks; limits for users count by it.")


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class Message(_Open):
    """One turn of a conversation."""

    role: str = Field(examples=["user"])
    content: str | list[dict[str, Any]] | None = Field(
        default=None, description="Text, or parts: text, images and others that the model understands."
    )


class Generation(_Open):
    """What endpoints that generate text have in common."""

    model: str = _MODEL
    stream: bool | None = _STREAM
    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = None


class ChatCompletionRequest(Generation):
    messages: list[Message]
    max_completion_tokens: int | None = Field(default=None, description="Longest answer, in tokens.")
    max_tokens: int | None = Field(default=None, description="The same; the older name.")
    n: int | None = Field(default=None, description="How many answers are wanted.")
    stop: str | list[str] | None = None
    seed: int | None = None
    tools: list[dict[str, Any]] | None = Field(default=None, description="Functions that the model may call.")
    tool_choice: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = Field(
        default=None, description="Form of the answer: text, json_object, or json_schema with a schema."
    )
    stream_options: dict[str, Any] | None = Field(
        default=None, description='With {"include_usage": true} the last event tells the tokens.'
    )
    user: str | None = _USER


class CompletionRequest(Generation):
    prompt: str | list[str] | list[int] | list[list[int]]
    max_tokens: int | None = Field(default=None, description="Longest continuation, in tokens.")
    n: int | None = Field(default=None, description="How many continuations are wanted.")
    stop: str | list[str] | None = None
    seed: int | None = None
    user: str | None = _USER


class ResponsesRequest(Generation):
    input: str | list[dict[str, Any]]
    instructions: str | None = None
    max_output_tokens: int | None = Field(default=None, description="Longest answer, in tokens.")
    tools: list[dict[str, Any]] | None = None
    user: str | None = _USER


class MessagesRequest(Generation):
    messages: list[Message]
    max_tokens: int = Field(description="Longest answer, in tokens.")
    system: str | list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    metadata: dict[str, Any] | None = Field(
        default=None, description="`user_id` is your own name for who asks; limits for users count by it."
    )


class CountTokensRequest(_Open):
    model: str = _MODEL
    messages: list[Message]
    system: str | list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None


class EmbeddingRequest(_Open):
    model: str = _MODEL
    input: str | list[str] | list[int] | list[list[int]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    user: str | None = _USER


class RerankRequest(_Open):
    model: str = _MODEL
    query: str
    documents: list[str]
    top_n: int | None = None


class ScoreRequest(_Open):
    model: str = _MODEL
    text_1: str | list[str]
    text_2: str | list[str]


class TokenizeRequest(_Open):
    model: str = _MODEL
    prompt: str | None = Field(default=None, description="A text; or give `messages`.")
    messages: list[Message] | None = None


class DetokenizeRequest(_Open):
    model: str = _MODEL
    tokens: list[int]


class Usage(_Open):
    """Tokens; the Messages and Responses APIs call them input_tokens and output_tokens."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Answer(_Open):
    """The engine's answer, as it was given. Its members are those of the API that was called."""

    model: str | None = None
    usage: Usage | None = None


class ModelDocument(_Open):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(_Open):
    object: Literal["list"]
    data: list[ModelDocument]


class ErrorDetail(_Open):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(_Open):
    """An error in the form of OpenAI's API."""

    error: ErrorDetail


class AnthropicErrorDetail(_Open):
    type: str
    message: str


class AnthropicErrorAnswer(_Open):
    """An error in the form of Anthropic's API."""

    type: Literal["error"]
    error: AnthropicErrorDetail
    request_id: str | None = None


REQUESTS: dict[str, type[BaseModel]] = {
    "chat_completions": ChatCompletionRequest,
    "completions": CompletionRequest,
    "responses": ResponsesRequest,
    "messages": MessagesRequest,
    "count_tokens": CountTokensRequest,
    "embeddings": EmbeddingRequest,
    "rerank": RerankRequest,
    "score": ScoreRequest,
    "tokenize": TokenizeRequest,
    "detokenize": DetokenizeRequest,
}

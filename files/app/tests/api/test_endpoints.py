"""Which endpoints a model has, what requests may ask for, and how errors are written."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from citadel_llm.gateway.api.checks import check_depth, check_members, user_of
from citadel_llm.gateway.api.endpoints import BY_NAME, ENDPOINTS, form_of, offered, version
from citadel_llm.gateway.api.forms import error_body, error_event
from citadel_llm.gateway.errors import ApiError
from citadel_llm.schema.access import ENDPOINT_NAMES, RequestLimits
from citadel_llm.schema.parts import Task


def test_keys_can_be_limited_to_every_endpoint() -> None:
    assert set(ENDPOINT_NAMES) == {"models", *BY_NAME}
    assert len({endpoint.path for endpoint in ENDPOINTS}) == len(ENDPOINTS)


@pytest.mark.parametrize(
    ("task", "engines", "there", "missing"),
    [
        ("generate", [None], {"chat_completions", "responses", "messages", "count_tokens"}, {"embeddings"}),
        ("generate", ["0.9.2"], {"chat_completions", "completions", "tokenize"}, {"responses", "messages"}),
        ("generate", ["0.10.2"], {"responses"}, {"messages", "count_tokens"}),
        ("generate", ["0.32.0+cpu", None], {"responses", "messages", "count_tokens"}, {"rerank"}),
        ("generate", ["0.33.0", "0.9.2"], {"chat_completions"}, {"responses"}),
        ("embed", ["0.32.0"], {"embeddings", "rerank", "score", "tokenize"}, {"chat_completions"}),
        ("score", ["0.32.0"], {"rerank", "score"}, {"embeddings", "completions"}),
    ],
)
def test_a_model_has_what_its_task_and_all_its_engines_have(
    task: Task, engines: list[str | None], there: set[str], missing: set[str]
) -> None:
    found = offered(task, engines)
    assert there <= found
    assert not missing & found


def test_every_task_has_endpoints() -> None:
    assert all(offered(task, []) for task in get_args(Task))


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0.9.2", (0, 9, 2)), ("0.10.1rc2+cpu", (0, 10, 1)), ("1", (1,)), ("main", ()), ("0.11.dev5", (0, 11))],
)
def test_versions(text: str, numbers: tuple[int, ...]) -> None:
    assert version(text) == numbers


def nested(levels: int) -> Any:
    document: Any = 1
    for level in range(levels):
        document = {"a": document} if level % 2 else [document, "]}"]
    return document


@pytest.mark.parametrize("padding", ["", "x" * 5000])
def test_depth(padding: str) -> None:
    for levels, accepted in ((1, True), (10, True), (11, False), (500, False)):
        document = nested(levels) if not padding else [padding, nested(levels - 1)]
        body = json.dumps(document).encode()
        try:
            check_depth(body, document, 10)
        except ApiError as error:
            assert (error.status, error.code, accepted) == (400, "too_deep", False)
        else:
            assert accepted
    wide = {"messages": [{"content": [{"text": "[[[["}]}] * 100}
    check_depth(json.dumps(wide).encode(), wide, 5)


@pytest.mark.parametrize(
    ("endpoint", "document", "param"),
    [
        ("chat_completions", {"max_tokens": 100, "max_completion_tokens": 100, "n": 4}, None),
        ("chat_completions", {"max_tokens": 101}, "max_tokens"),
        ("chat_completions", {"max_completion_tokens": 10**30}, "max_completion_tokens"),
        ("chat_completions", {"n": 5}, "n"),
        ("completions", {"best_of": 5}, "best_of"),
        ("responses", {"max_output_tokens": 101}, "max_output_tokens"),
        ("messages", {"max_tokens": 100.5}, "max_tokens"),
        ("messages", {"max_tokens": "many"}, None),
        ("embeddings", {"max_tokens": 10**6, "n": 100}, None),
    ],
)
def test_what_a_request_may_ask_for(endpoint: str, document: dict[str, Any], param: str | None) -> None:
    check_members(document, BY_NAME[endpoint], None)
    limits = RequestLimits(max_tokens=100, max_choices=4)
    if param is None:
        check_members(document, BY_NAME[endpoint], limits)
        return
    with pytest.raises(ApiError) as caught:
        check_members(document, BY_NAME[endpoint], limits)
    assert (caught.value.status, caught.value.param) == (400, param)
    assert "at most" in caught.value.message


@pytest.mark.parametrize(
    ("document", "user"),
    [
        ({"user": "ann"}, "ann"),
        ({"user": "", "safety_identifier": "bob"}, "bob"),
        ({"metadata": {"user_id": "eve"}}, "eve"),
        ({"user": "ä\ud800"}, "ä?"),
        ({"user": 5, "metadata": {"user_id": 5}}, None),
        ({"metadata": "x"}, None),
    ],
)
def test_the_user_that_a_request_names(document: dict[str, Any], user: str | None) -> None:
    assert user_of(document) == user


ERROR = ApiError(429, "Too ä much.", cause="x", type_="tokens", code="rate_limit_exceeded", param="p")


def test_errors_have_the_form_of_the_api_that_was_called() -> None:
    expected = {"message": "Too ä much.", "type": "tokens", "param": "p", "code": "rate_limit_exceeded"}
    assert json.loads(error_body(ERROR, "openai", "r1")) == {"error": expected}
    assert json.loads(error_body(ERROR, "responses", "r1")) == {"error": expected}
    assert json.loads(error_body(ERROR, "anthropic", "r1")) == {
        "type": "error",
        "error": {"type": "rate_limit_error", "message": "Too ä much."},
        "request_id": "r1",
    }


def test_errors_within_a_stream_are_events() -> None:
    chat = error_event(ERROR, "openai", "r1")
    assert chat.startswith(b'data: {"error": {')
    name, data = error_event(ERROR, "anthropic", "r1").split(b"\n", 1)
    assert name == b"event: error"
    assert json.loads(data.removeprefix(b"data: "))["error"]["type"] == "rate_limit_error"
    name, data = error_event(ERROR, "responses", "r1").split(b"\n", 1)
    document = json.loads(data.removeprefix(b"data: "))
    assert (name, document["type"], document["code"]) == (b"event: error", "error", "rate_limit_exceeded")
    assert all(
        error_event(ERROR, form, "r").endswith(b"\n\n") for form in ("openai", "responses", "anthropic")
    )


@pytest.mark.parametrize(
    ("status", "type_"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (405, "invalid_request_error"),
        (413, "request_too_large"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
    ],
)
def test_anthropics_types_follow_the_status(status: int, type_: str) -> None:
    document = json.loads(error_body(ApiError(status, "m", cause="c"), "anthropic", "r"))
    assert document["error"]["type"] == type_


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/v1/messages", "anthropic"),
        ("/v1/messages/batches", "anthropic"),
        ("/v1/responses", "responses"),
        ("/v1/chat/completions", "openai"),
        ("/", "openai"),
    ],
)
def test_the_form_for_a_path(path: str, form: str) -> None:
    assert form_of(path) == form

"""Secrets do not reach the logs, and what is no secret does."""

from __future__ import annotations

import secrets

import pytest

from citadel_llm.telemetry import redact, redact_text

SECRET = secrets.token_urlsafe(24)


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {SECRET}",
        f"authorization=Basic {SECRET}",
        f"sent bearer {SECRET} to the engine",
        f"the key sk-{SECRET} is wrong",
        f"sk-citadel-{SECRET}",
        f"postgresql://user:{SECRET}@db.example/x",
        f"redis://:{SECRET}@127.0.0.1:6379/0",
        f"password={SECRET}",
        f"db_password: '{SECRET} with spaces'",
        f'{{"client_secret": "{SECRET}", "a": 1}}',
        f"GET /?api_key={SECRET}&x=1",
        f"HF_TOKEN={SECRET} vllm serve",
    ],
    ids=lambda text: text.replace(SECRET, "SECRET"),
)
def test_a_secret_in_a_text_is_masked(text: str) -> None:
    masked = redact_text(text)
    assert SECRET not in masked
    assert "[redacted]" in masked
    assert redact_text(masked) == masked


@pytest.mark.parametrize(
    "text",
    [
        "prompt_tokens=12 completion_tokens=3",
        "bytes_per_token=4.0",
        "max_tokens: 5",
        "http://127.0.0.1:8101/v1/chat/completions",
        "task-citadel-engine restarted",
        "the token count is 5",
        "see https://example.org/a:b@c",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact_text(text) == text


def test_members_are_masked_by_name_at_any_depth() -> None:
    found = redact(
        {
            "password": 1234,
            "nested": [{"Authorization": SECRET, "api-key": SECRET, "hf_token": SECRET, "cookie": None}],
            "key_id": "team",
            "prompt_tokens": 5,
            "bytes_per_token": 4.0,
            "text": f"Bearer {SECRET}".encode(),
            "other": ValueError(f"token={SECRET}"),
        }
    )
    assert SECRET not in str(found)
    assert found["password"] == "[redacted]"
    assert found["nested"][0]["cookie"] is None
    assert (found["key_id"], found["prompt_tokens"], found["bytes_per_token"]) == ("team", 5, 4.0)


def test_what_contains_itself_is_no_trap() -> None:
    loop: dict[str, object] = {"password": SECRET}
    loop["self"] = loop
    assert SECRET not in str(redact(loop)).replace(str(loop), "")

"""Limits of one process, with a clock that the test turns."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from citadel_llm.gateway.errors import ApiError
from citadel_llm.gateway.identity.principal import Principal, Rules
from citadel_llm.gateway.limits.answers import duration, limit_error, limit_headers
from citadel_llm.gateway.limits.estimate import estimate_tokens
from citadel_llm.gateway.limits.limiter import Limiter
from citadel_llm.gateway.limits.local import LocalLimiter
from citadel_llm.gateway.limits.state import load_counts, save_counts
from citadel_llm.gateway.limits.subjects import Subject, subjects_of
from citadel_llm.schema.access import Access, Limits
from citadel_llm.schema.gateway_access import LimitSettings

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()


class Clock:
    """Both clocks of a limiter."""

    def __init__(self) -> None:
        self.now = 5000.0

    def clock(self) -> float:
        return self.now

    def wall(self) -> float:
        return NOON - 5000 + self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def local(clock: Clock) -> LocalLimiter:
    return LocalLimiter(clock.clock, clock.wall, 1000)


def subject(name: str = "key\0web", kind: str = "key", **limits: int) -> Subject:
    return Subject(kind, name, Limits.model_validate(limits))


def told(local: LocalLimiter, subjects: list[Subject], tokens: int = 1) -> ApiError:
    decision = local.reserve(subjects, tokens).decision
    assert decision.refusal is not None
    return limit_error(decision)


def test_requests_per_minute(local: LocalLimiter, clock: Clock) -> None:
    web = subject(requests_per_minute=2)
    for left in (1, 0):
        found = local.reserve([web], 5).decision
        assert found.refusal is None
        assert found.requests is not None
        assert (found.requests.limit, found.requests.remaining) == (2, left)
        clock.now += 10
    error = told(local, [web])
    assert (error.status, error.code, error.type) == (429, "rate_limit_exceeded", "requests")
    assert error.message == (
        "Limit reached for this API key: 2 requests per minute, used 2. Try again in 41s."
    )
    headers = dict(error.headers)
    assert headers[b"retry-after"] == b"41"
    assert headers[b"x-ratelimit-limit-requests"] == b"2"
    assert headers[b"x-ratelimit-remaining-requests"] == b"0"
    assert headers[b"x-ratelimit-reset-requests"] == b"51s"
    clock.now += 41
    assert local.reserve([web], 5).decision.refusal is None
    assert local.reserve([web], 5).decision.refusal is not None


def test_tokens_are_reserved_and_then_put_right(local: LocalLimiter, clock: Clock) -> None:
    web = subject(tokens_per_minute=100)
    first = local.reserve([web], 40)
    clock.now += 30
    local.settle(first, 10, 60)
    found = local.reserve([web], 30)
    assert found.decision.tokens is not None
    assert found.decision.tokens.remaining == 0
    error = told(local, [web], 11)
    assert (error.type, dict(error.headers)[b"x-ratelimit-limit-tokens"]) == ("tokens", b"100")
    # The prompt leaves the window first, the answer when it is a minute old.
    assert dict(error.headers)[b"retry-after"] == b"61"
    assert dict(told(local, [web], 10).headers)[b"retry-after"] == b"31"
    clock.now += 31
    assert local.reserve([web], 10).decision.refusal is None


def test_an_answer_may_pass_the_limit_and_the_next_request_waits(local: LocalLimiter) -> None:
    web = subject(tokens_per_minute=100)
    local.settle(local.reserve([web], 10), 10, 5000)
    found = local.reserve([web], 1).decision
    assert found.refusal is not None
    assert found.tokens is not None
    assert found.tokens.remaining == 0


def test_a_request_larger_than_the_limit_is_not_worth_repeating(local: LocalLimiter) -> None:
    error = told(local, [subject(tokens_per_minute=100)], 101)
    headers = dict(error.headers)
    assert (error.code, error.type) == ("rate_limit_exceeded", "tokens")
    assert headers[b"x-should-retry"] == b"false"
    assert b"retry-after" not in headers
    assert "too large for this API key: limit 100 tokens per minute, requested about 101" in error.message


def test_concurrent_requests_end_when_they_are_settled(local: LocalLimiter, clock: Clock) -> None:
    web = subject(concurrent_requests=2)
    first = local.reserve([web], 1)
    local.reserve([web], 1)
    clock.now += 500
    error = told(local, [web])
    assert (error.code, dict(error.headers)[b"retry-after"]) == ("rate_limit_exceeded", b"1")
    local.settle(first, 1, 1)
    assert local.reserve([web], 1).decision.refusal is None
    assert local.reserve([web], 1).decision.refusal is not None


def test_tokens_of_the_day_and_of_the_month(local: LocalLimiter, clock: Clock) -> None:
    web = subject(tokens_per_day=100, tokens_per_month=150)
    local.settle(local.reserve([web], 10), 20, 70)
    error = told(local, [web], 11)
    assert (error.status, error.code, error.type) == (429, "insufficient_quota", "insufficient_quota")
    headers = dict(error.headers)
    assert headers[b"retry-after"] == str(12 * 3600).encode()
    assert headers[b"x-should-retry"] == b"false"
    clock.now += 12 * 3600
    local.settle(local.reserve([web], 11), 11, 49)
    error = told(local, [web], 1)
    assert "150 tokens per month, used 150" in error.message
    assert dict(error.headers)[b"retry-after"] == str(8 * 86400).encode()
    clock.now += 8 * 86400
    assert local.reserve([web], 100).decision.refusal is None


def test_all_subjects_count_or_none_does(local: LocalLimiter) -> None:
    key = subject(requests_per_minute=10, tokens_per_minute=1000)
    user = subject("user\0web\0ann", "user", requests_per_minute=1)
    assert local.reserve([key, user], 10).decision.refusal is None
    error = told(local, [key, user], 10)
    assert "this user" in error.message
    # The tightest one is shown.
    assert dict(error.headers)[b"x-ratelimit-limit-requests"] == b"1"
    found = local.reserve([key], 10).decision
    assert found.requests is not None
    assert found.requests.remaining == 8


def test_the_longest_wait_is_told(local: LocalLimiter) -> None:
    key = subject(requests_per_minute=1, tokens_per_day=10)
    local.settle(local.reserve([key], 10), 10, 0)
    assert told(local, [key], 1).code == "insufficient_quota"


def test_a_new_limit_holds_at_once_for_what_was_used_before(local: LocalLimiter) -> None:
    for _ in range(3):
        local.reserve([subject(requests_per_minute=10)], 1)
    assert local.reserve([subject(requests_per_minute=3)], 1).decision.refusal is not None
    assert local.reserve([subject(requests_per_minute=4)], 1).decision.refusal is None


def test_idle_subjects_are_forgotten_and_the_number_is_bounded(clock: Clock) -> None:
    local = LocalLimiter(clock.clock, clock.wall, 100)
    running = local.reserve([subject("running", requests_per_minute=5, concurrent_requests=1)], 1)
    for number in range(1000):
        local.settle(local.reserve([subject(f"u{number}", requests_per_minute=5, tokens_per_day=9)], 1), 1, 1)
    assert len(local) <= 101
    assert local.reserve([subject("running", concurrent_requests=1)], 1).decision.refusal is not None
    local.settle(running, 1, 1)
    clock.now += 100
    for number in range(50):
        local.settle(local.reserve([subject(f"v{number}", requests_per_minute=5)], 1), 1, 1)
        clock.now += 0.1
    assert len(local._recent) <= 51


def test_counts_of_day_and_month_survive_a_restart(tmp_path: Path, clock: Clock) -> None:
    local = LocalLimiter(clock.clock, clock.wall, 10)
    web = subject(tokens_per_day=100)
    local.settle(local.reserve([web], 10), 60, 30)
    path = tmp_path / "limits.json"
    save_counts(path, local.save())
    assert path.stat().st_mode & 0o777 == 0o600
    again = LocalLimiter(clock.clock, clock.wall, 10)
    again.restore(load_counts(path))
    assert again.reserve([web], 11).decision.refusal is not None
    assert again.reserve([web], 10).decision.refusal is None
    clock.now += 40 * 86400
    assert again.save() == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"schema": 2, "counts": {}}',
        '{"schema": 1, "counts": {"a": [1, 2, 3]}}',
        '{"schema": 1}',
    ],
)
def test_saved_counts_that_cannot_be_read_are_no_counts(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "limits.json"
    path.write_text(text)
    assert load_counts(path) == {}
    assert load_counts(tmp_path / "none.json") == {}


async def test_the_limiter_saves_and_restores_by_itself(tmp_path: Path, clock: Clock) -> None:
    settings = LimitSettings()
    web = subject(tokens_per_month=100)
    first = Limiter(settings, state_dir=tmp_path, clock=clock.clock, wall=clock.wall)
    await first.start()
    reservation = await first.reserve([web], 10)
    first.settle(reservation, None, 80)
    first.settle(reservation, None, 80)
    await first.close()
    second = Limiter(settings, state_dir=tmp_path, clock=clock.clock, wall=clock.wall)
    await second.start()
    with pytest.raises(ApiError) as caught:
        second.reserve_now([web], 11)
    assert caught.value.code == "insufficient_quota"
    assert second.reserve_now([web], 10) is not None
    await second.close()


async def test_without_limits_nothing_is_counted(clock: Clock) -> None:
    limiter = Limiter(LimitSettings(), clock=clock.clock, wall=clock.wall)
    reservation = await limiter.reserve([], 10)
    limiter.settle(reservation, 1, 1)
    assert len(limiter.local) == 0
    assert limit_headers(reservation.decision) == []


def test_a_request_counts_for_its_key_its_user_and_its_model() -> None:
    few = Limits(requests_per_minute=1)
    rules = Rules(
        Access(limits=few, user_limits=few, model_limits={"big*": few, "*": Limits(tokens_per_day=1)})
    )
    key = Principal("web", rules)
    found = subjects_of(key, "big-1", few, "ann")
    assert [subject.kind for subject in found] == ["key", "user", "key_model", "model"]
    assert len({subject.name for subject in found}) == 4
    assert [s.kind for s in subjects_of(key, "small", None, None)] == ["key", "key_model"]
    token = Principal("idp:bob", rules, "bob")
    assert subjects_of(token, "m", None, "ann")[1].name.endswith("\0bob")
    assert subjects_of(Principal("free", Rules(Access())), "m", None, "ann") == ()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.0124, "12ms"), (1, "1s"), (5.27, "5.2s"), (60, "1m0s"), (360, "6m0s"), (3723, "1h2m3s")],
)
def test_spans_are_written_as_clients_expect(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (b"", 1),
        (b"x" * 400, 100),
        (b'{"url":"data:image/png;base64,' + b"A" * 40_000 + b'"}', 6 + 1000),
        (b"x" * 92 + b";base64,AAAA", 26),
    ],
)
def test_prompts_are_estimated_by_their_size(body: bytes, tokens: int) -> None:
    assert estimate_tokens(body, bytes_per_token=4.0, image_tokens=1000) == tokens


@pytest.mark.parametrize("limits", [{}, {"requests_per_minute": 0}, {"per_minute": 1}])
def test_limits_that_limit_nothing_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"limit|greater|Extra"):
        Limits.model_validate(limits)

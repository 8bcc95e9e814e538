"""The circuit breaker, the retry budget and the slow start, by a clock that tests move."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citadel_llm.gateway.balancing.breaker import Breaker
from citadel_llm.gateway.balancing.retries import RetryBudget
from citadel_llm.gateway.balancing.slow_start import share
from citadel_llm.schema import resilience

RULES = resilience.Breaker(consecutive=3, ratio=0.5, min_requests=10, window_s=10, open_s=1, open_max_s=4)


def fail(breaker: Breaker, now: float, times: int = 1) -> bool:
    opened = [breaker.failure(now, trial=False) for _ in range(times)]
    return any(opened)


def test_failures_in_a_row_open_it() -> None:
    breaker = Breaker(RULES)
    assert not fail(breaker, 100.0, 2)
    breaker.success(100.0, trial=False)
    assert not fail(breaker, 100.0, 2)
    assert breaker.open_until == 0.0
    assert fail(breaker, 100.0)
    assert (breaker.state, breaker.open_until, breaker.opened) == ("open", 101.0, 1)


def test_a_share_of_failures_opens_it_and_old_ones_are_forgotten() -> None:
    breaker = Breaker(RULES)
    for second in range(4):
        fail(breaker, 100.0 + second)
        breaker.success(100.0 + second, trial=False)
    assert breaker.state == "closed"  # 8 requests are too few to tell
    breaker.success(104.0, trial=False)
    assert fail(breaker, 104.0)
    later = Breaker(RULES)
    for second in range(4):
        fail(later, 100.0 + second)
        later.success(100.0 + second, trial=False)
    for _ in range(2):
        later.success(120.0, trial=False)
    assert not fail(later, 120.0)


def test_a_refused_connection_opens_it_at_once() -> None:
    breaker = Breaker(RULES)
    assert breaker.failure(5.0, trial=False, fatal=True)
    assert breaker.unreachable
    breaker.try_now(5.1)
    assert breaker.open_until == 5.1


def test_one_trial_decides() -> None:
    breaker = Breaker(RULES)
    fail(breaker, 100.0, 3)
    assert breaker.admit(101.0)
    assert (breaker.state, breaker.open_until) == ("half_open", float("inf"))
    assert not breaker.success(101.5, trial=False)  # sent before the trouble
    assert breaker.success(101.5, trial=True)
    assert (breaker.state, breaker.open_until) == ("closed", 0.0)
    assert not breaker.admit(101.6)


def test_failed_trials_double_the_time_up_to_a_limit() -> None:
    breaker = Breaker(RULES)
    fail(breaker, 100.0, 3)
    now, pauses = 101.0, []
    for _ in range(4):
        breaker.admit(now)
        breaker.failure(now, trial=True)
        pauses.append(breaker.open_until - now)
        breaker.failure(now, trial=True)  # a second trial of the same moment is no further reason
        now = breaker.open_until
    assert pauses == [2, 4, 4, 4]
    breaker.admit(now)
    breaker.success(now, trial=True)
    fail(breaker, now, 3)
    assert breaker.open_until == now + 1


def test_a_trial_without_a_result_leaves_the_next_one() -> None:
    breaker = Breaker(RULES)
    fail(breaker, 100.0, 3)
    breaker.admit(101.0)
    breaker.release(101.2)
    assert (breaker.state, breaker.open_until) == ("open", 101.2)
    assert breaker.admit(101.2)


@given(st.lists(st.tuples(st.floats(0, 3), st.sampled_from(["ok", "bad", "fatal", "try", "gone"]))))
def test_it_always_lets_somebody_try_in_the_end(events: list[tuple[float, str]]) -> None:
    breaker = Breaker(RULES)
    now = 100.0
    for seconds, event in events:
        now += seconds
        if breaker.open_until > now:
            continue
        trial = breaker.admit(now)
        if event == "ok":
            breaker.success(now, trial=trial)
        elif event == "gone":
            breaker.release(now)
        elif event == "try":
            breaker.try_now(now)
            breaker.release(now)
        else:
            breaker.failure(now, trial=trial, fatal=event == "fatal")
        assert breaker.open_until <= now + RULES.open_max_s
        assert (breaker.open_until == 0.0) == (breaker.state == "closed")


def test_the_budget_is_a_share_and_a_minimum() -> None:
    budget = RetryBudget(resilience.Retries(share=0.2, min_per_s=1, window_s=10))
    assert [budget.withdraw(100.0) for _ in range(11)] == [True] * 10 + [False]
    assert (budget.granted, budget.denied) == (10, 1)
    for _ in range(10):
        budget.began(105.0)
        budget.ended()
    assert [budget.withdraw(105.0) for _ in range(3)] == [True, True, False]
    assert budget.withdraw(130.0)  # all of that is long ago
    assert budget.in_flight == 0


def test_requests_in_flight_count_however_old_they_are() -> None:
    budget = RetryBudget(resilience.Retries(share=0.5, min_per_s=0))
    for _ in range(100):
        budget.began(100.0)
    assert [budget.withdraw(500.0) for _ in range(51)].count(True) == 50


@pytest.mark.parametrize(
    ("now", "expected"), [(100.0, 0.1), (101.0, 0.1), (105.0, 0.5), (110.0, 1.0), (111.0, 1.0)]
)
def test_the_share_grows(now: float, expected: float) -> None:
    assert share(resilience.SlowStart(duration_s=10, initial=0.1), 110.0, now) == pytest.approx(expected)
    assert share(resilience.SlowStart(duration_s=0), 110.0, now) == 1.0

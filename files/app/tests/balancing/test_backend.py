"""What attempts and probes teach about a back end, and that nothing is counted twice or forgotten."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citadel_llm.gateway.balancing.backend import Attempt, EngineLoad, Outcome
from files.app.tests.balancing.fakes import rules, state

FAILURES = [Outcome.FAILED, Outcome.LOST, Outcome.GARBAGE, Outcome.TIMED_OUT]


def test_an_attempt_ends_once() -> None:
    backend = state()
    attempt = backend.begin(1.0)
    attempt.first_byte(2.0)
    attempt.first_byte(3.0)
    attempt.end(Outcome.FINISHED, 4.0)
    attempt.end(Outcome.LOST, 5.0)
    attempt.first_byte(6.0)
    assert (backend.in_flight, backend.outcomes) == (0, {Outcome.FINISHED: 1})
    assert (backend.ewma_first_byte, backend.heard_at) == (1.0, 2.0)


@given(st.lists(st.tuples(st.sampled_from([*Outcome]), st.booleans(), st.floats(0, 5)), max_size=60))
def test_nothing_leaks_whatever_happens(events: list[tuple[Outcome, bool, float]]) -> None:
    backend = state(by=rules(breaker_consecutive=2, stall_after_s=3))
    open_: list[Attempt] = []
    now = 100.0
    for outcome, answered, seconds in events:
        now += seconds
        open_.append(backend.begin(now, lambda: None))
        backend.watch(now)
        if answered:
            open_[0].first_byte(now)
        if seconds > 1:
            open_.pop(0).end(outcome, now)
            if seconds > 4:
                backend.real_failed()
                backend.given_up(now + 3)
            elif seconds > 3:
                backend.real_passed(now)
    for attempt in open_:
        attempt.end(Outcome.CANCELLED, now)
    assert backend.in_flight == 0
    assert sum(backend.outcomes.values()) == backend.attempts == len(events)
    assert backend._waiting == backend._begun == {}
    backend.real_passed(now + 100)
    assert backend.closed_until <= now + 100


@pytest.mark.parametrize("outcome", FAILURES)
def test_failures_in_a_row_take_it_out_for_a_while(outcome: Outcome) -> None:
    backend = state(by=rules(breaker_consecutive=3, breaker_open_s=2))
    for _ in range(3):
        backend.begin(10.0).end(outcome, 10.0)
    assert (backend.closed_until, backend.health(10.0), backend.health(12.0)) == (12.0, "open", "half_open")
    trial = backend.begin(12.0)
    assert backend.closed_until == float("inf")
    trial.first_byte(12.1)
    assert (backend.closed_until, backend.health(12.1)) == (0.0, "up")
    trial.end(Outcome.FINISHED, 12.2)


def test_clients_that_leave_say_nothing() -> None:
    backend = state(by=rules(breaker_consecutive=1, breaker_open_s=1))
    for outcome in (Outcome.CANCELLED, Outcome.ABANDONED):
        backend.begin(1.0).end(outcome, 1.0)
    assert backend.health(1.0) == "up"
    backend.begin(1.0).end(Outcome.LOST, 1.0)
    backend.begin(2.0).end(Outcome.CANCELLED, 2.5)  # the trial
    assert backend.closed_until == 2.5


def test_unreachable_is_out_at_once_and_back_when_its_health_is_fine() -> None:
    backend = state(by=rules(breaker_open_s=30, slow_start_duration_s=10))
    backend.begin(1.0).end(Outcome.UNREACHABLE, 1.0)
    assert backend.closed_until == 31.0
    backend.health_passed(3.0)
    assert backend.closed_until == 3.0
    backend.begin(3.0).first_byte(3.1)
    assert backend.closed_until == 0.0
    assert backend.share(3.1) == pytest.approx(0.1)
    assert backend.share(8.1) == pytest.approx(0.5)
    assert backend.share(13.2) == 1.0


def test_a_fine_health_does_not_hide_failing_requests() -> None:
    backend = state(by=rules(breaker_consecutive=1, breaker_open_s=30))
    backend.begin(1.0).end(Outcome.GARBAGE, 1.0)
    backend.health_passed(3.0)
    assert backend.closed_until == 31.0


def test_health_takes_it_out_and_back() -> None:
    backend = state()
    backend.health_failed(2)
    assert backend.health(1.0) == "up"
    backend.health_failed(2)
    assert (backend.health(1.0), backend.closed_until) == ("unhealthy", float("inf"))
    backend.health_passed(2.0)
    assert (backend.health(2.0), backend.closed_until) == ("up", 0.0)


def test_silence_of_all_requests_is_a_stall() -> None:
    backend = state(by=rules(stall_after_s=5))
    backend.begin(0.0).end(Outcome.FINISHED, 1.0)
    assert backend.silent_for(100.0) == 0.0  # nobody is waiting
    moved: list[str] = []
    talking = backend.begin(100.0, lambda: moved.append("talking"))
    waiting = backend.begin(101.0, lambda: moved.append("waiting"))
    talking.first_byte(102.0)
    talking.chunk(104.0)
    assert not backend.watch(108.9)
    assert backend.watch(109.0)
    assert backend.health(109.0) == "suspect"
    assert backend.closed_until == float("inf")
    talking.chunk(110.0)
    assert not backend.watch(110.0)  # it was only slow
    assert backend.health(110.0) == "up"
    assert backend.watch(116.0)
    for abandon in backend.real_failed():
        abandon()
    assert moved == ["waiting"]
    assert (backend.health(116.0), backend.stalled) == ("stalled", True)
    backend.health_passed(117.0)
    talking.chunk(117.0)
    assert backend.watch(117.0)
    assert backend.closed_until == float("inf")  # only a real request brings it back
    backend.real_passed(118.0)
    assert (backend.health(118.0), backend.closed_until) == ("up", 0.0)
    for attempt in (talking, waiting):
        attempt.end(Outcome.FINISHED, 119.0)


def test_answers_that_have_begun_get_the_whole_time_of_silence() -> None:
    backend = state(by=rules(stall_after_s=5))
    ended: list[str] = []
    begun = backend.begin(100.0, lambda: ended.append("begun"))
    over = backend.begin(100.0, lambda: ended.append("over"))
    for attempt in (begun, over):
        attempt.first_byte(101.0)
    over.end(Outcome.FINISHED, 102.0)
    begun.chunk(102.0)
    assert backend.given_up(200.0) == []  # silent, but nobody has found it to hang
    backend.real_failed()  # by its /health, long before the time of silence is over
    assert backend.given_up(106.9) == []
    begun.chunk(106.9)
    assert backend.given_up(111.0) == []  # it had only been stopped for a moment
    for abandon in backend.given_up(111.9):
        abandon()
    assert ended == ["begun"]
    assert backend.given_up(112.0) == []
    begun.end(Outcome.TIMED_OUT, 112.0)
    assert backend.in_flight == 0


def test_what_an_engine_says_counts() -> None:
    backend = state()
    alone = backend.score(1.0)
    backend.polled_load(EngineLoad(running=3, waiting=2, kv=0.5), 1.0)
    assert (backend.foreign, backend.score(1.0)) == (7.0, 8 * alone)
    backend.polled_load(EngineLoad(running=0, waiting=0, kv=1.0), 1.0)
    assert backend.score(1.0) == pytest.approx(2 * alone)
    mine = [backend.begin(1.0) for _ in range(3)]
    backend.polled_load(EngineLoad(running=3, waiting=0, kv=0.0), 1.0)
    assert backend.foreign == 0.0
    backend.polled_load(None, 1.0)
    assert backend.pressure == 1.0
    for attempt in mine:
        attempt.end(Outcome.FINISHED, 2.0)


def test_weight_and_rest() -> None:
    backend = state()
    backend.reweigh(0.0, 5, "x")
    assert (backend.health(1.0), backend.closed_until) == ("resting", float("inf"))
    backend.reweigh(4.0, 5, "x")
    assert (backend.closed_until, backend.score(1.0)) == (0.0, 0.25)

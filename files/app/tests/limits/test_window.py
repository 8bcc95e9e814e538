"""The window over the last minute, beside a count of every single event."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from citadel_llm.gateway.limits.window import (
    Quota,
    Window,
    calendar,
    days_from_civil,
    until_next_month,
    until_tomorrow,
)

steps = st.lists(
    st.tuples(st.floats(min_value=0, max_value=40), st.integers(min_value=1, max_value=5)), max_size=60
)


@settings(max_examples=200, deadline=None)
@given(steps, st.integers(min_value=5, max_value=12))
def test_no_minute_wherever_it_begins_holds_more_than_the_limit(
    events: list[tuple[float, int]], limit: int
) -> None:
    window, now, let_in = Window(), 1000.0, []
    for pause, count in events:
        now += pause
        if window.used(now) + count <= limit:
            window.add(int(now), count)
            let_in.append((now, count))
    for start, _ in let_in:
        assert sum(count for at, count in let_in if start <= at < start + 60) <= limit


@settings(max_examples=200, deadline=None)
@given(steps, st.integers(min_value=1, max_value=20))
def test_after_the_wait_that_it_names_there_is_room(events: list[tuple[float, int]], need: int) -> None:
    window, now = Window(), 1000.0
    for pause, count in events:
        now += pause
        window.used(now)
        window.add(int(now), count)
    used = window.used(now)
    wait = window.wait(now, min(need, used))
    assert wait <= 61
    assert window.used(now + wait) <= used - min(need, used)
    assert window.used(now + wait + window.reset(now + wait)) == 0


def test_it_forgets_after_a_minute_and_counts_no_less_before() -> None:
    window = Window()
    window.add(100, 3)
    assert [window.used(now) for now in (100.0, 159.9, 160.99, 161.0)] == [3, 3, 3, 0]


def test_a_correction_changes_the_second_it_belongs_to() -> None:
    window = Window()
    window.add(100, 10)
    window.add(105, 10)
    window.correct(100, -4)
    window.correct(103, -1)
    window.correct(105, -50)
    assert window.used(110) == 6
    assert window.used(161) == 0
    window.correct(100, 5)
    assert window.used(161) == 0


@pytest.mark.parametrize("day", ["1970-01-01", "1999-12-31", "2024-02-29", "2026-11-22", "2100-03-01"])
def test_days_and_months_are_those_of_the_calendar(day: str) -> None:
    moment = datetime.fromisoformat(day).replace(hour=23, minute=59, second=30, tzinfo=UTC)
    now = moment.timestamp()
    assert calendar(now) == (int(now // 86400), moment.year * 12 + moment.month - 1)
    assert until_tomorrow(now) == 30
    later = datetime.fromtimestamp(now + until_next_month(now), UTC)
    assert (later.day, later.hour, later.minute, later.second) == (1, 0, 0, 0)
    assert calendar(later.timestamp())[1] == calendar(now)[1] + 1
    assert (
        days_from_civil(moment.year, moment.month) * 86400
        == moment.replace(day=1, hour=0, minute=0, second=0).timestamp()
    )


def test_a_quota_begins_anew_with_the_day_and_with_the_month() -> None:
    quota = Quota()
    quota.turn(10, 5)
    quota.add(7)
    quota.turn(11, 5)
    assert (quota.day_used, quota.month_used) == (0, 7)
    quota.add(-20)
    assert (quota.day_used, quota.month_used) == (0, 0)
    quota.add(3)
    quota.turn(12, 6)
    assert (quota.day_used, quota.month_used) == (0, 0)

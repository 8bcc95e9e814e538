"""Kinds of messages: what differs from line to line is left out."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from citadel_llm.services import patterns
from citadel_llm.services.journal import Entry


@pytest.mark.parametrize(
    ("message", "pattern"),
    [
        ("Request 12 took 3.5 s", "Request <number> took <number> s"),
        ("refused 10.0.0.7:443 at 2026-01-31T12:00:00.123Z", "refused <address> at <time>"),
        ("cannot read /opt/citadel/config/x.yaml", "cannot read <path>"),
        ("model 'a b' is \"new\"", "model <text> is <text>"),
        ("id 0f8fad5b-d9cb-469f-a165-70867728950e ended", "id <id> ended"),
        ("commit deadbeef12 by cmpl-0123456789abcdef", "commit <id> by <id>"),
        ("\x1b[31mred\x1b[0m   and wide", "red and wide"),
        ("the defaced facade is added", "the defaced facade is added"),
    ],
)
def test_pattern_of_a_message(message: str, pattern: str) -> None:
    assert patterns.pattern_of(message) == pattern


def entry(message: str, unit: str = "citadel-gateway.service", level: str = "error") -> Entry:
    return Entry(datetime(2026, 1, 31, tzinfo=UTC), unit, level, message)


def test_new_kinds_come_first_then_those_that_grew() -> None:
    before = patterns.count(entry(f"timeout of {n} s") for n in range(3))
    now = patterns.count(
        [entry(f"timeout of {n} s") for n in range(10)]
        + [entry("out of memory")]
        + [entry("out of memory", "citadel-engine@a.service") for _ in range(2)]
    )
    found = patterns.compare(now, before)
    assert [(one.text, one.count, one.before, one.new) for one in found] == [
        ("out of memory", 2, 0, True),
        ("out of memory", 1, 0, True),
        ("timeout of <number> s", 10, 3, False),
    ]


def test_kinds_without_end_are_counted_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "MAX_PATTERNS", 2)
    words = ["one", "two", "three", "four", "one"]
    counts = patterns.count(entry(word) for word in words)
    assert {key[2]: number for key, number in counts.items()} == {"one": 2, "two": 1, "<other>": 2}

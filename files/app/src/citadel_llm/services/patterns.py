"""Patterns of log messages: what differs from line to line is left out, what is left is counted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from citadel_llm.services.journal import Entry

MAX_PATTERNS = 5000
_LONGEST = 300
_VARIABLE = (
    (re.compile(r"\x1b\[[0-9;]*m"), ""),
    (re.compile(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"), "<id>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?\b"), "<time>"),
    (re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?\b"), "<address>"),
    (re.compile(r"(?<![\w/])(?:/[\w.@+-]+){2,}/?"), "<path>"),
    (re.compile(r"'[^']*'|\"[^\"]*\""), "<text>"),
    (re.compile(r"\b[A-Za-z]+-[0-9a-fA-F]{12,}\b"), "<id>"),
    (re.compile(r"\b(?:0x[0-9a-fA-F]+|(?=[0-9a-fA-F]*\d)[0-9a-fA-F]{8,})\b"), "<id>"),
    (re.compile(r"[-+]?\b\d+(?:[.,]\d+)*(?:[eE][-+]?\d+)?"), "<number>"),
    (re.compile(r"\s+"), " "),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pattern:
    """How often one kind of message was written in a time, and in the time before."""

    unit: str
    level: str
    text: str
    count: int
    before: int

    @property
    def new(self) -> bool:
        """Whether it was not there before."""
        return self.before == 0


def pattern_of(message: str) -> str:
    """The message with numbers, times, identifiers, paths and quoted texts left out."""
    text = message[: 4 * _LONGEST]
    for expression, replacement in _VARIABLE:
        text = expression.sub(replacement, text)
    return text.strip()[:_LONGEST]


def count(entries: Iterable[Entry]) -> Counter[tuple[str, str, str]]:
    """Lines by unit, level and pattern. Beyond `MAX_PATTERNS` kinds, further ones are counted as one."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for entry in entries:
        key = (entry.unit, entry.level, pattern_of(entry.message))
        if key not in counts and len(counts) >= MAX_PATTERNS:
            key = (entry.unit, entry.level, "<other>")
        counts[key] += 1
    return counts


def compare(now: Counter[tuple[str, str, str]], before: Counter[tuple[str, str, str]]) -> list[Pattern]:
    """New patterns first, then those that grew most; within each, the most frequent first."""
    found = [Pattern(*key, number, before.get(key, 0)) for key, number in now.items()]
    return sorted(found, key=lambda one: (-one.new, -(one.count - one.before), one.unit, one.text))

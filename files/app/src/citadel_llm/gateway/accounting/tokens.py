"""Token counts out of an answer that passes by, without reading it.

Engines tell the counts near the end; Anthropic's streams tell those of the prompt at the beginning. So the
first and the last few chunks are kept, by reference: a chunk is neither copied nor kept for long.
"""

from __future__ import annotations

import json
from collections import deque
from typing import Any

_decode = json.JSONDecoder().raw_decode
_KEY = b'"usage":'
_KEEP_CHUNKS = 4
_KEEP_HEAD = 2
_KEEP_BYTES = 16 * 1024
_MOST = 2**31  # more is no count of one request, and could use up a key's limits for good
Counts = tuple[int | None, int | None]


class Tail:
    """The ends of an answer, and how many chunks it had."""

    __slots__ = ("_head", "_last", "chunks")

    def __init__(self, *, head: bool = False) -> None:
        """`head` keeps the beginning, too."""
        self.chunks = 0
        self._last: deque[bytes] = deque(maxlen=_KEEP_CHUNKS)
        self._head: list[bytes] | None = [] if head else None

    def add(self, chunk: bytes) -> None:
        self.chunks += 1
        self._last.append(chunk)
        if self._head is not None and self.chunks <= _KEEP_HEAD:
            self._head.append(chunk)

    def ends_event(self) -> bool:
        """Whether a stream could be continued by a new event here."""
        end = b"".join(self._last)[-4:]
        return not end or end.endswith((b"\n\n", b"\r\n\r\n", b"\r\r"))

    def usage(self) -> tuple[int, int] | None:
        """Prompt and completion tokens, or None when the answer does not tell."""
        prompt, completion = _last_counts(b"".join(self._last)[-_KEEP_BYTES:])
        if prompt is None and self._head:
            prompt = _first_prompt(b"".join(self._head)[:_KEEP_BYTES])
        if prompt is None:
            return None
        return prompt, completion or 0


def usage_of(answer: bytes) -> tuple[int, int] | None:
    """The same of a whole answer, where the counts stand near its end."""
    prompt, completion = _last_counts(answer[-_KEEP_BYTES:])
    return None if prompt is None else (prompt, completion or 0)


def _last_counts(text: bytes) -> Counts:
    """The counts that the last object `usage` of a text tells."""
    at = text.rfind(_KEY)
    # Null in one event does not hide the count in the one before it.
    while at >= 0:
        found = _counts(text[at + len(_KEY) :])
        if found is not None:
            return found
        at = text.rfind(_KEY, 0, at)
    return None, None


def _first_prompt(text: bytes) -> int | None:
    """The prompt's count in the first object `usage` that tells one."""
    at = text.find(_KEY)
    while at >= 0:
        found = _counts(text[at + len(_KEY) :])
        if found is not None and found[0] is not None:
            return found[0]
        at = text.find(_KEY, at + 1)
    return None


def _counts(text: bytes) -> Counts | None:
    try:
        usage, _ = _decode(text.lstrip().decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(usage, dict):
        return None
    prompt = _number(usage, "prompt_tokens", "input_tokens")
    completion = _number(usage, "completion_tokens", "output_tokens")
    return None if prompt is None and completion is None else (prompt, completion)


def _number(usage: dict[str, Any], *names: str) -> int | None:
    for name in names:
        value = usage.get(name)
        if type(value) is int and 0 <= value < _MOST:
            return value
    return None

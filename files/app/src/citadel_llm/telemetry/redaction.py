"""Removing secrets from what is logged."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MASK = "[redacted]"
_MAX_DEPTH = 6

# Names are matched by their last words, so that `prompt_tokens` or `key_id` are left alone; what is counted
# per token is none.
_SECRET_NAME = re.compile(
    r"(?<!per)(?:^|[_\-.])(?:password|passwd|passphrase|secret|token|credentials?|cookie|authorization|api[_\-]?key"
    r"|private[_\-]?key|access[_\-]?key)$",
    re.IGNORECASE,
)
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE), rf"\1 {MASK}"),
    (re.compile(r"\bsk-[A-Za-z0-9_-]{8,}"), f"sk-{MASK}"),
    (re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"), MASK),
    (
        re.compile(
            r"""(\b[\w-]*(?:password|passwd|passphrase|secret|(?<!per_)token|api[_-]?key|authorization)["']?\s*[=:]\s*)"""
            r"""(?:"[^"]*"|'[^']*'|(?!\[redacted\]|(?:bearer|basic)\b)[^\s,;&"'}]+)""",
            re.IGNORECASE,
        ),
        rf"\1{MASK}",
    ),
)


def redact_text(text: str) -> str:
    """Mask API keys, authorization headers, assignments of secrets and credentials in URLs."""
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def redact(value: Any, _depth: int = 0) -> Any:
    """A copy of `value` without secrets: strings are masked by pattern, members of mappings by name too."""
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, bytes):
        return redact_text(value.decode("utf-8", "replace"))
    if value is None or isinstance(value, bool | int | float):
        return value
    if _depth >= _MAX_DEPTH:
        return redact_text(str(value))
    if isinstance(value, Mapping):
        return {name: _member(str(name), item, _depth) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item, _depth + 1) for item in value]
    return redact_text(str(value))


def _member(name: str, item: Any, depth: int) -> Any:
    if item is not None and not isinstance(item, bool) and _SECRET_NAME.search(name):
        return MASK
    return redact(item, depth + 1)

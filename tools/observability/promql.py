"""Names in a PromQL expression: enough to hold them against the catalogue. The rest Prometheus checks."""

from __future__ import annotations

import re

_TEXT = re.compile(r'"(?:\\.|[^"\\])*"')
_LABEL_LISTS = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_BRACES = re.compile(r"\{[^{}]*\}")
_RANGES = re.compile(r"\[[^\]]*\]")
_OFFSETS = re.compile(r"\boffset\s+\S+")
_NAME = re.compile(r"(?<![\w:.$])([a-zA-Z_:][\w:]*)(?!\s*\()(?![\w:])")
_WORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan", "group_left", "group_right", "start", "end"}
_FUNCTION = re.compile(r"[a-zA-Z_]\w*\s*\(")


def metric_names(expr: str) -> set[str]:
    """Names of the series that an expression reads."""
    for pattern in (_TEXT, _BRACES, _LABEL_LISTS, _RANGES, _OFFSETS):
        expr = pattern.sub(" ", expr)
    expr = _FUNCTION.sub("(", expr)
    return {name for name in _NAME.findall(expr) if name.lower() not in _WORDS and not name.startswith("$")}

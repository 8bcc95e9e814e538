"""The same rules in less time: every wait and window is divided, for tests that cannot wait for minutes."""

from __future__ import annotations

import re
from typing import Any

_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_PART = re.compile(r"(\d+)(ms|[smhdw])")
_WINDOW = re.compile(r"\[((?:\d+(?:ms|[smhdw]))+)\]|(?<=\boffset )((?:\d+(?:ms|[smhdw]))+)")


def divided(duration: str, factor: float) -> str:
    """A duration such as `1m30s`, divided; in milliseconds, at least one."""
    total = sum(int(number) * _UNITS_MS[unit] for number, unit in _PART.findall(duration))
    return f"{max(1, round(total / factor))}ms"


def _window(match: re.Match[str], factor: float) -> str:
    return f"[{divided(match[1], factor)}]" if match[1] else divided(match[2], factor)


def faster(document: dict[str, Any], factor: float) -> dict[str, Any]:
    """The content of a rule file with everything that waits or looks back divided; thresholds stay."""
    groups = []
    for group in document["groups"]:
        rules = []
        for rule in group["rules"]:
            waits = {name: divided(rule[name], factor) for name in ("for", "keep_firing_for") if name in rule}
            expr = _WINDOW.sub(lambda match: _window(match, factor), rule["expr"])
            rules.append({**rule, **waits, "expr": expr})
        groups.append({**group, "rules": rules})
    return {**document, "groups": groups}

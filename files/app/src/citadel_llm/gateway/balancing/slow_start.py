"""A back end that returns is given more and more, not everything at once: its caches are cold."""

from __future__ import annotations

from citadel_llm.schema.resilience import SlowStart


def share(rules: SlowStart, warm_at: float, now: float) -> float:
    """The share of its weight that a back end has at `now`, when it has all of it at `warm_at`."""
    left = warm_at - now
    if left <= 0 or rules.duration_s <= 0:
        return 1.0
    return max(rules.initial, 1.0 - left / rules.duration_s)

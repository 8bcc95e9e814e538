"""Rendezvous hashing: the same value meets the same name, and few move when names or weights change."""

from __future__ import annotations

import math
from collections.abc import Iterable
from hashlib import blake2b

_RANGE = float(1 << 64)


def rendezvous(value: str, names: Iterable[tuple[str, float]]) -> int | None:
    """The index of the (name, weight) that `value` belongs to; None when no weight is above 0."""
    best = None
    highest = 0.0
    given = value.encode("utf-8", "surrogatepass")
    for index, (name, weight) in enumerate(names):
        if weight <= 0:
            continue
        digest = blake2b(name.encode() + b"\0" + given, digest_size=8).digest()
        drawn = (int.from_bytes(digest) + 0.5) / _RANGE
        score = -weight / math.log(min(drawn, 1 - 2**-53))
        if best is None or score > highest:
            best, highest = index, score
    return best

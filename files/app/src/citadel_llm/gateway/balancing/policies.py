"""How one of several back ends is chosen. Every candidate can serve; the question is who should."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import count
from typing import Protocol

from citadel_llm.gateway.balancing.backend import BackendState
from citadel_llm.gateway.balancing.hashing import rendezvous
from citadel_llm.gateway.balancing.prefixes import PrefixTable
from citadel_llm.gateway.balancing.wish import Wish
from citadel_llm.schema.routes import Policy as PolicyName

Random = Callable[[], float]
"""A number from 0 up to, not including, 1."""


class Policy(Protocol):
    """Chooses one of at least one candidate. `now` is in seconds of the monotonic clock."""

    def choose(self, candidates: Sequence[BackendState], wish: Wish, now: float) -> BackendState: ...


class RoundRobin:
    """In turn, the heavier ones more often and never twice where once would do."""

    def choose(self, candidates: Sequence[BackendState], wish: Wish, now: float) -> BackendState:  # noqa: ARG002
        total = 0.0
        best = candidates[0]
        for backend in candidates:
            share = backend.share(now)
            total += share
            backend.smooth += share
            if backend.smooth > best.smooth:
                best = backend
        best.smooth -= total
        return best


class LeastLoad:
    """The one with the least to do for its weight; among equals the one whose last turn is longest ago."""

    def __init__(self) -> None:
        self._turns = count(1)

    def choose(self, candidates: Sequence[BackendState], wish: Wish, now: float) -> BackendState:
        best = candidates[0]
        if len(candidates) > 1:
            least = best.score(now)
            for backend in candidates[1:]:
                score = backend.score(now)
                if score < least or (score == least and backend.turn < best.turn):
                    best, least = backend, score
        if not wish.avoid:
            best.turn = next(self._turns)  # a second attempt takes nobody's turn
        return best


class PowerOfTwo:
    """The better of two at random: nearly the best of all, and gateways do not run after the same one."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def choose(self, candidates: Sequence[BackendState], wish: Wish, now: float) -> BackendState:  # noqa: ARG002
        number = len(candidates)
        if number == 1:
            return candidates[0]
        first = int(self._random() * number)
        second = int(self._random() * (number - 1))
        if second >= first:
            second += 1
        one, other = candidates[first], candidates[second]
        return one if one.score(now) <= other.score(now) else other


class Session:
    """The same back end for the same session; requests without one go where there is the least to do."""

    def __init__(self) -> None:
        self._otherwise = LeastLoad()

    def choose(self, candidates: Sequence[BackendState], wish: Wish, now: float) -> BackendState:
        if wish.session is None:
            return self._otherwise.choose(candidates, wish, now)
        # The whole weight, also while one warms up: sessions that moved for that would move twice.
        found = rendezvous(wish.session, [(backend.name, backend.weight) for backend in candidates])
        return candidates[found or 0]


class Prefix:
    """The one that has seen most of the prompt's beginning, unless it has too much more to do than the
    others.
    """

    def __init__(self, table: PrefixTable, load_factor: float) -> None:
        self._table = table
        self._factor = load_factor
        self._otherwise = LeastLoad()

    def choose(self, candidates: Sequence[BackendState], wish: Wish, now: float) -> BackendState:
        if not wish.blocks:
            return self._otherwise.choose(candidates, wish, now)
        backend = candidates[0] if len(candidates) == 1 else self._known(candidates, wish, now)
        if backend is None:
            backend = self._otherwise.choose(candidates, wish, now)
        self._table.note(wish.blocks, backend.serial)
        return backend

    def _known(self, candidates: Sequence[BackendState], wish: Wish, now: float) -> BackendState | None:
        matches = self._table.match(wish.blocks)
        if not matches:
            return None
        free = self._within_bound(candidates, now)
        last: tuple[int, ...] = ()
        for holders in reversed(matches):
            if holders == last:
                continue
            last = holders
            able = [backend for backend in free if backend.serial in holders]
            if able:
                return min(able, key=lambda backend: backend.score(now))
        return None

    def _within_bound(self, candidates: Sequence[BackendState], now: float) -> list[BackendState]:
        """Those that stay below `load_factor` times their part of all requests with one more."""
        requests = 1 + sum(backend.in_flight for backend in candidates)
        shares = sum(backend.share(now) for backend in candidates)
        bound = self._factor * requests / shares
        return [b for b in candidates if b.in_flight + 1 <= math.ceil(bound * b.share(now))]


def make_policy(name: PolicyName, random: Random, table: PrefixTable, load_factor: float) -> Policy:
    """A policy of its own for one model."""
    if name == "round_robin":
        return RoundRobin()
    if name == "power_of_two":
        return PowerOfTwo(random)
    if name == "session":
        return Session()
    if name == "prefix":
        return Prefix(table, load_factor)
    return LeastLoad()

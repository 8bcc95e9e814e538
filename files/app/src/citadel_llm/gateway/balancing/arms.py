"""Arms: deployments of one model that are tried beside each other."""

from __future__ import annotations

from collections.abc import Sequence

from citadel_llm.gateway.balancing.backend import BackendState
from citadel_llm.gateway.balancing.hashing import rendezvous
from citadel_llm.gateway.balancing.policies import Random

_ONLY = ""
"""The name of the arm of a model that has none."""


class Arm:
    """Some of a model's back ends. `mirror` above 0 makes it a shadow, which gets copies only."""

    __slots__ = ("backends", "mirror", "name", "weight")

    def __init__(self, name: str, weight: float, mirror: float, backends: tuple[BackendState, ...]) -> None:
        self.name = name
        self.weight = weight
        self.mirror = mirror
        self.backends = backends


class Arms:
    """The arms of one model; without any, one that has every back end and no name."""

    __slots__ = ("_by_name", "_total", "_weights", "serving", "shadows")

    def __init__(self, arms: Sequence[Arm], backends: tuple[BackendState, ...]) -> None:
        arms = arms or [Arm(_ONLY, 1.0, 0.0, backends)]
        self.serving = tuple(arm for arm in arms if arm.mirror <= 0)
        self.shadows = tuple(arm for arm in arms if arm.mirror > 0)
        self._by_name = {arm.name: arm for arm in self.serving}
        self._weights = [(arm.name, arm.weight) for arm in self.serving]
        self._total = sum(arm.weight for arm in self.serving)

    def pick(self, sticky: str | None, random: Random) -> Arm:
        """The arm of a client, the same one while weights stay; at random when nothing identifies it."""
        if len(self.serving) == 1:
            return self.serving[0]
        if sticky is not None:
            found = rendezvous(sticky, self._weights)
            return self.serving[found or 0]
        drawn = random() * self._total
        for arm in self.serving:
            drawn -= arm.weight
            if drawn < 0:
                return arm
        return next(arm for arm in reversed(self.serving) if arm.weight > 0)

    def named(self, name: str) -> Arm | None:
        """The serving arm of that name, if there is one still."""
        return self._by_name.get(name)

    def others(self, arm: Arm) -> tuple[BackendState, ...]:
        """Back ends of the other serving arms, for when this one has none left."""
        return tuple(backend for other in self.serving if other is not arm for backend in other.backends)

    def mirrored(self, random: Random) -> list[Arm]:
        """The shadows that get a copy of a request, by their share."""
        return [arm for arm in self.shadows if random() < arm.mirror]

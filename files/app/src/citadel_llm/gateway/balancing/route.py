"""A model that requests ask for, with all that decides which of its back ends serves them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from citadel_llm.gateway.admission.queue import FairQueue, Timers
from citadel_llm.gateway.balancing.arms import Arm, Arms
from citadel_llm.gateway.balancing.backend import Attempt, BackendState, Outcome, Rules
from citadel_llm.gateway.balancing.policies import Random, make_policy
from citadel_llm.gateway.balancing.prefixes import PrefixTable, blocks_of
from citadel_llm.gateway.balancing.retries import RetryBudget
from citadel_llm.gateway.balancing.wish import Wish
from citadel_llm.schema import resilience
from citadel_llm.schema.access import Priority
from citadel_llm.schema.routes import Model, Source

_SNAPSHOT = "snapshot"
"""Who pauses a model whose snapshot says so."""


class NoBackend(Exception):  # noqa: N818 (it is no error of ours)
    """No back end of the model can be asked at all."""

    def __init__(self, model: str) -> None:
        super().__init__(f"no back end of {model!r} can serve")
        self.model = model


def ignore_wait(_model: str, _seconds: float) -> None:
    """Nobody measures how long requests waited."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all routes of a process share. `waited` is told model and seconds of each request that waited."""

    timers: Timers
    random: Random
    rules: Rules = field(default_factory=Rules)
    retries: resilience.Retries = field(default_factory=resilience.Retries)
    prefix: resilience.PrefixAffinity = field(default_factory=resilience.PrefixAffinity)
    waited: Callable[[str, float], None] = ignore_wait


class ModelRoute:
    """One model. It lives as long as snapshots name the model; a new snapshot changes it in place."""

    def __init__(self, model: Model, surroundings: Surroundings, table: PrefixTable) -> None:
        self.name = model.name
        self.budget = RetryBudget(surroundings.retries)
        self.backends: tuple[BackendState, ...] = ()
        self.served_models: frozenset[str] = frozenset()
        self.arm_requests: dict[str, int] = {}
        self._around = surroundings
        self._time = surroundings.timers.time
        self._table = table
        self._policy_name = ""
        self.queue: FairQueue[Attempt] = FairQueue(
            model.queue,
            surroundings.timers,
            has_room=self._has_room,
            give_back=self._give_back,
            waited=lambda seconds: surroundings.waited(self.name, seconds),
        )

    def update(self, model: Model, backends: tuple[BackendState, ...]) -> None:
        """Take over what a snapshot says. `backends` are the states of `model.backends`, in their order."""
        self.model = model
        self.task = model.task
        self.backends = backends
        self.served_models = frozenset(backend.served_model for backend in backends)
        by_name = {backend.name: backend for backend in backends}
        self.arms = Arms(
            [
                Arm(arm.name, arm.weight, arm.mirror, tuple(by_name[name] for name in arm.backends))
                for arm in model.arms
            ],
            backends,
        )
        self.arm_requests = {arm.name: self.arm_requests.get(arm.name, 0) for arm in self.arms.serving}
        arm_of = {name: arm.name for arm in model.arms for name in arm.backends}
        for spec, backend in zip(model.backends, backends, strict=True):
            backend.on_room = None  # the queue is woken once, when everything is in place
            backend.reweigh(spec.weight, spec.max_in_flight, arm_of.get(spec.name, ""))
        for backend in backends:
            backend.on_room = self.queue.dispatch
        if self._policy_name != model.policy:
            self._policy_name = model.policy
            around = self._around
            self._policy = make_policy(model.policy, around.random, self._table, around.prefix.load_factor)
        self.queue.rules = model.queue
        if model.paused:
            self.queue.pause(_SNAPSHOT)
        else:
            self.queue.resume(_SNAPSHOT)
        self.queue.dispatch()

    def close(self) -> None:
        """No snapshot names the model any more: nobody waits for it."""
        self.queue.fail_all(NoBackend(self.name))

    # -- one request

    def wish(
        self,
        value_of: Callable[[Source], str | None],
        prompt: Callable[[], bytes | memoryview],
        abandon: Callable[[], None] | None = None,
    ) -> Wish:
        """What a request would like. `value_of` and `prompt` are asked only for what this model needs."""
        model = self.model
        wish = Wish(abandon=abandon)
        if model.arms:
            wish.sticky = _first(model.sticky, value_of)
        if model.policy == "session":
            wish.session = _first(model.session, value_of)
        elif model.policy == "prefix" and len(self.backends) > 1:  # else there is no choice to make
            wish.blocks = blocks_of(prompt(), self._around.prefix, self.name)
        return wish

    async def acquire(self, wish: Wish, key: str, priority: Priority = "normal") -> Attempt:
        """An attempt on the best back end, at once or after waiting. Raises NoBackend, QueueFull, TooLate."""
        return await self.queue.acquire(key, priority, lambda: self.take(wish))

    def try_take(self, wish: Wish) -> Attempt | None:
        """An attempt without waiting; None when the request has to `acquire` one. Raises NoBackend."""
        queue = self.queue
        return None if queue.waiting or queue.paused else self.take(wish)

    def take(self, wish: Wish, *, trusted: bool = False) -> Attempt | None:
        """An attempt on the best back end that has room now; None when all that work are full.

        Raises NoBackend when none works that is left; with `trusted`, when only the last resort is left, too.
        """
        now = self._time()
        arm = self.arms.named(wish.arm) if wish.arm is not None else None
        if arm is None:
            arm = self.arms.pick(wish.sticky, self._around.random)
            wish.arm = arm.name
        backends: Collection[BackendState] = arm.backends
        able = _able(backends, wish.avoid, now)
        if not able and not _full(backends, wish.avoid, now) and len(self.arms.serving) > 1:
            backends = self.arms.others(arm)
            able = _able(backends, wish.avoid, now)
        if able:
            backend = self._policy.choose(able, wish, now)
        elif _full(backends, wish.avoid, now):
            return None
        elif trusted:
            raise NoBackend(self.name)
        else:
            backend = self._last_resort(wish.avoid)
            if backend.in_flight >= backend.limit:
                return None
        if backend.arm:
            self.arm_requests[backend.arm] += 1
        return backend.begin(now, wish.abandon)

    def shadow(self, arm: Arm) -> Attempt | None:
        """An attempt for a copy of a request; None when no back end of the shadow has room and works."""
        now = self._time()
        able = _able(arm.backends, (), now)
        if not able:
            return None
        return min(able, key=lambda backend: backend.score(now)).begin(now)

    def _last_resort(self, avoid: Collection[BackendState]) -> BackendState:
        """When none is trusted, the one that will be soonest: a guess beats a refusal. A hung one is none."""
        serving = (backend for arm in self.arms.serving for backend in arm.backends)
        left = [b for b in serving if b.weight > 0 and not b.stalled and b not in avoid]
        if not left:
            raise NoBackend(self.name)
        return min(left, key=lambda backend: (backend.closed_until, backend.in_flight, backend.turn))

    def _has_room(self) -> bool:
        now = self._time()
        if any(b.in_flight < b.limit for b in self.backends if b.closed_until <= now):
            return True
        # When none works, whoever waits learns it by trying.
        return all(b.closed_until > now for b in self.backends)

    def _give_back(self, attempt: Attempt) -> None:
        attempt.end(Outcome.CANCELLED, self._time())


def _able(
    backends: Iterable[BackendState], avoid: Collection[BackendState], now: float
) -> list[BackendState]:
    if avoid:
        return [b for b in backends if b.closed_until <= now and b.in_flight < b.limit and b not in avoid]
    return [b for b in backends if b.closed_until <= now and b.in_flight < b.limit]


def _full(backends: Iterable[BackendState], avoid: Collection[BackendState], now: float) -> bool:
    """Whether one of them works and has as much as it may have."""
    return any(b.closed_until <= now and b.in_flight >= b.limit and b not in avoid for b in backends)


def _first(sources: tuple[Source, ...], value_of: Callable[[Source], str | None]) -> str | None:
    for source in sources:
        value = value_of(source)
        if value:
            # Two sources never name the same client, even with equal values.
            return f"{source}={value}"
    return None

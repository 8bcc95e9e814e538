"""One back end: what requests and probes have taught about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from itertools import count
from typing import Literal

from citadel_llm.gateway.balancing.breaker import Breaker
from citadel_llm.gateway.balancing.slow_start import share
from citadel_llm.schema import resilience

Identity = tuple[str, str, str, str]
"""Model, name, address, and the model's name there."""
Health = Literal["up", "suspect", "stalled", "unhealthy", "open", "half_open", "resting"]
_NEVER = float("inf")
_EWMA = 0.1
_KV_FULL = 0.8
_WAITING = 2.0
"""How much more a request counts that waits for its first byte: prompts are computed one after the other,
tokens are generated for all at once. Of 1 to 16, measured by `python -m bench policies`, 2 does nearly all
the good.
"""
_serials = count(1)


class Outcome(Enum):
    """How an attempt ended, and whether that is a failure of the back end."""

    FINISHED = ("finished", False)
    FAILED = ("failed", True)
    """The engine answered that it cannot (5xx, or full)."""
    LOST = ("lost", True)
    """The connection ended before the first byte."""
    BROKEN = ("broken", True)
    """The connection ended, or spoke nonsense, after the first byte."""
    UNREACHABLE = ("unreachable", True)
    GARBAGE = ("garbage", True)
    TIMED_OUT = ("timed_out", True)
    CANCELLED = ("cancelled", False)
    """The client left, or the gateway stops: it says nothing about the back end."""
    ABANDONED = ("abandoned", False)
    """Taken from a hung engine, to be made good elsewhere."""

    def __init__(self, label: str, failure: bool) -> None:
        self.label = label
        self.failure = failure
        self.place = len(type(self).__members__)  # a list is counted in faster than a dictionary


_FINISHED = Outcome.FINISHED.place


@dataclass(frozen=True, slots=True)
class Rules:
    """Settings that every back end is held to."""

    breaker: resilience.Breaker = field(default_factory=resilience.Breaker)
    slow_start: resilience.SlowStart = field(default_factory=resilience.SlowStart)
    stall: resilience.Stall = field(default_factory=resilience.Stall)


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """What an engine says of itself. `kv` is the share of its cache in use, 0 to 1; `tokens` only go up."""

    running: float
    waiting: float
    kv: float
    tokens: float = 0.0


class BackendState:
    """Everything known of a back end. It outlives reloads for as long as its identity stays the same.

    A request may go there from `closed_until` on (0: at any time, infinity: not before something changes).
    Times are seconds of a monotonic clock, given by the caller.
    """

    __slots__ = (
        "_begun",
        "_health_failures",
        "_outcomes",
        "_rules",
        "_stall",
        "_unhealthy",
        "_waiting",
        "arm",
        "attempts",
        "breaker",
        "closed_until",
        "ewma_first_byte",
        "foreign",
        "heard_at",
        "in_flight",
        "limit",
        "model",
        "name",
        "on_room",
        "polled",
        "pressure",
        "serial",
        "served_model",
        "smooth",
        "turn",
        "url",
        "warm_at",
        "weight",
    )

    def __init__(self, identity: Identity, rules: Rules, *, weight: float = 1.0, limit: int = 1024) -> None:
        self.model, self.name, self.url, self.served_model = identity
        self.serial = next(_serials)
        self.arm = ""
        self.weight = weight
        self.limit = limit
        self.breaker = Breaker(rules.breaker)
        self.closed_until = 0.0
        self.warm_at = 0.0
        self.in_flight = 0
        self.attempts = 0
        self._outcomes = [0] * len(Outcome)
        self.ewma_first_byte = 0.0
        self.heard_at = 0.0
        self.polled: EngineLoad | None = None
        self.foreign = 0.0
        self.pressure = 1.0
        self.smooth = 0.0
        self.turn = 0
        self.on_room: Callable[[], None] | None = None
        self._rules = rules
        self._stall: Literal["none", "suspect", "stalled"] = "none"
        self._unhealthy = False
        self._health_failures = 0
        self._waiting: dict[Attempt, Callable[[], None]] = {}
        self._begun: dict[Attempt, Callable[[], None]] = {}

    # -- attempts

    def begin(self, now: float, abandon: Callable[[], None] | None = None) -> Attempt:
        """An attempt starts. `abandon` is called if the engine is found to hang."""
        if self.in_flight == 0:
            self.heard_at = now  # silence begins with the first request, not with the last answer
        self.in_flight += 1
        self.attempts += 1
        trial = self.breaker.state != "closed" and self.breaker.admit(now)
        if trial:
            self._recompute()
        attempt = Attempt(self, now, trial)
        if abandon is not None:
            self._waiting[attempt] = abandon
        return attempt

    def answered(self, attempt: Attempt, now: float) -> None:
        """The first byte of an answer that is not a failure."""
        abandon = self._waiting.pop(attempt, None)
        if abandon is not None:
            self._begun[attempt] = abandon
        self.heard_at = now
        seconds = now - attempt.started
        known = self.ewma_first_byte
        self.ewma_first_byte = seconds if known == 0.0 else known + _EWMA * (seconds - known)
        if self.breaker.success(now, trial=attempt.trial):
            self._returned(now)

    def served(self, attempt: Attempt, now: float) -> None:
        """A whole answer that is not a failure came at once: `answered` and `ended` in one."""
        self._waiting.pop(attempt, None)
        self.heard_at = now
        seconds = now - attempt.started
        known = self.ewma_first_byte
        self.ewma_first_byte = seconds if known == 0.0 else known + _EWMA * (seconds - known)
        if self.breaker.success(now, trial=attempt.trial):
            self._returned(now)
        self.in_flight -= 1
        self._outcomes[_FINISHED] += 1
        if self.on_room is not None:
            self.on_room()

    def ended(self, attempt: Attempt, outcome: Outcome, now: float) -> None:
        """An attempt is over."""
        (self._begun if attempt.answered_at else self._waiting).pop(attempt, None)
        self.in_flight -= 1
        self._outcomes[outcome.place] += 1
        if outcome.failure:
            fatal = outcome is Outcome.UNREACHABLE
            self.breaker.failure(now, trial=attempt.trial, fatal=fatal)
            self._recompute()
        elif attempt.trial and attempt.answered_at == 0.0:
            self.breaker.release(now)
            self._recompute()
        if self.on_room is not None:
            self.on_room()

    @property
    def outcomes(self) -> dict[Outcome, int]:
        """How many attempts ended in which way."""
        return {
            outcome: self._outcomes[outcome.place] for outcome in Outcome if self._outcomes[outcome.place]
        }

    # -- being chosen

    def score(self, now: float) -> float:
        """How much it has to do for its share, one more request included; less is better."""
        load = (self.in_flight + 1 + _WAITING * len(self._waiting) + self.foreign) * self.pressure
        return load / (self.weight if now >= self.warm_at else self.share(now))

    def share(self, now: float) -> float:
        """Its weight, less while it warms up."""
        return self.weight * share(self._rules.slow_start, self.warm_at, now)

    def health(self, now: float) -> Health:
        """Its state in a word, the gravest first."""
        if self._stall == "stalled":
            return "stalled"
        if self._unhealthy:
            return "unhealthy"
        if self.breaker.state == "half_open" or (
            self.breaker.state == "open" and now >= self.breaker.open_until
        ):
            return "half_open"
        if self.breaker.state == "open":
            return "open"
        if self._stall == "suspect":
            return "suspect"
        return "up" if self.weight > 0 else "resting"

    # -- probes

    def polled_load(self, load: EngineLoad | None, now: float) -> None:
        """What the engine's metrics say; None when they could not be had."""
        before, self.polled = self.polled, load
        if load is not None and before is not None and load.tokens > before.tokens:
            self.heard_at = now  # it works, although nobody may have got a byte of it yet
        if load is None:
            self.foreign, self.pressure = 0.0, 1.0
            return
        # What others send there counts as much as what this gateway sends; what waits counts twice.
        self.foreign = max(0.0, load.running + load.waiting - self.in_flight) + load.waiting
        self.pressure = 1.0 + 5.0 * max(0.0, min(load.kv, 1.0) - _KV_FULL)

    def health_passed(self, now: float) -> None:
        """Its /health is fine."""
        self._health_failures = 0
        if self.breaker.unreachable:
            self.breaker.try_now(now)
        if self._unhealthy:
            self._unhealthy = False
            self._returned(now)
        self._recompute()

    def health_failed(self, limit: int) -> None:
        """Its /health is not; after `limit` times in a row it is out."""
        self._health_failures += 1
        if self._health_failures >= limit:
            self._unhealthy = True
            self._recompute()

    def silent_for(self, now: float) -> float:
        """Seconds for which requests are in flight and none of them got a byte."""
        return now - self.heard_at if self.in_flight > 0 else 0.0

    @property
    def stalled(self) -> bool:
        """Whether it is out until a real request has succeeded."""
        return self._stall == "stalled"

    def watch(self, now: float) -> bool:
        """Look for silence. True when a real request is needed to learn whether the engine hangs."""
        if self._stall == "none" and self.silent_for(now) >= self._rules.stall.after_s:
            self._stall = "suspect"
            self._recompute()
        elif self._stall == "suspect" and self.silent_for(now) < self._rules.stall.after_s:
            self._stall = "none"
            self._recompute()
        return self._stall != "none"

    def real_passed(self, now: float) -> None:
        """A real request was answered."""
        self._health_failures = 0
        was_out = self.closed_until == _NEVER
        suspected, self._stall = self._stall, "none"
        self._unhealthy = False
        self.heard_at = now
        self.breaker.try_now(now)
        if suspected == "stalled" or was_out:
            self._returned(now)
        self._recompute()

    def real_failed(self) -> list[Callable[[], None]]:
        """A real request was not answered: it is out. Returns how to move what waits for a first byte."""
        self._stall = "stalled"
        self._recompute()
        waiting = list(self._waiting.values())
        self._waiting.clear()
        return waiting

    def given_up(self, now: float) -> list[Callable[[], None]]:
        """How to end the answers that have begun, once it hangs and has been silent for long enough.

        Nobody can go on with them elsewhere, so they get longer than what waits for its first byte: an engine
        that was only stopped for a moment may yet complete them.
        """
        if self._stall != "stalled" or self.silent_for(now) < self._rules.stall.after_s:
            return []
        begun = list(self._begun.values())
        self._begun.clear()
        return begun

    # -- changes of the snapshot

    def reweigh(self, weight: float, limit: int, arm: str) -> None:
        """Take over what a new snapshot says."""
        self.weight, self.limit, self.arm = weight, limit, arm
        self._recompute()

    def warm_up(self, now: float) -> None:
        """It is new beside others: begin with a small share."""
        self.warm_at = now + self._rules.slow_start.duration_s

    def _returned(self, now: float) -> None:
        self.warm_up(now)
        self._recompute()

    def _recompute(self) -> None:
        if self._stall == "stalled" or self._unhealthy or self.weight <= 0:
            self.closed_until = _NEVER
        elif self._stall == "suspect":
            # Somebody is asking it for one token; until then it is the last resort, like one that failed.
            self.closed_until = _NEVER
        else:
            self.closed_until = self.breaker.open_until
        if self.closed_until == 0.0 and self.on_room is not None:
            self.on_room()


class Attempt:
    """One try to have a request served by one back end. Whoever begins it ends it, once; more often is
    harmless.
    """

    __slots__ = ("answered_at", "backend", "outcome", "started", "trial")

    def __init__(self, backend: BackendState, started: float, trial: bool) -> None:
        self.backend = backend
        self.started = started
        self.trial = trial
        self.answered_at = 0.0
        self.outcome: Outcome | None = None

    def first_byte(self, now: float) -> None:
        """The answer begins, and is no failure."""
        if self.answered_at == 0.0 and self.outcome is None:
            self.answered_at = now
            self.backend.answered(self, now)

    def chunk(self, now: float) -> None:
        """A further part arrived."""
        self.backend.heard_at = now

    def finish(self, now: float) -> None:
        """The whole answer came at once, and is no failure."""
        if self.outcome is None:
            self.outcome = Outcome.FINISHED
            self.answered_at = now
            self.backend.served(self, now)

    def end(self, outcome: Outcome, now: float) -> None:
        """It is over."""
        if self.outcome is None:
            self.outcome = outcome
            self.backend.ended(self, outcome, now)

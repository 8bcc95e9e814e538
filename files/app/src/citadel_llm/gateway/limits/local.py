"""Counts of this process. They are exact, and they hold alone when the shared store is down."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence

from citadel_llm.gateway.limits.subjects import (
    CONCURRENT,
    REQUESTS_PER_MINUTE,
    TOKENS_PER_DAY,
    TOKENS_PER_MINUTE,
    TOKENS_PER_MONTH,
    Decision,
    Refusal,
    Reservation,
    Standing,
    Subject,
    tighter,
    worst,
)
from citadel_llm.gateway.limits.window import (
    SPAN_S,
    Quota,
    Window,
    calendar,
    until_next_month,
    until_tomorrow,
)
from citadel_llm.schema.access import Limits

_BUSY_RETRY_S = 1.0
_IDLE_S = 62
_LOOK_AT = 4
Saved = dict[str, list[int]]


class _Recent:
    """What one subject did in the last minute and does now."""

    __slots__ = ("in_flight", "requests", "seen", "tokens")

    def __init__(self) -> None:
        self.requests = Window()
        self.tokens = Window()
        self.in_flight = 0
        self.seen = 0.0

    def begin(self, second: int, tokens: int) -> None:
        """A request begins."""
        self.in_flight += 1
        for window, count in ((self.requests, 1), (self.tokens, tokens)):
            last = window.last
            if last[0] == second:
                last[1] += count
                window.total += count
            else:
                window.add(second, count)

    def end(self, begun: int, change: int, second: int, completion: int) -> None:
        """A request ends that began in the second `begun`: it used `change` more than it reserved then, and
        `completion` now.
        """
        if self.in_flight:
            self.in_flight -= 1
        tokens = self.tokens
        last = tokens.last
        if last[0] == second == begun and last[1] + change >= 0:
            last[1] += change + completion
            tokens.total += change + completion
            return
        if change:
            tokens.correct(begun, change)
        if completion:
            tokens.used(second)
            tokens.add(second, completion)


class LocalLimiter:
    """Decides and counts without waiting. Times are those of `clock`; days and months those of `wall`."""

    def __init__(self, clock: Callable[[], float], wall: Callable[[], float], max_subjects: int) -> None:
        self._clock = clock
        self._wall = wall
        self._max = max_subjects
        self._recent: OrderedDict[str, _Recent] = OrderedDict()
        self._quotas: OrderedDict[str, Quota] = OrderedDict()

    def __len__(self) -> int:
        return max(len(self._recent), len(self._quotas))

    def reserve(self, subjects: Sequence[Subject], tokens: int) -> Reservation:
        """Count a request for all its subjects, or for none of them when one limit is reached."""
        now = self._clock()
        second = int(now)
        recents = [self._use(subject.name, now) for subject in subjects]
        for subject, recent in zip(subjects, recents, strict=True):
            if self._reached(subject.limits, recent, tokens, second) or (
                _has_quota(subject.limits) and self._quota_reached(subject, tokens)
            ):
                return Reservation(subjects, tokens, decision=self._refused(subjects, tokens, now))
        decision = Decision()
        left_s = second + SPAN_S - now
        for subject, recent in zip(subjects, recents, strict=True):
            recent.begin(second, tokens)
            limits = subject.limits
            if _has_quota(limits):
                self._spend(subject, tokens)
            limit = limits.requests_per_minute
            if limit is not None:
                standing = Standing(limit, limit - recent.requests.total, left_s)
                decision.requests = tighter(decision.requests, standing)
            limit = limits.tokens_per_minute
            if limit is not None:
                standing = Standing(limit, limit - recent.tokens.total, left_s)
                decision.tokens = tighter(decision.tokens, standing)
        return Reservation(subjects, tokens, second, decision=decision)

    def charge(self, reservation: Reservation) -> None:
        """Count a request that was let in, whatever the limits say."""
        now = self._clock()
        second = reservation.second = int(now)
        for subject in reservation.subjects:
            recent = self._use(subject.name, now)
            recent.requests.used(second)
            recent.tokens.used(second)
            recent.begin(second, reservation.tokens)
            self._spend(subject, reservation.tokens)

    def settle(self, reservation: Reservation, prompt: int, completion: int) -> None:
        """Put the real numbers in the place of the reserved one, and end the request."""
        now = self._clock()
        second = int(now)
        change = prompt - reservation.tokens
        for subject in reservation.subjects:
            recent = self._recent.get(subject.name)
            if recent is not None:
                recent.end(reservation.second, change, second, completion)
                recent.seen = now
            if _has_quota(subject.limits):
                self._spend(subject, change + completion)

    # -- deciding

    def _reached(self, limits: Limits, recent: _Recent, tokens: int, second: int) -> bool:
        """Whether a limit on the last minute or on what goes on now is reached."""
        oldest = second - SPAN_S
        requests, used = recent.requests, recent.tokens
        if requests.first <= oldest:
            requests.used(second)
        if used.first <= oldest:
            used.used(second)
        allowed = limits.requests_per_minute
        if allowed is not None and requests.total >= allowed:
            return True
        allowed = limits.tokens_per_minute
        if allowed is not None and used.total + tokens > allowed:
            return True
        allowed = limits.concurrent_requests
        return allowed is not None and recent.in_flight >= allowed

    def _quota_reached(self, subject: Subject, tokens: int) -> bool:
        quota = self._quota(subject)
        if quota is None:
            return False
        found = quota_refusals(subject, quota.day_used, quota.month_used, tokens, self._wall())
        return next(found, None) is not None

    def _refused(self, subjects: Sequence[Subject], tokens: int, now: float) -> Decision:
        refusals = [refusal for subject in subjects for refusal in self._refusals(subject, tokens, now)]
        requests, used = self._standings(subjects, now)
        return Decision(worst(refusals), requests, used)

    def _refusals(self, subject: Subject, tokens: int, now: float) -> Iterator[Refusal]:
        limits = subject.limits
        recent = self._recent.get(subject.name)
        if recent is not None:
            allowed, used = limits.requests_per_minute, recent.requests.used(now)
            if allowed is not None and used + 1 > allowed:
                wait = recent.requests.wait(now, used + 1 - allowed)
                yield Refusal(subject, REQUESTS_PER_MINUTE, allowed, used, 1, wait)
            allowed = limits.concurrent_requests
            if allowed is not None and recent.in_flight >= allowed:
                yield Refusal(subject, CONCURRENT, allowed, recent.in_flight, 1, _BUSY_RETRY_S)
        allowed = limits.tokens_per_minute
        if allowed is not None:
            used = recent.tokens.used(now) if recent is not None else 0
            if tokens > allowed:
                yield Refusal(subject, TOKENS_PER_MINUTE, allowed, used, tokens, None)
            elif used + tokens > allowed and recent is not None:
                wait = recent.tokens.wait(now, used + tokens - allowed)
                yield Refusal(subject, TOKENS_PER_MINUTE, allowed, used, tokens, wait)
        quota = self._quota(subject)
        if quota is not None:
            yield from quota_refusals(subject, quota.day_used, quota.month_used, tokens, self._wall())

    def _standings(self, subjects: Sequence[Subject], now: float) -> tuple[Standing | None, Standing | None]:
        requests = tokens = None
        for subject in subjects:
            recent = self._recent.get(subject.name)
            if recent is None:
                continue
            limit = subject.limits.requests_per_minute
            if limit is not None:
                left = max(0, limit - recent.requests.used(now))
                requests = tighter(requests, Standing(limit, left, recent.requests.reset(now)))
            limit = subject.limits.tokens_per_minute
            if limit is not None:
                left = max(0, limit - recent.tokens.used(now))
                tokens = tighter(tokens, Standing(limit, left, recent.tokens.reset(now)))
        return requests, tokens

    # -- what is kept

    def _use(self, name: str, now: float) -> _Recent:
        recent = self._recent.get(name)
        if recent is None:
            self._forget(now)
            recent = self._recent[name] = _Recent()
        else:
            self._recent.move_to_end(name)
        recent.seen = now
        return recent

    def _spend(self, subject: Subject, tokens: int) -> None:
        quota = self._quota(subject)
        if quota is not None:
            quota.add(tokens)

    def _forget(self, now: float) -> None:
        """Drop subjects that have been idle for a minute, and beyond the limit those idle for longest."""
        for _ in range(_LOOK_AT):
            if not self._recent:
                return
            name, recent = next(iter(self._recent.items()))
            if recent.in_flight:
                self._recent.move_to_end(name)
            elif len(self._recent) >= self._max or now - recent.seen >= _IDLE_S:
                del self._recent[name]
            else:
                return

    def _quota(self, subject: Subject) -> Quota | None:
        if not _has_quota(subject.limits):
            return None
        quota = self._quotas.get(subject.name)
        if quota is None:
            while len(self._quotas) >= self._max:
                self._quotas.popitem(last=False)
            quota = self._quotas[subject.name] = Quota()
        else:
            self._quotas.move_to_end(subject.name)
        quota.turn(*calendar(self._wall()))
        return quota

    def save(self) -> Saved:
        """The counts of the current day and month, by subject."""
        _, month = calendar(self._wall())
        return {
            name: [quota.day, quota.day_used, quota.month, quota.month_used]
            for name, quota in self._quotas.items()
            if quota.month == month and quota.month_used
        }

    def restore(self, saved: Mapping[str, Sequence[int]]) -> None:
        """Take over counts that were saved by an earlier process."""
        for name, numbers in list(saved.items())[-self._max :]:
            self._quotas[name] = Quota(*numbers)


def _has_quota(limits: Limits) -> bool:
    return limits.tokens_per_day is not None or limits.tokens_per_month is not None


def quota_refusals(
    subject: Subject, day_used: int, month_used: int, tokens: int, now: float
) -> Iterator[Refusal]:
    """The refusals that the counts of day and month give. `now` is in seconds since 1970."""
    limits = subject.limits
    asked = max(1, tokens)
    if limits.tokens_per_day is not None and day_used + asked > limits.tokens_per_day:
        wait = until_tomorrow(now)
        yield Refusal(subject, TOKENS_PER_DAY, limits.tokens_per_day, day_used, tokens, wait)
    if limits.tokens_per_month is not None and month_used + asked > limits.tokens_per_month:
        wait = until_next_month(now)
        yield Refusal(subject, TOKENS_PER_MONTH, limits.tokens_per_month, month_used, tokens, wait)

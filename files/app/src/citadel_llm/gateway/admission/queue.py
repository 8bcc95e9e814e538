"""One model's queue: bounded, fair between keys, with classes of priority, deadlines and a pause."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from citadel_llm.schema.access import Priority
from citadel_llm.schema.routes import Queue as Rules

T = TypeVar("T")

_WEIGHTS: dict[Priority, float] = {"high": 16.0, "normal": 4.0, "low": 1.0}
"""Turns of each class while all of them wait: nobody starves."""
_RANK: dict[Priority, int] = {"high": 0, "normal": 1, "low": 2}
_SHORTEST_RETRY_S = 1.0
_LONGEST_RETRY_S = 60.0
_EWMA = 0.1


class Refused(Exception):  # noqa: N818 (the queue works as it should)
    """No place or no time for a request. `retry_after_s` is when another try makes sense."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QueueFull(Refused):
    """As many wait as may wait. `crowded` when the key has more than its equal part of the places."""

    def __init__(self, message: str, retry_after_s: float, *, crowded: bool) -> None:
        super().__init__(message, retry_after_s)
        self.crowded = crowded


class TooLate(Refused):
    """The deadline passed. `paused` when the model was paused all the time."""

    def __init__(self, message: str, retry_after_s: float, *, paused: bool) -> None:
        super().__init__(message, retry_after_s)
        self.paused = paused


class Timer(Protocol):
    def cancel(self) -> None: ...


class Timers(Protocol):
    """A clock and its alarms; an event loop is one."""

    def time(self) -> float: ...
    def call_at(self, when: float, callback: Callable[[], object], /) -> Timer: ...


class _Waiter(Generic[T]):
    __slots__ = ("arrived", "future", "key", "priority", "take", "timer")

    def __init__(
        self,
        key: str,
        priority: Priority,
        arrived: float,
        take: Callable[[], T | None],
        future: asyncio.Future[T],
    ) -> None:
        self.key = key
        self.priority = priority
        self.arrived = arrived
        self.take = take
        self.future = future
        self.timer: Timer | None = None


class FairQueue(Generic[T]):
    """Hands out what `take` functions take, in fair order.

    A `take` takes a place for its request and returns it, or returns None when there is none for it now; what
    it raises goes to its request. `has_room` tells cheaply whether trying makes sense. `give_back` gets what
    was taken for a request that is gone. Nothing here is thread-safe; `dispatch` is called whenever a place
    becomes free.
    """

    def __init__(
        self,
        rules: Rules,
        timers: Timers,
        *,
        has_room: Callable[[], bool],
        give_back: Callable[[T], None],
        waited: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        self.rules = rules
        self.waiting = 0
        self.full = 0
        self.late = 0
        self._timers = timers
        self._has_room = has_room
        self._give_back = give_back
        self._waited = waited
        # Class → key → waiters in order of arrival; a dictionary, so that those who leave leave nothing
        # behind.
        self._flows: dict[Priority, dict[str, dict[_Waiter[T], None]]] = {name: {} for name in _WEIGHTS}
        self._clocks: dict[Priority, float] = dict.fromkeys(_WEIGHTS, 0.0)
        self._pauses: set[str] = set()
        self._resumed_at = float("-inf")
        self._busy = False
        self._interval = 0.0
        self._last = 0.0

    # -- requests

    async def acquire(self, key: str, priority: Priority, take: Callable[[], T | None]) -> T:
        """A place, at once or after waiting. Raises QueueFull, TooLate, or what `take` raises."""
        if not self.waiting and not self._pauses:
            taken = take()
            if taken is not None:
                return taken
        waiter = self._enter(key, priority, take)
        self.dispatch()
        try:
            return await waiter.future
        except asyncio.CancelledError:
            if not self._leave(waiter) and _was_given(waiter.future):
                self._give_back(waiter.future.result())
            raise

    def dispatch(self) -> None:
        """Give places to those who wait, as long as there are any."""
        if self._busy or self._pauses or not self.waiting:
            return
        self._busy = True  # taking a place may tell of room, which would come back here
        try:
            while self.waiting and self._has_room() and self._serve_one():
                pass
        finally:
            self._busy = False

    # -- pause

    @property
    def paused(self) -> bool:
        return bool(self._pauses)

    @property
    def paused_by(self) -> list[str]:
        return sorted(self._pauses)

    def pause(self, by: str) -> None:
        """Hold every request from now on, until everybody who paused has resumed."""
        self._pauses.add(by)

    def resume(self, by: str) -> None:
        """Take back a pause; without any left, requests go on."""
        if by in self._pauses:
            self._pauses.remove(by)
            if not self._pauses:
                self._resumed_at = self._timers.time()
                self.dispatch()

    def fail_all(self, error: Exception) -> None:
        """Nobody needs to wait any longer, for this reason."""
        for waiter in self._all():
            self._fail(waiter, error)

    def retry_after(self) -> float:
        """Seconds after which another try makes sense, from how fast the queue moves."""
        return min(max(self.waiting * self._interval, _SHORTEST_RETRY_S), _LONGEST_RETRY_S)

    # -- order

    def _serve_one(self) -> bool:
        """Give one place to the first in fair order that can use it. False when nobody can."""
        classes = sorted((name for name, flows in self._flows.items() if flows), key=self._turn_of)
        for priority in classes:
            flows = self._flows[priority]
            for key in list(flows):
                waiter = next(iter(flows[key]))
                if self._serve(waiter):
                    if key in flows:
                        flows[key] = flows.pop(key)  # the key's next one comes after those of all others
                    self._clocks[priority] += 1.0 / _WEIGHTS[priority]
                    return True
        return False

    def _turn_of(self, priority: Priority) -> tuple[float, int]:
        return self._clocks[priority], _RANK[priority]

    def _serve(self, waiter: _Waiter[T]) -> bool:
        if waiter.future.done():  # its request has been cancelled and has not run since
            self._leave(waiter)
            return True
        try:
            taken = waiter.take()
        except Exception as error:
            self._fail(waiter, error)
            return True
        if taken is None:
            return False
        self._leave(waiter)
        waiter.future.set_result(taken)
        now = self._timers.time()
        self._waited(now - waiter.arrived)
        self._interval += _EWMA * (min(now - self._last, _LONGEST_RETRY_S) - self._interval)
        self._last = now
        return True

    # -- coming and going

    def _enter(self, key: str, priority: Priority, take: Callable[[], T | None]) -> _Waiter[T]:
        if self.waiting >= self.rules.size:
            self._make_place(key, priority)
        now = self._timers.time()
        if not self.waiting:
            self._last = now
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        waiter = _Waiter(key, priority, now, take, future)
        flows = self._flows[priority]
        if not flows:  # a class that had nobody waiting has saved up no turns
            active = [self._clocks[name] for name, others in self._flows.items() if others]
            self._clocks[priority] = max(self._clocks[priority], min(active, default=0.0))
        flows.setdefault(key, {})[waiter] = None
        self.waiting += 1
        self._arm(waiter)
        return waiter

    def _leave(self, waiter: _Waiter[T]) -> bool:
        """Take somebody out of the queue. False when it was not in it any more."""
        flows = self._flows[waiter.priority]
        flow = flows.get(waiter.key)
        if flow is None or waiter not in flow:
            return False
        del flow[waiter]
        if not flow:
            del flows[waiter.key]
        self.waiting -= 1
        if waiter.timer is not None:
            waiter.timer.cancel()
            waiter.timer = None
        return True

    def _fail(self, waiter: _Waiter[T], error: Exception) -> None:
        if self._leave(waiter) and not waiter.future.done():
            waiter.future.set_exception(error)

    def _make_place(self, key: str, priority: Priority) -> None:
        """Send the newest of the key with the most away, if that is fairer than refusing who comes."""
        mine = len(self._flows[priority].get(key, ()))
        self.full += 1
        found = self._longest(priority)
        if found is not None:
            other, flow = found
            if _RANK[other] > _RANK[priority] or len(flow) > mine + 1:
                victim = next(reversed(flow))
                self._fail(victim, self._full(crowded=True))
                return
        keys = len({name for flows in self._flows.values() for name in flows} | {key})
        raise self._full(crowded=keys > 1 and mine * keys >= self.rules.size)

    def _longest(self, priority: Priority) -> tuple[Priority, dict[_Waiter[T], None]] | None:
        """The longest flow of the lowest class, of those that do not come before `priority`."""
        for other in reversed(_WEIGHTS):
            flows = self._flows[other]
            if flows:
                return other, max(flows.values(), key=len)
            if other == priority:
                break
        return None

    def _full(self, *, crowded: bool) -> QueueFull:
        message = f"as many requests wait as may wait ({self.rules.size})"
        return QueueFull(message, self.retry_after(), crowded=crowded)

    # -- deadlines

    def _due(self, waiter: _Waiter[T]) -> float:
        if self._pauses:
            return waiter.arrived + max(self.rules.pause_s, self.rules.deadline_s)
        return max(waiter.arrived, self._resumed_at) + self.rules.deadline_s

    def _arm(self, waiter: _Waiter[T]) -> None:
        # Rules and pauses change; who is not due yet when the timer fires gets another one.
        due = min(self._due(waiter), self._timers.time() + self.rules.deadline_s)
        waiter.timer = self._timers.call_at(due, lambda: self._check(waiter))

    def _check(self, waiter: _Waiter[T]) -> None:
        waiter.timer = None
        if self._due(waiter) > self._timers.time():
            self._arm(waiter)
        else:
            self.late += 1
            seconds = self._timers.time() - waiter.arrived
            what = "the model is paused" if self._pauses else "every back end had as much as it may have"
            error = TooLate(f"{what} for {seconds:.0f} s", self.retry_after(), paused=bool(self._pauses))
            self._fail(waiter, error)

    def _all(self) -> list[_Waiter[T]]:
        return [waiter for flows in self._flows.values() for flow in flows.values() for waiter in flow]


def _was_given(future: asyncio.Future[T]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None

"""Counting together with other gateways in one Valkey or Redis."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
from collections import OrderedDict
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from random import getrandbits
from typing import Any

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from citadel_llm.gateway.limits.local import quota_refusals
from citadel_llm.gateway.limits.scripts import RENEW, RESERVE, SETTLE
from citadel_llm.gateway.limits.subjects import (
    CONCURRENT,
    REQUESTS_PER_MINUTE,
    TOKENS_PER_MINUTE,
    Decision,
    Refusal,
    Reservation,
    Standing,
    Subject,
    tighter,
    worst,
)
from citadel_llm.schema.gateway_access import LimitSettings
from citadel_llm.telemetry import get_logger

_PREFIX = "citadel:{limits}:"
_BATCH = 64
_MAX_WAITING = 20_000
_MAX_OWED = 10_000
_FAILURES = (RedisError, OSError, TimeoutError)
_log = get_logger("citadel.gateway.limits")


@dataclass(slots=True)
class _Call:
    """One script to run. `done` is None when nobody waits for its answer."""

    script: str
    keys: list[str]
    arguments: list[str | int | float]
    done: asyncio.Future[Any] | None = None
    owes: int = 0
    """Tokens of its subjects' day and month that would be lost with it."""
    subjects: Sequence[Subject] = ()


@dataclass(slots=True)
class SharedDecision:
    """What the store found. `second` is when it counted the request, in its own time."""

    decision: Decision
    second: int
    lease: str


class SharedStore:
    """One connection to the store. What waits while a batch is on its way goes with the next one.

    Nothing here waits for a store that is down: `decide` answers None at once until it is back.
    """

    def __init__(self, settings: LimitSettings, password: str | None = None) -> None:
        """`settings.store_url` must be given."""
        self.up = False
        self.failures = 0
        self.dropped = 0
        self._settings = settings
        self._client = _client(settings, password)
        self._digests: dict[str, str] = {}
        self._waiting: list[_Call] = []
        self._leases: dict[str, list[str]] = {}
        self._owed: OrderedDict[Subject, int] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._drainer: asyncio.Task[None] | None = None
        self._said_down = False

    async def start(self) -> None:
        """Connect, or keep trying in the background."""
        self._spawn(self._renew())
        if not await self._try():
            self._spawn(self._recover())

    async def close(self) -> None:
        """Settle what is left, for a moment, and end."""
        if self._drainer is not None:
            await asyncio.wait({self._drainer}, timeout=self._settings.store_timeout_s)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.up = False
        self._give_up(self._waiting)
        with contextlib.suppress(*_FAILURES):
            await self._client.aclose()

    # -- what requests do

    async def decide(self, subjects: Sequence[Subject], tokens: int) -> SharedDecision | None:
        """Count a request in the store, or let it refuse. None when the store cannot be asked."""
        if not self.up or len(self._waiting) >= _MAX_WAITING:
            return None
        lease = f"{getrandbits(96):024x}"
        arguments: list[str | int | float] = [tokens, lease, self._settings.lease_s]
        for subject in subjects:
            arguments += _numbers(subject)
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._enqueue(_Call(RESERVE, _keys(subjects), arguments, done))
        try:
            reply = await done
        except asyncio.CancelledError:
            # The store may have counted it: what it holds is given back.
            self.settle(Reservation(subjects, tokens, lease=lease), tokens, 0)
            raise
        if reply is None:
            return None
        allowed, second, micros, found = reply
        now = int(second) + int(micros) / 1e6
        decision = _decision(subjects, tokens, bool(allowed), found, now)
        if decision.refusal is None:
            running = [_key_names(s.name)[2] for s in subjects if s.limits.concurrent_requests is not None]
            if running:
                self._leases[lease] = running
        return SharedDecision(decision, int(second), lease)

    def settle(self, reservation: Reservation, prompt: int, completion: int) -> None:
        """Put the real numbers in the place of the reserved one. It does not wait."""
        subjects, lease = reservation.subjects, reservation.lease
        # Of a request that was decided without it, the store has counted nothing yet.
        correction = prompt - (reservation.tokens if lease is not None else 0)
        if lease is not None:
            self._leases.pop(lease, None)
        if not self.up or len(self._waiting) >= _MAX_WAITING:
            self._owe(subjects, correction + completion)
            return
        arguments: list[str | int | float] = [lease or "", reservation.shared_second, correction, completion]
        arguments += [_token_counts(subject) for subject in subjects]
        owes = correction + completion
        self._enqueue(_Call(SETTLE, _keys(subjects), arguments, owes=owes, subjects=subjects))

    def _owe(self, subjects: Sequence[Subject], tokens: int) -> None:
        """Remember tokens of the day and the month for a store that is away."""
        for subject in subjects:
            if _has_quota(subject):
                self._owed[subject] = self._owed.get(subject, 0) + tokens
        while len(self._owed) > _MAX_OWED:
            self._owed.popitem(last=False)
            self.dropped += 1

    # -- the connection

    def _enqueue(self, call: _Call) -> None:
        self._waiting.append(call)
        if self._drainer is None:
            self._drainer = self._spawn(self._drain())

    async def _drain(self) -> None:
        batch: list[_Call] = []
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
                async with asyncio.timeout(self._settings.store_timeout_s):
                    replies = await self._run(batch)
                done, batch = batch, []
                for call, reply in zip(done, replies, strict=True):
                    _resolve(call, reply)
        except _FAILURES as error:
            self._fail(error)
        finally:
            self._drainer = None
            self._give_up(batch)
            if not self.up:
                self._give_up(self._waiting)
                self._waiting = []

    async def _run(self, batch: Sequence[_Call]) -> list[Any]:
        """Run scripts in one round trip; in one more when the store has forgotten them."""
        replies = await self._send(batch)
        lost = [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if lost:
            await self._load()
            again = await self._send([batch[index] for index in lost])
            for index, reply in zip(lost, again, strict=True):
                replies[index] = reply
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    async def _send(self, batch: Sequence[_Call]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for call in batch:
            arguments = [str(argument) for argument in call.arguments]
            await pipeline.evalsha(self._digests[call.script], len(call.keys), *call.keys, *arguments)
        return await pipeline.execute(raise_on_error=False)

    async def _load(self) -> None:
        for script in (RESERVE, SETTLE, RENEW):
            self._digests[script] = await self._client.script_load(script)

    async def _try(self) -> bool:
        """Whether the store answers; if so, requests may ask it from now on."""
        try:
            async with asyncio.timeout(max(1.0, self._settings.store_timeout_s)):
                await self._load()
                await self._pay()
        except _FAILURES as error:
            self._fail(error)
            return False
        self.up = True
        self._said_down = False
        _log.info("limits are shared", store=_shown(self._settings))
        return True

    async def _pay(self) -> None:
        """Tell the store what was used while it was away."""
        owed, self._owed = self._owed, OrderedDict()
        calls = [_Call(SETTLE, _keys([subject]), ["", 0, tokens, 0, 2]) for subject, tokens in owed.items()]
        try:
            for start in range(0, len(calls), _BATCH):
                await self._run(calls[start : start + _BATCH])
        except BaseException:
            for subject, tokens in owed.items():
                self._owed[subject] = self._owed.get(subject, 0) + tokens
            raise

    async def _recover(self) -> None:
        while not self.up:
            await asyncio.sleep(self._settings.store_retry_s)
            with contextlib.suppress(*_FAILURES):
                await self._client.connection_pool.disconnect()
            await self._try()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._settings.lease_s / 3)
            self.renew()

    def renew(self) -> None:
        """Keep the places of running requests, which lapse when a gateway dies."""
        for lease, keys in self._leases.items() if self.up else ():
            if len(self._waiting) < _MAX_WAITING:
                self._enqueue(_Call(RENEW, keys, [lease, self._settings.lease_s]))

    def _fail(self, error: Exception) -> None:
        self.failures += 1
        if not self._said_down:
            self._said_down = True
            reason = str(error) or type(error).__name__
            _log.warning(
                "the store of limits cannot be used; this gateway's own counts hold",
                store=_shown(self._settings),
                reason=reason,
            )
        if self.up:
            self.up = False
            self._spawn(self._recover())

    def _give_up(self, calls: Sequence[_Call]) -> None:
        for call in calls:
            _resolve(call, None)
            if call.owes:
                self._owe(call.subjects, call.owes)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _client(settings: LimitSettings, password: str | None) -> redis.Redis:
    if settings.store_url is None:
        raise ValueError("store_url is not set")
    return redis.Redis.from_url(
        settings.store_url,
        username=settings.store_username,
        password=password,
        socket_timeout=max(1.0, settings.store_timeout_s),
        socket_connect_timeout=max(1.0, settings.store_timeout_s),
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
        client_name="citadel-gateway",
    )


def _resolve(call: _Call, reply: Any) -> None:
    if call.done is not None and not call.done.done():
        call.done.set_result(reply)


@functools.lru_cache(maxsize=4096)
def _key_names(name: str) -> tuple[str, str, str, str]:
    """Names of keys and users stay here: the store sees a digest of them."""
    digest = hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
    base = f"{_PREFIX}{digest}:"
    return base + "r", base + "t", base + "c", base + "q"


def _keys(subjects: Sequence[Subject]) -> list[str]:
    return [key for subject in subjects for key in _key_names(subject.name)]


def _numbers(subject: Subject) -> list[int]:
    limits = subject.limits
    return [
        limits.requests_per_minute or 0,
        limits.tokens_per_minute or 0,
        limits.concurrent_requests or 0,
        limits.tokens_per_day or 0,
        limits.tokens_per_month or 0,
    ]


def _has_quota(subject: Subject) -> bool:
    return subject.limits.tokens_per_day is not None or subject.limits.tokens_per_month is not None


def _token_counts(subject: Subject) -> int:
    """What the script for settling is told of a subject: 1 for a limit per minute, 2 for a quota, or both."""
    return int(subject.limits.tokens_per_minute is not None) + 2 * _has_quota(subject)


def _decision(
    subjects: Sequence[Subject], tokens: int, allowed: bool, found: Sequence[Sequence[int]], now: float
) -> Decision:
    """The store's numbers in the form that local decisions have."""
    requests = left_tokens = None
    refusals: list[Refusal] = []
    for subject, numbers in zip(subjects, found, strict=True):
        r_used, r_wait, r_reset, t_used, t_wait, t_reset, running, by_day, by_month = map(int, numbers)
        limit = subject.limits.requests_per_minute
        if limit is not None:
            left = max(0, limit - r_used - int(allowed))
            requests = tighter(requests, Standing(limit, left, 61.0 if allowed else r_reset / 1000))
            if r_used + 1 > limit:
                refusals.append(Refusal(subject, REQUESTS_PER_MINUTE, limit, r_used, 1, r_wait / 1000))
        limit = subject.limits.tokens_per_minute
        if limit is not None:
            left = max(0, limit - t_used - (tokens if allowed else 0))
            left_tokens = tighter(left_tokens, Standing(limit, left, 61.0 if allowed else t_reset / 1000))
            if t_used + tokens > limit:
                wait = None if tokens > limit else t_wait / 1000
                refusals.append(Refusal(subject, TOKENS_PER_MINUTE, limit, t_used, tokens, wait))
        limit = subject.limits.concurrent_requests
        if limit is not None and running >= limit:
            refusals.append(Refusal(subject, CONCURRENT, limit, running, 1, 1.0))
        refusals += quota_refusals(subject, by_day, by_month, tokens, now)
    if allowed:
        return Decision(None, requests, left_tokens)
    return Decision(worst(refusals), requests, left_tokens)


def _shown(settings: LimitSettings) -> str:
    return (settings.store_url or "").split("?")[0]

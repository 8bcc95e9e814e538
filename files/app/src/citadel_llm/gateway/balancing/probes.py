"""Active probes: /health, the engine's own numbers, and now and then one real token."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Literal

from citadel_llm.gateway.balancing.backend import BackendState, EngineLoad, Health
from citadel_llm.gateway.balancing.policies import Random
from citadel_llm.schema.resilience import Probes
from citadel_llm.telemetry import get_logger

Ask = Callable[[BackendState, str, str, bytes, float], Awaitable[tuple[int, bytes]]]
"""(back end, method, path, body, timeout in seconds) → status and body. Raises OSError, TimeoutError
included.
"""
Result = Literal["passed", "failed", "timeout"]

_log = get_logger("citadel.gateway.probes")
_REAL: dict[str, tuple[str, dict[str, object]]] = {
    "generate": ("/v1/completions", {"prompt": "Hello", "max_tokens": 1, "temperature": 0}),
    "embed": ("/v1/embeddings", {"input": "Hello"}),
    "score": ("/v1/score", {"text_1": "Hello", "text_2": "Hello"}),
}
_SAMPLE = re.compile(
    rb"^vllm:(num_requests_running|num_requests_waiting|kv_cache_usage_perc|gpu_cache_usage_perc"
    rb"|prompt_tokens_total|generation_tokens_total)"
    rb"(?:\{[^}\n]*\})?[ \t]+([0-9.eE+-]+)[ \t]*$",
    re.MULTILINE,
)


def engine_load(exposition: bytes) -> EngineLoad | None:
    """What an engine's /metrics say of its load; None when they do not have it."""
    running: list[float] = []
    waiting: list[float] = []
    cache: list[float] = []
    tokens = 0.0
    for name, text in _SAMPLE.findall(exposition):
        try:
            value = float(text)
        except ValueError:
            continue
        if name == b"num_requests_running":
            running.append(value)
        elif name == b"num_requests_waiting":
            waiting.append(value)
        elif name.endswith(b"tokens_total"):
            tokens += value
        else:
            cache.append(value)
    if not running and not waiting:
        return None
    # One engine may have several schedulers: requests add up, and the fullest cache is the one that hurts.
    return EngineLoad(sum(running), sum(waiting), max(cache, default=0.0), tokens)


class Prober:
    """Decides when which back end is asked what, and tells the back ends what was found.

    `tick` is called a few times per second; it starts what is due and never waits. Nothing is asked of a back
    end while it is being asked, so one that hangs costs one request.
    """

    def __init__(
        self,
        rules: Probes,
        ask: Ask,
        *,
        time: Callable[[], float],
        random: Random,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self.results: dict[tuple[str, str, str, Result], int] = {}
        """(model, back end, kind, result) → how often."""
        self._rules = rules
        self._ask = ask
        self._time = time
        self._random = random
        self._wake = wake
        self._due: dict[BackendState, float] = {}
        self._rounds: dict[BackendState, int] = {}
        self._known: dict[BackendState, Health] = {}
        self._tasks: dict[BackendState, asyncio.Task[None]] = {}
        self._places = asyncio.Semaphore(rules.concurrency)

    def tick(self, backends: Iterable[tuple[BackendState, str]]) -> None:
        """Start the probes that are due. `backends` are all of the snapshot, each with its model's task."""
        now = self._time()
        present = set()
        for backend, task in backends:
            present.add(backend)
            self._tell(backend, now)
            self._give_up(backend, now)
            if backend in self._tasks or not self._rules.enabled:
                continue
            suspected = backend.watch(now) and not backend.stalled
            due = self._due.get(backend)
            if due is None:  # the first ones are spread, so that 500 back ends are not asked at once
                due = self._due[backend] = now + self._random() * self._rules.interval_s
            if suspected or now >= due:
                self._due[backend] = now + self._rules.interval_s * (0.9 + 0.2 * self._random())
                self._start(backend, task)
        for gone in [backend for backend in self._due if backend not in present]:
            self._forget(gone)
        self._wake()

    async def close(self) -> None:
        """End every probe."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def probe(self, backend: BackendState, task: str) -> None:
        """One round on one back end."""
        self._rounds[backend] = number = self._rounds.get(backend, 0) + 1
        if backend.watch(self._time()):
            await self._real(backend, task)
            return
        if not await self._health(backend):
            return
        await self._metrics(backend)
        every = self._rules.real_every
        proven = self._time() - backend.heard_at < every * self._rules.interval_s and backend.heard_at > 0
        if every and number % every == 0 and not proven:
            await self._real(backend, task)

    # -- the three questions

    async def _health(self, backend: BackendState) -> bool:
        heard = backend.heard_at
        result, _ = await self._answer(backend, "health", "GET", "/health", b"", self._rules.timeout_s)
        now = self._time()
        if result == "passed":
            backend.health_passed(now)
            return True
        if backend.heard_at > heard:
            return False  # it answers requests: only too busy for this one
        backend.health_failed(self._rules.unhealthy_after)
        # A connection that is accepted and never answered is a process that hangs, with everything it was
        # given.
        if result == "timeout" and backend.health(now) == "unhealthy" and not backend.stalled:
            self._take_out(backend)
        return False

    async def _metrics(self, backend: BackendState) -> None:
        result, body = await self._answer(backend, "metrics", "GET", "/metrics", b"", self._rules.timeout_s)
        backend.polled_load(engine_load(body) if result == "passed" else None, self._time())

    async def _real(self, backend: BackendState, task: str) -> None:
        path, members = _REAL.get(task, _REAL["generate"])
        body = json.dumps({"model": backend.served_model, **members}).encode()
        heard = backend.heard_at
        result, _ = await self._answer(backend, "real", "POST", path, body, self._rules.real_timeout_s)
        if result != "passed" and not backend.stalled:
            await self._metrics(backend)  # perhaps it only has too much to do
        now = self._time()
        if result == "passed":
            backend.real_passed(now)
        elif backend.heard_at > heard and not backend.stalled:
            backend.watch(now)  # others got bytes meanwhile: it works, however much it has to do
        elif not backend.stalled:
            self._take_out(backend)
        self._tell(backend, now)

    async def _answer(
        self, backend: BackendState, kind: str, method: str, path: str, body: bytes, timeout_s: float
    ) -> tuple[Result, bytes]:
        result: Result
        answer = b""
        try:
            status, answer = await self._ask(backend, method, path, body, timeout_s)
            # What it refuses, it answers: an engine may have no /v1/completions, or a server no /health.
            result = "passed" if status < 500 else "failed"
        except TimeoutError:
            result = "timeout"
        except OSError:
            result = "failed"
        counted = (backend.model, backend.name, kind, result)
        self.results[counted] = self.results.get(counted, 0) + 1
        return result, answer

    # -- what follows

    def _take_out(self, backend: BackendState) -> None:
        moved = backend.real_failed()
        _log.error("back end hangs", backend=backend.name, model=backend.model, requests_moved=len(moved))
        for abandon in moved:
            abandon()

    def _give_up(self, backend: BackendState, now: float) -> None:
        begun = backend.given_up(now)
        if begun:
            _log.error(
                "back end hangs within answers",
                backend=backend.name,
                model=backend.model,
                answers_ended=len(begun),
            )
        for abandon in begun:
            abandon()

    def _tell(self, backend: BackendState, now: float) -> None:
        """One line in the log for each change of a back end's state."""
        health = backend.health(now)
        before = self._known.setdefault(backend, "up")
        if health in (before, "half_open"):
            return  # a trial is no news, its result is
        self._known[backend] = health
        tell = _log.info if health in ("up", "resting") else _log.warning
        tell("back end changed", backend=backend.name, model=backend.model, state=health, before=before)

    def _start(self, backend: BackendState, task: str) -> None:
        async def round_() -> None:
            async with self._places:
                await self.probe(backend, task)

        started = self._tasks[backend] = asyncio.create_task(round_())
        started.add_done_callback(lambda done: self._done(backend, done))

    def _done(self, backend: BackendState, done: asyncio.Task[None]) -> None:
        if self._tasks.get(backend) is done:
            del self._tasks[backend]
        if not done.cancelled() and done.exception() is not None:
            _log.error("a probe failed", backend=backend.name, model=backend.model, exc_info=done.exception())

    def _forget(self, backend: BackendState) -> None:
        """A back end that the snapshot no longer has."""
        running = self._tasks.pop(backend, None)
        if running is not None:
            running.cancel()
        self._due.pop(backend, None)
        self._rounds.pop(backend, None)
        self._known.pop(backend, None)
        for counted in [counted for counted in self.results if counted[:2] == (backend.model, backend.name)]:
            del self.results[counted]

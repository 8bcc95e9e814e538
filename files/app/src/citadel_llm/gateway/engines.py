"""The gateway's side towards engines: their connections, what is known of them, and asking how they are."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass

from citadel_llm.gateway.balancing.backend import BackendState, Rules
from citadel_llm.gateway.balancing.balancer import Balancer
from citadel_llm.gateway.balancing.metrics import BalancingCollector, QueueTime
from citadel_llm.gateway.balancing.probes import Prober
from citadel_llm.gateway.balancing.route import Surroundings
from citadel_llm.gateway.metrics import GatewayMetrics
from citadel_llm.gateway.transport.pool import Origin, Pool
from citadel_llm.schema.gateway import GatewaySettings
from citadel_llm.schema.snapshot import RoutingSnapshot
from citadel_llm.telemetry import get_logger

_TICK_S = 0.25
_log = get_logger("citadel.gateway.engines")


@dataclass(frozen=True, slots=True)
class Probe:
    """What asking a back end for its health found."""

    up: bool
    detail: str


class Engines:
    """The connections to all engines, the choice among them, and the probes. Made in the running loop."""

    def __init__(self, settings: GatewaySettings, metrics: GatewayMetrics) -> None:
        self.settings = settings
        self.pool = Pool(connect_s=settings.timeouts.connect_s, keepalive_s=settings.backends.keepalive_s)
        self.random = random.random
        self.copies = 0
        self.loop = asyncio.get_running_loop()
        self._origins: dict[str, Origin] = {}
        self._queue_time = QueueTime(metrics.registry)
        self.balancer = Balancer(
            Surroundings(
                timers=self.loop,
                random=self.random,
                rules=Rules(settings.breaker, settings.slow_start, settings.stall),
                retries=settings.retries,
                prefix=settings.prefix_affinity,
                waited=self._queue_time.waited,
            )
        )
        self.prober = Prober(
            settings.probes, self.ask, time=self.loop.time, random=self.random, wake=self.balancer.wake
        )
        metrics.registry.register(BalancingCollector(self.balancer, self.prober, self.loop.time))

    def use(self, snapshot: RoutingSnapshot) -> None:
        """Serve what a snapshot says from now on."""
        before = set(self.balancer.routes)
        self.balancer.apply(snapshot)
        self._queue_time.keep_only(set(self.balancer.routes), before)
        addresses = {backend.url for backend in self.balancer.backends.values()}
        self._origins = {url: self._origins.get(url) or Origin.of(url) for url in addresses}

    def origin(self, backend: BackendState) -> Origin:
        """Where a back end listens."""
        found = self._origins.get(backend.url)
        return found if found is not None else Origin.of(backend.url)  # a reload has just dropped it

    async def watch(self) -> None:
        """Probe the back ends and wake those who wait, until it is cancelled."""
        try:
            while True:
                await asyncio.sleep(_TICK_S)
                try:
                    self.tick()
                except Exception:
                    _log.exception("back ends could not be watched")
        finally:
            await self.prober.close()

    def tick(self) -> None:
        """Start the probes that are due."""
        self.prober.tick(self._tasks())

    def _tasks(self) -> Iterator[tuple[BackendState, str]]:
        for route in self.balancer.routes.values():
            for backend in route.backends:
                yield backend, route.task

    def failed(self, backend: BackendState, cause: str, reason: str) -> None:
        """Write down why an attempt failed, if it is the first one in a row."""
        if backend.breaker.in_a_row == 0:
            _log.warning(
                "back end failed", backend=backend.name, model=backend.model, cause=cause, reason=reason
            )

    def close(self) -> None:
        self.pool.close()

    # -- asking by ourselves

    async def ask(
        self, backend: BackendState, method: str, path: str, body: bytes, timeout_s: float
    ) -> tuple[int, bytes]:
        """Status and body of one request of the gateway's own. Raises OSError, TimeoutError included."""
        origin = self.origin(backend)
        head = f"{method} {path} HTTP/1.1\r\nhost: {origin.authority.decode()}\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        request = head.encode() + body
        async with asyncio.timeout(timeout_s):
            return await self.pool.fetch(origin, request)

    async def probe(self, backend: BackendState) -> Probe:
        """Ask a back end's /health. It never raises for a back end that does not answer."""
        limit = self.settings.backends.probe_timeout_s
        try:
            status, _ = await self.ask(backend, "GET", "/health", b"", limit)
        except TimeoutError:
            return Probe(False, f"no answer in {limit:g} s")
        except OSError as error:
            return Probe(False, str(error))
        if status != 200:
            return Probe(False, f"HTTP {status}")
        backend.health_passed(self.loop.time())
        if backend.stalled:
            return Probe(False, "HTTP 200, but it answers no request")
        return Probe(True, "HTTP 200")

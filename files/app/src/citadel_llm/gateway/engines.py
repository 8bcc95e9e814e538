"""The gateway's side towards engines: which one is asked, and what is learnt from how it answers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from citadel_llm.gateway.metrics import GatewayMetrics
from citadel_llm.gateway.table import BackendState, ModelRoute
from citadel_llm.gateway.transport.client import Pool
from citadel_llm.schema.gateway import GatewaySettings
from citadel_llm.telemetry import get_logger

_log = get_logger("citadel.gateway.engines")


@dataclass(frozen=True, slots=True)
class Probe:
    """What asking a back end for its health found."""

    up: bool
    detail: str


class Engines:
    """The pool of connections to all engines, and the one place that is told how each attempt went."""

    def __init__(self, settings: GatewaySettings, metrics: GatewayMetrics) -> None:
        self.settings = settings
        self.pool = Pool(connect_s=settings.timeouts.connect_s, keepalive_s=settings.backends.keepalive_s)
        self._metrics = metrics

    def close(self) -> None:
        self.pool.close()

    # -- choosing

    def choose(
        self,
        route: ModelRoute,
        now: float,
        refused: set[BackendState],
        lost: set[BackendState],
    ) -> BackendState | None:
        """The back end for the next attempt; None when there is none left.

        `refused` are those that this request could not reach; `lost` those that closed its connection before
        the first byte: they are asked again only when there is no other.
        """
        if not refused and not lost:
            return route.choose(now)
        return route.choose(now, refused | lost) or route.choose(now, refused)

    # -- what became of an attempt

    def attempt_begins(self, backend: BackendState) -> None:
        """A request is sent to a back end; `attempt_ends` follows in every case."""
        backend.in_flight += 1

    def attempt_ends(self, backend: BackendState) -> None:
        backend.in_flight -= 1

    def connected(self, backend: BackendState) -> None:
        """A new connection has been opened."""
        backend.down_until = 0.0

    def first_byte(self, backend: BackendState, status: int) -> None:  # noqa: ARG002 (a seam)
        """The first part of an answer's body, or its end, has arrived."""
        if backend.failing:
            self._recovered(backend)

    def finished(self, backend: BackendState) -> None:
        """An answer is complete."""

    def abandoned(self, backend: BackendState, cause: str) -> None:
        """The gateway closed the connection: the client left, or it took too long."""

    def unreachable(self, backend: BackendState, reason: str, now: float) -> None:
        """No connection could be opened."""
        backend.down_until = now + self.settings.backends.cooldown_s
        self.failed(backend, "unreachable", reason)

    def failed(self, backend: BackendState, cause: str, reason: str) -> None:
        """Count a failure of a back end, and tell of the first one in a row."""
        self._metrics.backend_failures.labels(backend.model, backend.name, cause).inc()
        self._metrics.backend_up.labels(backend.model, backend.name).set(0)
        if not backend.failing:
            backend.failing = True
            _log.warning(
                "back end failed", backend=backend.name, model=backend.model, cause=cause, reason=reason
            )

    def _recovered(self, backend: BackendState) -> None:
        backend.failing = False
        backend.down_until = 0.0
        self._metrics.backend_up.labels(backend.model, backend.name).set(1)
        _log.info("back end works again", backend=backend.name, model=backend.model)

    # -- asking by ourselves

    async def probe(self, backend: BackendState) -> Probe:
        """Ask a back end's /health. It never raises for a back end that does not answer."""
        limit = self.settings.backends.probe_timeout_s
        request = b"GET /health HTTP/1.1\r\nhost: %b\r\nconnection: close\r\n\r\n" % backend.origin.authority
        try:
            async with asyncio.timeout(limit):
                status, _ = await self.pool.fetch(backend.origin, request)
            probe = Probe(status == 200, f"HTTP {status}")
        except TimeoutError:
            probe = Probe(False, f"no answer in {limit:g} s")
        except OSError as error:
            probe = Probe(False, str(error))
        self._metrics.backend_up.labels(backend.model, backend.name).set(1 if probe.up else 0)
        if probe.up:
            backend.down_until = 0.0
        return probe

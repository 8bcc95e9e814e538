"""The gateway's side towards engines: connections, attempts, and moving on to another back end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import aiohttp

from citadel_llm.gateway import errors
from citadel_llm.gateway.exchange import Exchange
from citadel_llm.gateway.metrics import GatewayMetrics
from citadel_llm.gateway.table import BackendState, ModelRoute
from citadel_llm.schema.gateway import GatewaySettings
from citadel_llm.telemetry import get_logger

_log = get_logger("citadel.gateway.engines")
_SKIP = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
_UNREACHABLE = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
_LOST = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError)


@dataclass(slots=True)
class EngineAnswer:
    """An answer whose first part has arrived. `first` is empty when its body is."""

    backend: BackendState
    response: aiohttp.ClientResponse
    first: bytes

    @property
    def event_stream(self) -> bool:
        return self.response.headers.get("Content-Type", "").startswith("text/event-stream")


@dataclass(frozen=True, slots=True)
class Probe:
    """What asking a back end for its health found."""

    up: bool
    detail: str


class Engines:
    """One pool of connections to all engines."""

    def __init__(self, settings: GatewaySettings, metrics: GatewayMetrics) -> None:
        self._settings = settings
        self._policy = settings.backends
        self._metrics = metrics
        self._session: aiohttp.ClientSession | None = None

    def start(self) -> None:
        """Open the pool, in the running loop."""
        connector = aiohttp.TCPConnector(
            limit=0, keepalive_timeout=self._policy.keepalive_s, enable_cleanup_closed=False
        )
        # The gateway's own timers watch the first byte and silences; the library's would cost one per read.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._settings.timeouts.connect_s)
        self._session = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_SKIP,
            timeout=timeout,
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def open(
        self, exchange: Exchange, route: ModelRoute, headers: list[tuple[str, str]], bodies: dict[str, bytes]
    ) -> EngineAnswer:
        """Send a request to a back end and wait for the first part of its answer.

        A back end that cannot be reached is left for another one; a connection that is lost before the first
        part is tried again as often as the settings allow. Raises ApiError when none could serve.
        """
        refused: set[BackendState] = set()
        lost: set[BackendState] = set()
        losses = 0
        while True:
            now = asyncio.get_running_loop().time()
            backend = route.choose(now, refused | lost if lost or refused else ())
            if backend is None:
                backend = route.choose(now, refused)
            if backend is None:
                raise errors.no_backend(route.name, self._policy.retry_after_s)
            try:
                answer = await self._attempt(exchange, backend, headers, bodies[backend.served_model])
            except _UNREACHABLE as error:
                refused.add(backend)
                backend.down_until = now + self._policy.cooldown_s
                self.failed(backend, "unreachable", error)
            except _LOST as error:
                lost.add(backend)
                losses += 1
                self.failed(backend, "lost", error)
                if losses > self._policy.lost_retries:
                    raise errors.backend_lost(self._policy.retry_after_s) from None
            except aiohttp.ClientError as error:
                self.failed(backend, "garbage", error)
                raise errors.backend_garbage(self._policy.retry_after_s) from None
            else:
                if backend.failing:
                    self._recovered(backend)
                return answer

    async def _attempt(
        self, exchange: Exchange, backend: BackendState, headers: list[tuple[str, str]], body: bytes
    ) -> EngineAnswer:
        if self._session is None:
            raise RuntimeError("the pool of engines has not been started")
        exchange.backend = backend.name
        response = await self._session.post(
            backend.address(exchange.path), data=body, headers=headers, allow_redirects=False
        )
        try:
            return EngineAnswer(backend, response, await response.content.readany())
        except BaseException:
            response.close()
            raise

    def failed(self, backend: BackendState, cause: str, error: Exception) -> None:
        """Count a failure of a back end, and tell of the first one in a row."""
        self._metrics.backend_failures.labels(backend.model, backend.name, cause).inc()
        self._metrics.backend_up.labels(backend.model, backend.name).set(0)
        if not backend.failing:
            backend.failing = True
            reason = str(error) or type(error).__name__
            _log.warning(
                "back end failed", backend=backend.name, model=backend.model, cause=cause, reason=reason
            )

    def _recovered(self, backend: BackendState) -> None:
        backend.failing = False
        backend.down_until = 0.0
        self._metrics.backend_up.labels(backend.model, backend.name).set(1)
        _log.info("back end works again", backend=backend.name, model=backend.model)

    async def probe(self, backend: BackendState) -> Probe:
        """Ask a back end's /health. It never raises for a back end that does not answer."""
        if self._session is None:
            return Probe(False, "the gateway is starting")
        limit = self._policy.probe_timeout_s
        try:
            async with asyncio.timeout(limit), self._session.get(backend.address("/health")) as response:
                probe = Probe(response.status == 200, f"HTTP {response.status}")
        except TimeoutError:
            probe = Probe(False, f"no answer in {limit:g} s")
        except (aiohttp.ClientError, OSError) as error:
            probe = Probe(False, str(error) or type(error).__name__)
        self._metrics.backend_up.labels(backend.model, backend.name).set(1 if probe.up else 0)
        if probe.up:
            backend.down_until = 0.0
        return probe

"""The API: who asks, for what, and who answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import unquote

from citadel_llm.gateway import errors
from citadel_llm.gateway.balancing.route import ModelRoute
from citadel_llm.gateway.engines import Engines
from citadel_llm.gateway.envelope import Envelope, read_envelope
from citadel_llm.gateway.exchange import Exchange
from citadel_llm.gateway.headers import header_lines, read_headers
from citadel_llm.gateway.metrics import NO_MODEL, GatewayMetrics
from citadel_llm.gateway.relay import Relay
from citadel_llm.gateway.snapshots import SnapshotStore
from citadel_llm.gateway.table import RoutingTable
from citadel_llm.gateway.transport.refusals import Refusal
from citadel_llm.gateway.transport.request import Request
from citadel_llm.schema.gateway import GatewaySettings
from citadel_llm.telemetry.access import AccessLog

_Endpoint = Callable[[Exchange], None]

_FLUSH_S = 0.05
_MODEL_PREFIX = b"/v1/models/"
_REFUSED_HEADERS = b"content-type: application/json\r\n"


class Gateway:
    """Serves ``/v1/*`` and ``/health``. One instance lives as long as the process.

    A request goes through `begin` (head), `_identified` (who), its endpoint, `_generate` (body), `_admitted`
    (may it go on now) and `Relay` (back ends). A step goes on at once, or raises ApiError, or leaves the next
    step to what it waits for.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        snapshots: SnapshotStore,
        engines: Engines,
        metrics: GatewayMetrics,
        access_log: AccessLog | None,
    ) -> None:
        self.settings = settings
        self._snapshots = snapshots
        self._engines = engines
        self._metrics = metrics
        self._access_log = access_log
        self._loop = asyncio.get_running_loop()
        self.in_flight = 0
        # Path → name in metrics, methods, endpoint. What is not here does not exist: an allowlist.
        self._routes: dict[bytes, tuple[str, tuple[str, ...], _Endpoint]] = {
            b"/v1/chat/completions": ("chat_completions", ("POST",), self._generation),
            b"/v1/completions": ("completions", ("POST",), self._generation),
            b"/v1/models": ("models", ("GET", "HEAD"), self._models),
            b"/health": ("health", ("GET", "HEAD"), self._health),
        }
        self._model_route = ("models", ("GET", "HEAD"), self._model)

    # -- what the transport calls

    def begin(self, request: Request) -> None:
        """A head is complete."""
        exchange = Exchange(self, request, read_headers(request))
        self.in_flight += 1
        exchange.run(self._dispatch, exchange)

    def refuse(self, refusal: Refusal) -> tuple[bytes, bytes]:
        """The transport could not make a request of what it read."""
        error = errors.refused(refusal)
        self._metrics.answered(NO_MODEL, "other", error.status)
        self._metrics.failures.labels(NO_MODEL, error.cause).inc()
        return _REFUSED_HEADERS + header_lines(error.headers), error.body()

    def _dispatch(self, exchange: Exchange) -> None:
        raw_path = exchange.request.path
        route = self._routes.get(raw_path)
        if route is None and len(raw_path) > len(_MODEL_PREFIX) and raw_path.startswith(_MODEL_PREFIX):
            route = self._model_route
        if route is None:
            raise errors.unknown_url(exchange.method, exchange.path)
        exchange.endpoint, methods, endpoint = route
        if exchange.method not in methods:
            raise errors.method_not_allowed(exchange.method, exchange.path, ", ".join(methods))
        endpoint(exchange)

    # -- endpoints

    def _health(self, exchange: Exchange) -> None:
        exchange.answer(200, b'{"status":"ok"}')

    def _models(self, exchange: Exchange) -> None:
        exchange.answer(200, self._identified(exchange).listing)

    def _model(self, exchange: Exchange) -> None:
        table = self._identified(exchange)
        name = unquote(exchange.request.path[len(_MODEL_PREFIX) :].decode("latin-1"))
        exchange.answer(200, table.document(name))

    def _generation(self, exchange: Exchange) -> None:
        self._identified(exchange)
        if exchange.headers.content_encoding not in (None, b"identity"):
            raise errors.compressed()
        exchange.wait_for_body(self._generate)

    # -- the way to a back end

    def _identified(self, exchange: Exchange) -> RoutingTable:
        """Find out who asks; the body has not been read yet. Raises ApiError (401, 503)."""
        table = self._snapshots.table
        if table is None:
            raise errors.not_loaded(self.settings.backends.retry_after_s)
        exchange.key_id = table.authenticate(exchange.headers.authorization)
        return table

    def _generate(self, exchange: Exchange, body: bytes) -> None:
        """The body is there: find the model, and ask for a place."""
        table = self._snapshots.table  # a reload may have come while the body was on its way
        if table is None:
            raise errors.not_loaded(self.settings.backends.retry_after_s)
        envelope = read_envelope(body)
        exchange.stream = envelope.stream
        route = table.route(envelope.model)
        if route.task != "generate":
            raise errors.wrong_task(route.name, route.task)
        exchange.model = route.name
        self._admitted(exchange, route, envelope)

    def _admitted(self, exchange: Exchange, route: ModelRoute, envelope: Envelope) -> None:
        """Count the request, and send it on its way."""
        gauge = self._metrics.of(route.name).in_flight
        gauge.inc()
        exchange.releases.append(gauge.dec)
        Relay(self._engines, exchange, route, envelope).begin()

    # -- afterwards

    def account(self, exchange: Exchange) -> None:
        """A request is over: count it and write its line."""
        self.in_flight -= 1
        model = exchange.model
        self._metrics.answered(model, exchange.endpoint, exchange.status)
        if exchange.cause is not None:
            self._metrics.failures.labels(model, exchange.cause).inc()
        usage = exchange.tail.usage() if exchange.tail is not None else None
        if model:
            metrics = self._metrics.of(model)
            metrics.duration.observe(exchange.age())
            if exchange.first_byte_at:
                metrics.first_byte.observe(exchange.first_byte_at - exchange.started)
            if usage is not None:
                metrics.prompt_tokens.inc(usage[0])
                metrics.completion_tokens.inc(usage[1])
        log = self._access_log
        if log is not None and exchange.endpoint != "health" and log.write_members(exchange.line(usage)):
            self._loop.call_later(_FLUSH_S, log.flush)

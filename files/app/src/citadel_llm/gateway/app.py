"""The API: who asks, for what, and who answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from urllib.parse import unquote

from citadel_llm.gateway import errors
from citadel_llm.gateway.api.checks import check_depth, check_members, user_of
from citadel_llm.gateway.api.endpoints import ENDPOINTS, Endpoint, form_of
from citadel_llm.gateway.api.forms import error_body
from citadel_llm.gateway.api.page import CONTENT_SECURITY_POLICY
from citadel_llm.gateway.balancing.route import ModelRoute
from citadel_llm.gateway.engines import Engines
from citadel_llm.gateway.envelope import Envelope, read_envelope
from citadel_llm.gateway.exchange import Exchange
from citadel_llm.gateway.headers import RequestHeaders, header_lines, new_id, read_headers
from citadel_llm.gateway.identity.principal import Principal, looks_like_token
from citadel_llm.gateway.keeping import Keeping
from citadel_llm.gateway.limits.estimate import estimate_tokens
from citadel_llm.gateway.limits.subjects import Reservation, subjects_of
from citadel_llm.gateway.metrics import NO_MODEL, GatewayMetrics
from citadel_llm.gateway.relay import Relay
from citadel_llm.gateway.snapshots import SnapshotStore
from citadel_llm.gateway.table import RoutingTable
from citadel_llm.gateway.transport.refusals import Refusal
from citadel_llm.gateway.transport.request import Request
from citadel_llm.schema.gateway import GatewaySettings
from citadel_llm.telemetry.access import AccessLog

_Endpoint = Callable[[Exchange], None]
_Then = Callable[[Exchange, RoutingTable, Principal], None]

_FLUSH_S = 0.05
_MODEL_PREFIX = b"/v1/models/"
_REFUSED_HEADERS = b"content-type: application/json\r\n"
_NO_KEY = "You did not provide an API key. Send it as 'Authorization: Bearer KEY' or as 'x-api-key: KEY'."
_GET = ("GET", "HEAD")


class Gateway:
    """Serves the allowlist of endpoints. One instance lives as long as the process.

    A request goes through `begin` (head), `_identify` (who), its endpoint, `_generate` (body), `_count` (its
    limits), `_admit` and `Relay` (back ends). A step goes on at once, or raises ApiError, or leaves the next
    step to what it waits for.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        snapshots: SnapshotStore,
        engines: Engines,
        metrics: GatewayMetrics,
        access_log: AccessLog | None,
        keeping: Keeping,
    ) -> None:
        self.settings = settings
        self._snapshots = snapshots
        self._engines = engines
        self._metrics = metrics
        self._access_log = access_log
        self._keeping = keeping
        self._loop = asyncio.get_running_loop()
        self.in_flight = 0
        # Path → name in metrics, methods, endpoint. What is not here does not exist: an allowlist.
        self._routes: dict[bytes, tuple[str, tuple[str, ...], _Endpoint]] = {
            b"/v1/models": ("models", _GET, self._models),
            b"/health": ("health", _GET, self._health),
        }
        if settings.docs:
            self._routes[b"/docs"] = ("docs", _GET, self._docs)
            self._routes[b"/openapi.json"] = ("docs", _GET, self._openapi)
        self._apis = {endpoint.path.encode(): endpoint for endpoint in ENDPOINTS}
        for path, endpoint in self._apis.items():
            self._routes[path] = (endpoint.name, ("POST",), self._engine_endpoint)
        self._model_route = ("models", _GET, self._model)

    # -- what the transport calls

    def begin(self, request: Request) -> None:
        """A head is complete."""
        exchange = Exchange(self, request, read_headers(request, sample=self.settings.traces.sample))
        self.in_flight += 1
        exchange.run(self._dispatch, exchange)

    def refuse(self, refusal: Refusal, target: bytes) -> tuple[bytes, bytes]:
        """The transport could not make a request of what it read."""
        error = errors.refused(refusal)
        self._metrics.answered(NO_MODEL, "other", error.status)
        self._metrics.failures.labels(NO_MODEL, error.cause).inc()
        request_id = new_id()
        lines = b"%bx-request-id: %b\r\n%b" % (_REFUSED_HEADERS, request_id, header_lines(error.headers))
        form = form_of(target.decode("latin-1"))
        return lines, error_body(error, form, request_id.decode())

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

    # -- endpoints of our own

    def _health(self, exchange: Exchange) -> None:
        exchange.answer(200, b'{"status":"ok"}')

    def _docs(self, exchange: Exchange) -> None:
        headers = ((b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),)
        exchange.answer(200, self._table().docs, headers, content_type=b"text/html; charset=utf-8")

    def _openapi(self, exchange: Exchange) -> None:
        exchange.answer(200, self._table().openapi)

    def _models(self, exchange: Exchange) -> None:
        self._identify(exchange, self._list)

    def _list(self, exchange: Exchange, table: RoutingTable, principal: Principal) -> None:
        principal.require_endpoint("models")
        exchange.answer(200, table.listing(principal.rules))

    def _model(self, exchange: Exchange) -> None:
        self._identify(exchange, self._tell)

    def _tell(self, exchange: Exchange, table: RoutingTable, principal: Principal) -> None:
        principal.require_endpoint("models")
        name = unquote(exchange.request.path[len(_MODEL_PREFIX) :].decode("latin-1"))
        exchange.answer(200, table.document(name, principal.rules))

    # -- the way to a back end

    def _engine_endpoint(self, exchange: Exchange) -> None:
        exchange.api = self._apis[exchange.request.path]
        self._identify(exchange, self._accept)

    def _identify(self, exchange: Exchange, then: _Then) -> None:
        """Find out who asks; the body has not been read yet. Raises ApiError (401, 503)."""
        table = self._table()
        secret = _credential(exchange.headers)
        issuers = self._keeping.issuers
        if issuers is None or not looks_like_token(secret):
            self._identified(exchange, table.keys.find(secret, time.time()), then)
            return
        verifier = issuers.verifier
        principal = verifier.known(secret)
        if principal is not None:
            self._identified(exchange, principal, then)
        else:
            exchange.wait(verifier.verify(secret), lambda found: self._identified(exchange, found, then))

    def _identified(self, exchange: Exchange, principal: Principal, then: _Then) -> None:
        exchange.principal = principal
        exchange.key_id = principal.id
        exchange.priority = principal.rules.priority
        exchange.user = principal.user
        then(exchange, self._table(), principal)

    def _accept(self, exchange: Exchange, _table: RoutingTable, principal: Principal) -> None:
        """Take the body of a request whose owner may use the endpoint."""
        principal.require_endpoint(exchange.endpoint)
        if exchange.headers.content_encoding not in (None, b"identity"):
            raise errors.compressed()
        exchange.wait_for_body(self._generate)

    def _generate(self, exchange: Exchange, body: bytes) -> None:
        """The body is there: find the model, and ask whether the request may go on."""
        table = exchange.table = self._table()  # a reload may have come while the body was on its way
        endpoint, principal = exchange.api, exchange.principal
        assert endpoint is not None
        assert principal is not None
        envelope = read_envelope(body)
        check_depth(body, envelope.members, self.settings.max_json_depth)
        exchange.stream = envelope.stream
        route = table.route(envelope.model)
        principal.require_model(envelope.model, route.name)
        _require_endpoint(table, route, endpoint)
        check_members(envelope.members, endpoint, route.model.request_limits)
        if exchange.user is None:
            exchange.user = user_of(envelope.members)
        exchange.model = route.name
        self._count(exchange, route, envelope, principal)

    def _count(self, exchange: Exchange, route: ModelRoute, envelope: Envelope, principal: Principal) -> None:
        """Let the request in if its limits allow it. Raises ApiError (429)."""
        subjects = subjects_of(principal, route.name, route.model.limits, exchange.user)
        if not subjects:
            self._admit(exchange, route, envelope)
            return
        tokens, limiter = self._estimate(exchange, envelope), self._keeping.limiter
        reservation = limiter.reserve_now(subjects, tokens)
        if reservation is not None:
            self._counted(exchange, route, envelope, reservation)
        else:
            exchange.wait(
                limiter.reserve(subjects, tokens),
                lambda reserved: self._counted(exchange, route, envelope, reserved),
            )

    def _estimate(self, exchange: Exchange, envelope: Envelope) -> int:
        if exchange.api is None or not exchange.api.computes:
            return 0
        limits = self.settings.limits
        return estimate_tokens(
            envelope.body, bytes_per_token=limits.bytes_per_token, image_tokens=limits.image_tokens
        )

    def _counted(
        self, exchange: Exchange, route: ModelRoute, envelope: Envelope, reservation: Reservation
    ) -> None:
        exchange.reservation = reservation
        exchange.releases.append(lambda: self._keeping.settle(exchange))
        self._admit(exchange, route, envelope)

    def _admit(self, exchange: Exchange, route: ModelRoute, envelope: Envelope) -> None:
        """Send the request on its way."""
        gauge = self._metrics.of(route.name).in_flight
        gauge.inc()
        exchange.releases.append(gauge.dec)
        Relay(self._engines, exchange, route, envelope).begin()

    def _table(self) -> RoutingTable:
        """The snapshot in use. Raises ApiError (503)."""
        table = self._snapshots.table
        if table is None:
            raise errors.not_loaded(self.settings.backends.retry_after_s)
        return table

    # -- afterwards

    def account(self, exchange: Exchange) -> None:
        """A request is over: count it and write its line."""
        self.in_flight -= 1
        model = exchange.model
        self._metrics.answered(model, exchange.endpoint, exchange.status)
        if exchange.cause is not None:
            self._metrics.failures.labels(model, exchange.cause).inc()
        usage = exchange.usage()
        if model:
            metrics = self._metrics.of(model)
            metrics.duration.observe(exchange.age())
            if exchange.first_byte_at:
                metrics.first_byte.observe(exchange.first_byte_at - exchange.started)
            if usage is not None:
                metrics.prompt_tokens.inc(usage[0])
                metrics.completion_tokens.inc(usage[1])
        if self._metrics.keys is not None and exchange.key_id is not None:
            self._metrics.keys.count(exchange.key_id, model, exchange.status, usage)
        self._keeping.record(exchange)
        log = self._access_log
        if log is not None and exchange.endpoint != "health" and log.write_members(exchange.line(usage)):
            self._loop.call_later(_FLUSH_S, log.flush)


def _credential(headers: RequestHeaders) -> bytes:
    """The key or token of a request: in `Authorization: Bearer`, or in `x-api-key`. Raises ApiError (401)."""
    if headers.authorization is not None:
        scheme, _, secret = headers.authorization.partition(b" ")
        secret = secret.strip()
        if scheme.lower() == b"bearer" and secret:
            return secret
    elif headers.api_key is not None:
        secret = headers.api_key.strip()
        if secret:
            return secret
    raise errors.invalid_key(_NO_KEY)


def _require_endpoint(table: RoutingTable, route: ModelRoute, endpoint: Endpoint) -> None:
    """Raises ApiError (400) when the model is not served at the endpoint."""
    if endpoint.name in table.offers[route.name]:
        return
    if route.task not in endpoint.tasks:
        raise errors.wrong_task(route.name, route.task, endpoint.path)
    raise errors.engine_too_old(route.name, endpoint.path, endpoint.least_engine or "")

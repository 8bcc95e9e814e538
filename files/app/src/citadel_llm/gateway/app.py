"""The API: who asks, for what, and who answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from urllib.parse import unquote

from citadel_llm.gateway import errors
from citadel_llm.gateway.accounting.lines import access_line, common_members
from citadel_llm.gateway.accounting.traces import new_ids
from citadel_llm.gateway.api.checks import check_depth, check_members, user_of
from citadel_llm.gateway.api.endpoints import ENDPOINTS, form_of
from citadel_llm.gateway.api.forms import error_body
from citadel_llm.gateway.api.page import CONTENT_SECURITY_POLICY
from citadel_llm.gateway.engines import Engines
from citadel_llm.gateway.envelope import Envelope, read_envelope
from citadel_llm.gateway.exchange import Exchange
from citadel_llm.gateway.headers import Told, header_lines
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
from citadel_llm.gateway.ways import Way
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
        head = request.head
        told: Told | None = head.memo
        if told is None:
            told = head.memo = Told(head)
        exchange = Exchange(self, request, told)
        self.in_flight += 1
        exchange.run(self._dispatch, exchange)

    def refuse(self, refusal: Refusal, target: bytes) -> tuple[bytes, bytes]:
        """The transport could not make a request of what it read."""
        error = errors.refused(refusal)
        self._metrics.answered(NO_MODEL, "other", error.status)
        self._metrics.failures.labels(NO_MODEL, error.cause).inc()
        request_id, _ = new_ids()
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
        told = exchange.told
        now = time.time()
        if told.serial == table.serial and now < told.expires and told.principal is not None:
            self._identified(exchange, told.principal, then)
            return
        secret = _credential(told)
        issuers = self._keeping.issuers
        if issuers is None or not looks_like_token(secret):
            principal, expires = table.keys.look_up(secret, now)
            told.principal, told.expires, told.serial = principal, expires, table.serial
            self._identified(exchange, principal, then)
            return
        verifier = issuers.verifier
        owner = verifier.known(secret)
        if owner is not None:
            self._identified(exchange, owner, then)
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
        if exchange.told.content_encoding not in (None, b"identity"):
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
        told = exchange.told
        way: Way | None = told.way
        if way is None or not way.leads(table, principal, envelope.model):
            way = told.way = Way(table, principal, endpoint, envelope.model, self._metrics)
        route = way.route
        check_members(envelope.members, endpoint, route.model.request_limits)
        if exchange.user is None:
            exchange.user = user_of(envelope.members)
        exchange.model = route.name
        exchange.way = way
        self._count(exchange, way, envelope, principal)

    def _count(self, exchange: Exchange, way: Way, envelope: Envelope, principal: Principal) -> None:
        """Let the request in if its limits allow it. Raises ApiError (429)."""
        subjects = way.subjects
        if subjects is None:
            subjects = subjects_of(principal, way.route.name, way.model_limits, exchange.user)
        if not subjects:
            self._admit(exchange, way, envelope)
            return
        tokens, limiter = self._estimate(exchange, envelope), self._keeping.limiter
        reservation = limiter.reserve_now(subjects, tokens)
        if reservation is not None:
            exchange.reservation = reservation
            self._admit(exchange, way, envelope)
        else:
            exchange.wait(
                limiter.reserve(subjects, tokens),
                lambda reserved: self._counted(exchange, way, envelope, reserved),
            )

    def _estimate(self, exchange: Exchange, envelope: Envelope) -> int:
        if exchange.api is None or not exchange.api.computes:
            return 0
        limits = self.settings.limits
        return estimate_tokens(
            envelope.body, bytes_per_token=limits.bytes_per_token, image_tokens=limits.image_tokens
        )

    def _counted(self, exchange: Exchange, way: Way, envelope: Envelope, reservation: Reservation) -> None:
        exchange.reservation = reservation
        self._admit(exchange, way, envelope)

    def _admit(self, exchange: Exchange, way: Way, envelope: Envelope) -> None:
        """Send the request on its way."""
        gauge = exchange.gauge = way.metrics.in_flight
        gauge.value += 1
        Relay(self._engines, exchange, way.route, envelope).begin()

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
        keeping = self._keeping
        if exchange.reservation is not None:
            keeping.settle(exchange)
        model, way = exchange.model, exchange.way
        self._metrics.answered(model, exchange.endpoint, exchange.status)
        if exchange.cause is not None:
            self._metrics.failures.labels(model, exchange.cause).inc()
        usage = exchange.usage()
        age = exchange.age = time.monotonic() - exchange.started
        if way is not None:
            metrics = way.metrics
            metrics.duration.observe(age)
            if exchange.first_byte_at:
                metrics.first_byte.observe(exchange.first_byte_at - exchange.started)
            if usage is not None:
                metrics.prompt_tokens.value += usage[0]
                metrics.completion_tokens.value += usage[1]
        if self._metrics.keys is not None and exchange.key_id is not None:
            self._metrics.keys.count(exchange.key_id, model, exchange.status, usage)
        common = common_members(exchange)
        keeping.record(exchange, common)
        log = self._access_log
        if log is None or exchange.endpoint == "health":
            return
        if log.write_members(access_line(exchange, common, usage)):
            self._loop.call_later(_FLUSH_S, log.flush)


def _credential(told: Told) -> bytes:
    """The key or token of a request: in `Authorization: Bearer`, or in `x-api-key`. Raises ApiError (401)."""
    if told.authorization is not None:
        scheme, _, secret = told.authorization.partition(b" ")
        secret = secret.strip()
        if scheme.lower() == b"bearer" and secret:
            return secret
    elif told.api_key is not None:
        secret = told.api_key.strip()
        if secret:
            return secret
    raise errors.invalid_key(_NO_KEY)

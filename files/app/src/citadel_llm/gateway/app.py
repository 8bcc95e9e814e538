"""The API as a raw ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import aiohttp

from citadel_llm.gateway import errors
from citadel_llm.gateway.engines import EngineAnswer, Engines
from citadel_llm.gateway.envelope import read_envelope
from citadel_llm.gateway.errors import ApiError
from citadel_llm.gateway.exchange import ClientGone, Exchange, Message
from citadel_llm.gateway.headers import RequestHeaders, answer_headers, read_headers
from citadel_llm.gateway.metrics import GatewayMetrics
from citadel_llm.gateway.snapshots import SnapshotStore
from citadel_llm.gateway.table import ModelRoute, RoutingTable
from citadel_llm.gateway.usage import Tail
from citadel_llm.schema.gateway import GatewaySettings
from citadel_llm.telemetry import get_logger
from citadel_llm.telemetry.access import AccessLog

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
_Handler = Callable[[Exchange, RequestHeaders, Receive], Awaitable[None]]

CLIENT_GONE = "client_gone"
_CLIENT_CLOSED_REQUEST = 499
_FLUSH_S = 0.05
_MODEL_PREFIX = b"/v1/models/"
_log = get_logger("citadel.gateway")


class Gateway:
    """Serves ``/v1/*`` and ``/health``. One instance lives as long as the process."""

    def __init__(
        self,
        settings: GatewaySettings,
        snapshots: SnapshotStore,
        engines: Engines,
        metrics: GatewayMetrics,
        access_log: AccessLog | None,
    ) -> None:
        self._settings = settings
        self._timeouts = settings.timeouts
        self._snapshots = snapshots
        self._engines = engines
        self._metrics = metrics
        self._access_log = access_log
        self.in_flight = 0
        # Path → name in metrics, methods, handler. What is not here does not exist: an allowlist.
        self._routes: dict[bytes, tuple[str, tuple[str, ...], _Handler]] = {
            b"/v1/chat/completions": ("chat_completions", ("POST",), self._generate),
            b"/v1/completions": ("completions", ("POST",), self._generate),
            b"/v1/models": ("models", ("GET", "HEAD"), self._models),
            b"/health": ("health", ("GET", "HEAD"), self._health),
        }
        self._model_route = ("models", ("GET", "HEAD"), self._model)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the gateway serves HTTP, not {scope['type']}")
        headers = read_headers(scope["headers"])
        exchange = Exchange(scope, send, headers.request_id)
        self.in_flight += 1
        try:
            await self._dispatch(exchange, headers, receive)
        except (ApiError, ClientGone, asyncio.CancelledError, aiohttp.ClientError) as error:
            await self._interrupt(exchange, self._explain(exchange, error))
        except Exception:
            _log.exception("request failed", request_id=exchange.request_id, path=exchange.path)
            await self._interrupt(exchange, errors.internal())
        finally:
            self.in_flight -= 1
            self._account(exchange)

    async def _dispatch(self, exchange: Exchange, headers: RequestHeaders, receive: Receive) -> None:
        raw_path: bytes = exchange.scope["raw_path"]
        route = self._routes.get(raw_path)
        if route is None and len(raw_path) > len(_MODEL_PREFIX) and raw_path.startswith(_MODEL_PREFIX):
            route = self._model_route
        if route is None:
            raise errors.unknown_url(exchange.method, exchange.path)
        exchange.endpoint, methods, handler = route
        if exchange.method not in methods:
            raise errors.method_not_allowed(exchange.method, exchange.path, ", ".join(methods))
        await handler(exchange, headers, receive)

    # -- endpoints

    async def _health(self, exchange: Exchange, _headers: RequestHeaders, _receive: Receive) -> None:
        await exchange.answer(200, b'{"status":"ok"}')

    async def _models(self, exchange: Exchange, headers: RequestHeaders, _receive: Receive) -> None:
        table = self._authenticated(exchange, headers)
        await exchange.answer(200, table.listing)

    async def _model(self, exchange: Exchange, headers: RequestHeaders, _receive: Receive) -> None:
        table = self._authenticated(exchange, headers)
        name = unquote(exchange.scope["raw_path"][len(_MODEL_PREFIX) :].decode("latin-1"))
        await exchange.answer(200, table.document(name))

    async def _generate(self, exchange: Exchange, headers: RequestHeaders, receive: Receive) -> None:
        table = self._authenticated(exchange, headers)
        exchange.attach()
        exchange.expect("slow_client", self._timeouts.body_s)
        body = await self._read_body(exchange, headers, receive)
        envelope = read_envelope(body)
        exchange.stream = envelope.stream
        route = table.route(envelope.model)
        if route.task != "generate":
            raise errors.bad_request(
                f"The model {route.name!r} does not generate text; its task is {route.task!r}.",
                param="model",
                code="unsupported_task",
            )
        exchange.model = route.name
        bodies = {served: envelope.addressed_to(served) for served in route.served_models}
        watcher = asyncio.get_running_loop().create_task(_watch(receive, exchange))
        gauge = self._metrics.of(route.name).in_flight
        gauge.inc()
        try:
            await self._forward(exchange, route, headers, bodies)
        finally:
            gauge.dec()
            watcher.cancel()

    async def _forward(
        self, exchange: Exchange, route: ModelRoute, headers: RequestHeaders, bodies: dict[str, bytes]
    ) -> None:
        exchange.expect("first_byte_timeout", self._timeouts.first_byte_s)
        answer = await self._engines.open(exchange, route, headers.forward, bodies)
        answer.backend.in_flight += 1
        try:
            await self._relay(exchange, answer)
        except aiohttp.ClientError as error:
            self._engines.failed(answer.backend, "broken", error)
            raise
        finally:
            answer.backend.in_flight -= 1
            answer.response.close()

    async def _relay(self, exchange: Exchange, answer: EngineAnswer) -> None:
        """Pass an answer on as it arrives."""
        response = answer.response
        content = response.content
        tail = exchange.tail = Tail()
        exchange.event_stream = answer.event_stream
        exchange.expect("idle_timeout", self._timeouts.idle_s)
        if response.status >= 400:
            exchange.cause = f"engine_{response.status // 100}xx"
        await exchange.start(response.status, answer_headers(response.raw_headers, exchange.request_id))
        chunk = answer.first
        while chunk:
            tail.add(chunk)
            if content.at_eof():
                break
            await exchange.send(chunk)
            chunk = await content.readany()
            exchange.progress()
        await exchange.end(chunk)

    # -- what endpoints share

    def _authenticated(self, exchange: Exchange, headers: RequestHeaders) -> RoutingTable:
        table = self._snapshots.table
        if table is None:
            raise errors.not_loaded(self._settings.backends.retry_after_s)
        exchange.key_id = table.authenticate(headers.authorization)
        return table

    async def _read_body(self, exchange: Exchange, headers: RequestHeaders, receive: Receive) -> bytes:
        limit = self._settings.max_body_bytes
        if headers.content_length is not None and headers.content_length > limit:
            raise errors.body_too_large(limit)
        if headers.content_encoding not in (None, b"identity"):
            raise ApiError(
                415,
                "Compressed request bodies are not accepted; send the JSON as it is.",
                cause="bad_request",
                code="unsupported_content_encoding",
            )
        parts: list[bytes] = []
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            part = message.get("body", b"")
            exchange.bytes_in += len(part)
            if exchange.bytes_in > limit:
                raise errors.body_too_large(limit)
            if not message.get("more_body", False):
                return b"".join([*parts, part]) if parts else part
            parts.append(part)

    # -- when it does not go well

    def _explain(self, exchange: Exchange, error: BaseException) -> ApiError | None:
        """The error to tell the client; None when the client is gone."""
        if isinstance(error, ApiError):
            return error
        if isinstance(error, aiohttp.ClientError):
            return errors.backend_lost(self._settings.backends.retry_after_s)
        reason = CLIENT_GONE if isinstance(error, ClientGone) else exchange.cancelled_for
        if reason == CLIENT_GONE:
            return None
        if reason == "slow_client":
            return errors.body_too_slow()
        if reason == "first_byte_timeout":
            return errors.backend_timeout(reason, self._timeouts.first_byte_s)
        if reason == "idle_timeout":
            return errors.backend_timeout(reason, self._timeouts.idle_s)
        return errors.shutting_down(self._settings.backends.retry_after_s)

    async def _interrupt(self, exchange: Exchange, error: ApiError | None) -> None:
        if exchange.finished:
            return
        if error is None:
            exchange.cause = CLIENT_GONE
            exchange.status = exchange.status or _CLIENT_CLOSED_REQUEST
            exchange.finished = True
        elif exchange.status == 0:
            await exchange.fail(error)
        else:
            exchange.cause = error.cause
            if exchange.event_stream:
                # Ending the event that was cut short keeps the error from becoming a part of it.
                aligned = exchange.tail is None or exchange.tail.ends_event()
                await exchange.end((b"" if aligned else b"\n\n") + error.event())
            # Otherwise the answer stays incomplete and the server closes the connection: that tells it.

    def _account(self, exchange: Exchange) -> None:
        exchange.disarm()
        metrics = self._metrics.of(exchange.model)
        self._metrics.answered(exchange.model, exchange.endpoint, exchange.status)
        if exchange.cause is not None:
            self._metrics.failures.labels(exchange.model, exchange.cause).inc()
        usage = exchange.tail.usage() if exchange.tail is not None else None
        if exchange.model:
            metrics.duration.observe(exchange.age())
            if exchange.first_byte_at:
                metrics.first_byte.observe(exchange.first_byte_at - exchange.started)
            if usage is not None:
                metrics.prompt_tokens.inc(usage[0])
                metrics.completion_tokens.inc(usage[1])
        log = self._access_log
        if log is not None and exchange.endpoint != "health" and log.write(exchange.fields(usage)):
            asyncio.get_running_loop().call_later(_FLUSH_S, log.flush)


async def _watch(receive: Receive, exchange: Exchange) -> None:
    """Notice that the client has closed its connection, from the moment the body is complete."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            exchange.cancel(CLIENT_GONE)
            return

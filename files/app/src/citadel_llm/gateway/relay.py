"""Bringing one request to a back end, and its answer to the client."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from citadel_llm.gateway import errors
from citadel_llm.gateway.errors import ApiError, Header
from citadel_llm.gateway.exchange import Exchange
from citadel_llm.gateway.headers import answer_headers
from citadel_llm.gateway.table import BackendState, ModelRoute
from citadel_llm.gateway.transport.client import EngineConnection, Failure
from citadel_llm.gateway.usage import Tail

if TYPE_CHECKING:
    from citadel_llm.gateway.engines import Engines

_EVENT_STREAM = b"text/event-stream"


class Relay:
    """One request on its way. It makes attempts, one after the other, until a part of an answer has come.

    A back end that cannot be reached is left for another one; a connection that is lost before the first part
    is tried again as often as the settings allow. After the first part nothing is tried again.
    """

    __slots__ = (
        "_bodies",
        "_connection",
        "_engines",
        "_exchange",
        "_head",
        "_loop",
        "_losses",
        "_lost",
        "_refused",
        "_route",
        "_started",
        "backend",
    )

    def __init__(
        self, engines: Engines, exchange: Exchange, route: ModelRoute, bodies: dict[str, bytes]
    ) -> None:
        self.backend: BackendState | None = None  # the attempt under way is on it
        self._engines = engines
        self._exchange = exchange
        self._route = route
        self._bodies = bodies
        self._loop = asyncio.get_running_loop()
        self._connection: EngineConnection | None = None
        self._head: tuple[int, list[Header], int | None] | None = None
        self._started = False
        self._refused: set[BackendState] = set()
        self._lost: set[BackendState] = set()
        self._losses = 0

    def begin(self) -> None:
        """Make the first attempt. Raises ApiError when no back end can serve."""
        self._exchange.work = self
        timeouts = self._engines.settings.timeouts
        self._exchange.request.expect("first_byte_timeout", timeouts.first_byte_s)
        self._attempt()

    # -- attempts

    def _attempt(self, *, fresh: bool = False) -> None:
        now = self._loop.time()
        backend = self._engines.choose(self._route, now, self._refused, self._lost)
        if backend is None:
            raise errors.no_backend(self._route.name, self._engines.settings.backends.retry_after_s)
        exchange = self._exchange
        exchange.backend = backend.name
        self.backend = backend
        self._head = None
        self._engines.attempt_begins(backend)
        body = self._bodies[backend.served_model]
        request = b"POST %b HTTP/1.1\r\nhost: %b\r\n%bcontent-length: %d\r\n\r\n%b" % (
            exchange.request.path,
            backend.origin.authority,
            exchange.headers.forward,
            len(body),
            body,
        )
        self._connection = self._engines.pool.send(backend.origin, request, self, fresh=fresh)

    def _leave(self) -> BackendState:
        """The attempt is over."""
        backend, self.backend = self.backend, None
        assert backend is not None
        self._connection = None
        self._engines.attempt_ends(backend)
        return backend

    # -- what the connection to the engine tells

    def on_connected(self) -> None:
        assert self.backend is not None
        self._engines.connected(self.backend)

    def on_head(self, status: int, headers: list[Header], length: int | None) -> None:
        # Without a part of the body it can still be tried elsewhere, so the client is not told yet.
        self._head = (status, headers, length)

    def on_data(self, data: bytes) -> None:
        exchange = self._exchange
        if not self._started:
            self._start()
        else:
            exchange.request.progress()
        assert self.backend is not None
        self.backend.alive_at = self._loop.time()
        assert exchange.tail is not None
        exchange.tail.add(data)
        exchange.send(data)

    def on_end(self, data: bytes) -> None:
        self._exchange.run(self._complete, data)

    def _complete(self, data: bytes) -> None:
        exchange = self._exchange
        if not self._started:
            self._start()
        assert exchange.tail is not None
        if data:
            exchange.tail.add(data)
        backend = self._leave()
        backend.alive_at = self._loop.time()
        self._engines.finished(backend)
        exchange.end(data)

    def on_failure(self, failure: Failure, reason: str, *, stale: bool) -> None:
        self._exchange.run(self._failed, failure, reason, stale)

    def _start(self) -> None:
        """The first part has arrived: from now on this back end's answer is the answer."""
        assert self._head is not None
        assert self.backend is not None
        self._started = True
        status, headers, length = self._head
        exchange = self._exchange
        exchange.tail = Tail()
        exchange.event_stream = any(
            name == b"content-type" and value.startswith(_EVENT_STREAM) for name, value in headers
        )
        if status >= 400:
            exchange.cause = f"engine_{status // 100}xx"
        self._engines.first_byte(self.backend, status)
        exchange.start(status, answer_headers(headers, exchange.headers.request_id), length)
        exchange.request.expect("idle_timeout", self._engines.settings.timeouts.idle_s)
        if not exchange.request.writable:
            self.on_pause()

    def _failed(self, failure: Failure, reason: str, stale: bool) -> None:
        """Try again where that can do no harm. Raises ApiError otherwise."""
        backend = self._leave()
        policy = self._engines.settings.backends
        if self._started:
            self._engines.failed(backend, "broken", reason)
            raise errors.backend_lost(policy.retry_after_s)
        if failure == "garbage":
            self._engines.failed(backend, "garbage", reason)
            raise errors.backend_garbage(policy.retry_after_s)
        if failure == "unreachable":
            self._refused.add(backend)
            self._engines.unreachable(backend, reason, self._loop.time())
        else:
            self._losses += 1
            if stale and self._losses == 1:
                # An idle connection ended just as it was used: that says nothing about the engine.
                self._attempt(fresh=True)
                return
            self._lost.add(backend)
            self._engines.failed(backend, "lost", reason)
            if self._losses > policy.lost_retries:
                raise errors.backend_lost(policy.retry_after_s)
        self._attempt()

    # -- what the client's side tells

    def on_timeout(self, reason: str) -> ApiError:
        timeouts = self._engines.settings.timeouts
        if reason == "slow_client":
            return errors.client_too_slow(timeouts.send_s)
        if self.backend is not None:
            self._engines.failed(self.backend, "timeout", reason)
        return errors.backend_timeout(
            reason, timeouts.first_byte_s if reason == "first_byte_timeout" else timeouts.idle_s
        )

    def abandon(self, cause: str) -> None:
        connection, self._connection = self._connection, None
        if self.backend is not None:
            self._engines.abandoned(self.backend, cause)
            self._leave()
        if connection is not None:
            connection.cancel()

    def on_pause(self) -> None:
        if self._connection is not None:
            self._connection.pause()
            self._exchange.request.expect("slow_client", self._engines.settings.timeouts.send_s)

    def on_resume(self) -> None:
        if self._connection is not None:
            self._connection.resume()
            self._exchange.request.expect("idle_timeout", self._engines.settings.timeouts.idle_s)

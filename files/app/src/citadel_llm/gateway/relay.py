"""Bringing one request to a back end, and its answer to the client."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from citadel_llm.gateway import errors
from citadel_llm.gateway.accounting.tokens import Tail, usage_of
from citadel_llm.gateway.admission.queue import QueueFull, TooLate
from citadel_llm.gateway.api.forms import engine_error
from citadel_llm.gateway.balancing.backend import Attempt, BackendState, Outcome
from citadel_llm.gateway.balancing.route import ModelRoute, NoBackend
from citadel_llm.gateway.envelope import Envelope
from citadel_llm.gateway.errors import ApiError
from citadel_llm.gateway.exchange import Exchange
from citadel_llm.gateway.headers import lines_of
from citadel_llm.gateway.mirror import mirror
from citadel_llm.gateway.transport.answers import AnswerHead
from citadel_llm.gateway.transport.client import EngineConnection, Failure

if TYPE_CHECKING:
    from citadel_llm.gateway.engines import Engines

_CANNOT = frozenset({429, 500, 502, 503, 504})
"""Statuses by which an engine says that it cannot; another one perhaps can."""


class Relay:
    """One request on its way. It waits for a place, and makes attempts until a part of an answer has come.

    A back end that cannot be reached is left for another one. After any other failure the request is sent
    again as far as its own limit and the model's budget allow. After the first part nothing is tried again.
    When no back end is left, the next model of the fallback chain is asked.
    """

    __slots__ = (
        "_asked_again",
        "_attempt",
        "_chain",
        "_connection",
        "_engines",
        "_envelope",
        "_error",
        "_exchange",
        "_fallback",
        "_head",
        "_length",
        "_loop",
        "_lost",
        "_mirrored",
        "_retries",
        "_route",
        "_started",
        "_wish",
    )

    def __init__(self, engines: Engines, exchange: Exchange, route: ModelRoute, envelope: Envelope) -> None:
        self._engines = engines
        self._exchange = exchange
        self._envelope = envelope
        self._loop = engines.loop
        self._chain: Iterator[ModelRoute] | None = None
        self._route = route
        self._attempt: Attempt | None = None  # the one under way
        self._connection: EngineConnection | None = None
        self._head: AnswerHead | None = None
        self._started = False
        self._mirrored = False
        self._asked_again = False
        self._fallback = False
        self._retries = 0
        self._lost: set[BackendState] | None = None
        self._error: ApiError | None = None

    def begin(self) -> None:
        """Look for a back end. Raises ApiError when none can serve."""
        self._exchange.work = self
        self._exchange.placed_at = time.monotonic()
        self._enter(self._route)

    def _enter(self, route: ModelRoute) -> None:
        self._route = route
        exchange = self._exchange
        if exchange.budget is not None:
            exchange.budget.ended()
        exchange.budget = route.budget
        route.budget.began(self._loop.time())
        self._wish = route.wish(exchange.value_of, self._envelope.prompt, self._on_hang)
        self._place()

    # -- a place

    def _place(self, *, fresh: bool = False) -> None:
        """Go to a back end at once, or wait for one."""
        try:
            attempt = self._route.try_take(self._wish)
        except NoBackend:
            self._nobody()
            return
        if attempt is not None:
            self._send(attempt, fresh=fresh)
        else:
            self._exchange.request.expect("queued", math.inf)  # the queue has deadlines of its own
            self._exchange.wait(self._acquire(), self._acquired)

    async def _acquire(self) -> Attempt | None:
        exchange = self._exchange
        route = self._route
        try:
            return await route.acquire(self._wish, exchange.key_id or "", exchange.priority)
        except QueueFull as refused:
            raise errors.queue_full(route.name, refused.retry_after_s, crowded=refused.crowded) from None
        except TooLate as refused:
            raise errors.queued_too_long(route.name, str(refused), refused.retry_after_s) from None
        except NoBackend:
            return None

    def _acquired(self, attempt: Attempt | None) -> None:
        if attempt is None:
            self._nobody()
        else:
            self._send(attempt)

    def _nobody(self) -> None:
        """No back end of this model is left: ask one again that lost the connection, or another model."""
        if self._lost and not self._asked_again:
            self._asked_again = True  # once: what kills an engine must not kill it again and again
            self._wish.avoid = self._wish.avoid - self._lost
            self._place()
            return
        if self._chain is None:
            self._chain = self._engines.balancer.chain(self._route)
            next(self._chain)
        exchange = self._exchange
        # A key's rights hold for the models that take over, too.
        following = next((route for route in self._chain if exchange.may_use(route)), None)
        if following is not None:
            self._fallback = True
            self._enter(following)
            return
        raise self._error or errors.no_backend(exchange.model, self._engines.settings.backends.retry_after_s)

    # -- attempts

    def _send(self, attempt: Attempt, *, fresh: bool = False) -> None:
        self._attempt = attempt
        backend = attempt.backend
        engines, exchange = self._engines, self._exchange
        exchange.backend = backend.name
        exchange.sent_at = time.monotonic()
        self._head = None
        body = self._envelope.addressed_to(backend.served_model)
        origin = engines.origin(backend)
        request = exchange.forward(origin.authority, body)
        exchange.request.expect("first_byte_timeout", engines.settings.timeouts.first_byte_s)
        self._connection = engines.pool.send(origin, request, self, fresh=fresh)
        if self._route.arms.shadows and not self._mirrored:
            self._mirrored = True
            mirror(engines, self._route, exchange, self._envelope)

    def _leave(self, outcome: Outcome) -> BackendState:
        """The attempt is over."""
        attempt, self._attempt = self._attempt, None
        assert attempt is not None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.cancel()
        attempt.end(outcome, self._loop.time())
        return attempt.backend

    def _again(self, outcome: Outcome, error: ApiError) -> None:
        """The attempt failed before the first part: send the request again if that is allowed."""
        backend = self._leave(outcome)
        self._error = error
        if self._retries >= self._engines.settings.retries.per_request:
            raise error
        if not self._route.budget.withdraw(self._loop.time()):
            raise error
        self._retries += 1
        self._wish.leave(backend)
        if outcome is Outcome.LOST:
            self._lost = {backend} | (self._lost or set())
        self._place()

    def _elsewhere(self) -> bool:
        """The engine says that it cannot. Whether another one that works and has room takes over."""
        assert self._attempt is not None
        if self._retries >= self._engines.settings.retries.per_request:
            return False
        self._wish.leave(self._attempt.backend)
        try:
            other = self._route.take(self._wish, trusted=True)
        except NoBackend:
            return False
        if other is None:
            return False
        if not self._route.budget.withdraw(self._loop.time()):
            other.end(Outcome.CANCELLED, self._loop.time())
            return False
        self._retries += 1
        self._leave(Outcome.FAILED)
        self._send(other)
        return True

    # -- what the connection to the engine tells

    def on_connected(self) -> None:
        """A connection proves nothing: the kernel opens it for a process that hangs, too."""

    def on_head(self, head: AnswerHead, length: int | None) -> None:
        # Without a part of the body it can still be tried elsewhere, so the client is not told yet.
        self._head = head
        self._length = length

    def on_data(self, data: bytes) -> None:
        exchange = self._exchange
        attempt = self._attempt
        assert attempt is not None
        if not self._started:
            assert self._head is not None
            if self._head.status in _CANNOT:
                exchange.run(self._first_of_refusal, data)
                return
            self._start()
        else:
            exchange.request.progress()
            attempt.backend.heard_at = self._loop.time()
        assert exchange.tail is not None
        exchange.tail.add(data)
        exchange.send(data)

    def on_end(self, data: bytes) -> None:
        self._exchange.run(self._complete, data)

    def on_failure(self, failure: Failure, reason: str, *, stale: bool) -> None:
        self._connection = None
        self._exchange.run(self._failed, failure, reason, stale)

    def _first_of_refusal(self, data: bytes) -> None:
        if self._elsewhere():
            return
        self._start()
        assert self._exchange.tail is not None
        self._exchange.tail.add(data)
        self._exchange.send(data)

    def _complete(self, data: bytes) -> None:
        exchange = self._exchange
        self._connection = None  # it is kept for another request
        head = self._head
        assert head is not None
        if not self._started:
            if head.status not in _CANNOT or not self._elsewhere():
                self._complete_at_once(head, data)
            return
        assert exchange.tail is not None
        if data:
            exchange.tail.add(data)
        self._leave(Outcome.FAILED if head.status in _CANNOT else Outcome.FINISHED)
        self._wish.abandon = None  # it leads back here, and only the collector would free what hangs on it
        exchange.end(data)

    def _complete_at_once(self, head: AnswerHead, data: bytes) -> None:
        """The whole answer has come, and is the answer."""
        exchange, attempt = self._exchange, self._attempt
        assert attempt is not None
        self._attempt = None
        if head.status in _CANNOT:
            attempt.end(Outcome.FAILED, self._loop.time())
        else:
            attempt.finish(self._loop.time())
        self._wish.abandon = None
        answer = lines_of(head)
        exchange.event_stream = answer.event_stream
        exchange.used = usage_of(data)
        if exchange.used is None:
            exchange.tail = Tail(head=exchange.form == "anthropic")
            if data:
                exchange.tail.add(data)
        if head.status >= 400:
            exchange.cause = f"engine_{head.status // 100}xx"
            if exchange.form == "anthropic":
                data = engine_error(head.status, data, exchange.request_id)
                self._length = len(data)
        lines = answer.lines + exchange.answer_lines() + self._way(attempt.backend.arm)
        exchange.respond(head.status, lines, data, self._length)

    def _start(self) -> None:
        """The first part has arrived: from now on this back end's answer is the answer."""
        assert self._head is not None
        assert self._attempt is not None
        self._started = True
        status = self._head.status
        exchange = self._exchange
        exchange.tail = Tail(head=exchange.form == "anthropic")
        answer = lines_of(self._head)
        exchange.event_stream = answer.event_stream
        if status >= 400:
            exchange.cause = f"engine_{status // 100}xx"
        if status not in _CANNOT:
            self._attempt.first_byte(self._loop.time())
        lines = answer.lines + exchange.answer_lines() + self._way(self._attempt.backend.arm)
        # An announced length would leave no room for the event that tells of an error.
        exchange.start(status, lines, None if exchange.event_stream else self._length)
        exchange.request.expect("idle_timeout", self._engines.settings.timeouts.idle_s)
        if not exchange.request.writable:
            self.on_pause()

    def _way(self, arm: str) -> bytes:
        """How the request got here, where that is not plain: for the client, and for the access log."""
        lines = b""
        notes = self._exchange.notes
        if arm:
            notes["arm"] = arm
            lines += b"x-citadel-arm: %b\r\n" % arm.encode()
        if self._fallback:
            notes["fallback"] = self._route.name
            lines += b"x-citadel-fallback: %b\r\n" % self._route.name.encode()
        if self._retries:
            notes["retries"] = self._retries
        return lines

    def _failed(self, failure: Failure, reason: str, stale: bool) -> None:
        """Try again where that can do no harm. Raises ApiError otherwise."""
        retry_after_s = self._engines.settings.backends.retry_after_s
        if not stale:
            assert self._attempt is not None
            self._engines.failed(self._attempt.backend, failure, reason)
        if self._started:
            self._leave(Outcome.BROKEN)
            self._wish.abandon = None
            raise errors.backend_lost(retry_after_s)
        if failure == "unreachable":
            self._wish.leave(self._leave(Outcome.UNREACHABLE))
            self._place()
        elif stale:
            # An idle connection ended just as it was used: that says nothing about the engine.
            self._leave(Outcome.CANCELLED)
            self._asked_again = True
            self._place(fresh=True)
        elif failure == "garbage":
            self._again(Outcome.GARBAGE, errors.backend_garbage(retry_after_s))
        else:
            self._again(Outcome.LOST, errors.backend_lost(retry_after_s))

    # -- what probes tell

    def _on_hang(self) -> None:
        if self._attempt is not None:
            self._exchange.run(self._end_begun if self._started else self._move_on)

    def _end_begun(self) -> None:
        """The engine hangs within an answer: it will not be completed."""
        self._leave(Outcome.TIMED_OUT)
        self._wish.abandon = None
        raise errors.backend_timeout("backend_hangs", self._engines.settings.stall.after_s)

    def _move_on(self) -> None:
        """The engine hangs. Its other requests move, too; the budget is not for that."""
        self._error = errors.backend_hangs(self._engines.settings.backends.retry_after_s)
        self._wish.leave(self._leave(Outcome.ABANDONED))
        self._place()

    # -- what the client's side tells

    def on_timeout(self, reason: str) -> ApiError | None:
        timeouts = self._engines.settings.timeouts
        if reason == "slow_client":
            self._exchange.request.close = True  # what lies in buffers is not kept until it is idle for long
            return errors.client_too_slow(timeouts.send_s)
        if self._attempt is None:
            return errors.internal()
        if reason == "first_byte_timeout":
            error = errors.backend_timeout(reason, timeouts.first_byte_s)
            self._exchange.run(self._again, Outcome.TIMED_OUT, error)
            return None
        self._leave(Outcome.TIMED_OUT)
        return errors.backend_timeout(reason, timeouts.idle_s)

    def abandon(self, cause: str) -> None:  # noqa: ARG002 (it says nothing about the back end)
        if self._attempt is not None:
            self._leave(Outcome.CANCELLED)
            self._wish.abandon = None

    def on_pause(self) -> None:
        if self._connection is not None:
            self._connection.pause()
            self._exchange.request.expect("slow_client", self._engines.settings.timeouts.send_s)

    def on_resume(self) -> None:
        if self._connection is not None:
            self._connection.resume()
            self._exchange.request.expect("idle_timeout", self._engines.settings.timeouts.idle_s)

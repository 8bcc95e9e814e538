"""Copies of requests for shadow arms. Their answers are thrown away, and their failures harm nobody."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from citadel_llm.gateway.balancing.backend import Attempt, Outcome
from citadel_llm.gateway.balancing.route import ModelRoute
from citadel_llm.gateway.envelope import Envelope
from citadel_llm.gateway.exchange import Exchange
from citadel_llm.gateway.transport.answers import AnswerHead
from citadel_llm.gateway.transport.client import EngineConnection, Failure

if TYPE_CHECKING:
    from citadel_llm.gateway.engines import Engines

_OUTCOMES: dict[Failure, Outcome] = {
    "unreachable": Outcome.UNREACHABLE,
    "lost": Outcome.LOST,
    "garbage": Outcome.GARBAGE,
}


def mirror(engines: Engines, route: ModelRoute, exchange: Exchange, envelope: Envelope) -> None:
    """Send a copy of a request to each shadow whose turn it is, as far as there is room for copies."""
    for arm in route.arms.mirrored(engines.random):
        if engines.copies >= engines.settings.mirroring.max_in_flight:
            return
        attempt = route.shadow(arm)
        if attempt is not None:
            Copy(engines, attempt).send(exchange, envelope)


class Copy:
    """One copy on its way. It outlives the request that it was made of, but not for long."""

    __slots__ = ("_attempt", "_connection", "_engines", "_loop", "_status", "_timer")

    def __init__(self, engines: Engines, attempt: Attempt) -> None:
        self._engines = engines
        self._attempt = attempt
        self._loop = asyncio.get_running_loop()
        self._status = 0
        self._connection: EngineConnection | None = None
        self._timer: asyncio.TimerHandle | None = None

    def send(self, exchange: Exchange, envelope: Envelope) -> None:
        """Begin; what was sent is forgotten."""
        engines, backend = self._engines, self._attempt.backend
        engines.copies += 1
        origin = engines.origin(backend)
        body = envelope.addressed_to(backend.served_model)
        request = exchange.forward(origin.authority, body)
        self._timer = self._loop.call_later(engines.settings.mirroring.timeout_s, self._too_long)
        self._connection = engines.pool.send(origin, request, self)

    def _over(self, outcome: Outcome) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._engines.copies -= 1
            self._attempt.end(outcome, self._loop.time())

    def _too_long(self) -> None:
        if self._connection is not None:
            self._connection.cancel()
        self._over(Outcome.TIMED_OUT)

    def on_connected(self) -> None:
        """Nobody waits for it."""

    def on_head(self, head: AnswerHead, length: int | None) -> None:  # noqa: ARG002
        self._status = head.status

    def on_data(self, data: bytes) -> None:  # noqa: ARG002 (it is thrown away)
        now = self._loop.time()
        if self._status < 500:
            self._attempt.first_byte(now)
        self._attempt.chunk(now)

    def on_end(self, data: bytes) -> None:
        self.on_data(data)
        self._over(Outcome.FINISHED if self._status < 500 else Outcome.FAILED)

    def on_failure(self, failure: Failure, reason: str, *, stale: bool) -> None:  # noqa: ARG002
        self._over(Outcome.CANCELLED if stale else _OUTCOMES[failure])

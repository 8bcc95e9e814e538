"""One request and its answer, from arrival to log line."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from citadel_llm.gateway import errors
from citadel_llm.gateway.accounting.tokens import Tail
from citadel_llm.gateway.accounting.traces import new_ids, server_timing, trace_of
from citadel_llm.gateway.api.endpoints import Endpoint, Form, form_of
from citadel_llm.gateway.api.forms import error_body, error_event
from citadel_llm.gateway.errors import ApiError, Header
from citadel_llm.gateway.headers import Told, header_lines
from citadel_llm.gateway.identity.principal import Principal
from citadel_llm.gateway.limits.answers import limit_lines
from citadel_llm.gateway.limits.subjects import Reservation
from citadel_llm.gateway.metrics import NO_MODEL
from citadel_llm.gateway.transport.refusals import Refusal
from citadel_llm.gateway.transport.request import Request
from citadel_llm.schema.access import Priority
from citadel_llm.schema.routes import Source
from citadel_llm.telemetry import get_logger

if TYPE_CHECKING:
    from citadel_llm.gateway.app import Gateway
    from citadel_llm.gateway.balancing.retries import RetryBudget
    from citadel_llm.gateway.balancing.route import ModelRoute
    from citadel_llm.gateway.table import RoutingTable
    from citadel_llm.gateway.ways import Way
    from citadel_llm.telemetry.tally import Count

CLIENT_GONE = "client_gone"
_CLIENT_CLOSED_REQUEST = 499
_log = get_logger("citadel.gateway")
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str).encode
T = TypeVar("T")


class Work(Protocol):
    """What is being done elsewhere for a request."""

    def on_timeout(self, reason: str) -> ApiError | None:
        """It took too long: give up and say what to tell the client, or try something else."""

    def abandon(self, cause: str) -> None:
        """Nobody waits for the result any more."""

    def on_pause(self) -> None:
        """The client reads too slowly."""

    def on_resume(self) -> None:
        """It has caught up."""


class Exchange:
    """The state of one request. Times are in seconds of the monotonic clock.

    The transport calls the ``on_…`` methods. Whatever a step raises becomes the answer: see `run`. When it is
    over, however it ended, what it holds (`gauge`, `budget`, `reservation`) is given back once.
    """

    __slots__ = (
        "_body",
        "_gateway",
        "_task",
        "_then",
        "_told",
        "age",
        "api",
        "backend",
        "budget",
        "bytes_in",
        "bytes_out",
        "cause",
        "endpoint",
        "event_stream",
        "finished",
        "first_byte_at",
        "gauge",
        "id",
        "key_id",
        "method",
        "model",
        "notes",
        "placed_at",
        "principal",
        "priority",
        "request",
        "reservation",
        "sent_at",
        "started",
        "status",
        "stream",
        "table",
        "tail",
        "told",
        "trace",
        "used",
        "user",
        "way",
        "work",
    )

    def __init__(self, gateway: Gateway, request: Request, told: Told) -> None:
        self.request = request
        self.told = told
        self.id, self.trace = new_ids()
        if told.request_id is not None:
            self.id = told.request_id
        sample = gateway.settings.traces.sample
        if told.parent is not None or sample < 1:
            self.trace = trace_of(told.parent, told.state, sample=sample)
        self.method = request.head.method
        self.endpoint = "other"
        self.started = time.monotonic()
        self.first_byte_at = 0.0
        self.placed_at = 0.0  # when a place at a back end was asked for
        self.sent_at = 0.0  # when the last attempt began
        self.key_id: str | None = None
        self.principal: Principal | None = None
        self.user: str | None = None
        self.api: Endpoint | None = None
        self.table: RoutingTable | None = None
        self.reservation: Reservation | None = None
        self.priority: Priority = "normal"
        self.model = NO_MODEL
        self.backend: str | None = None
        self.status = 0
        self.stream = False
        self.event_stream = False
        self.cause: str | None = None
        self.bytes_in = 0
        self.bytes_out = 0
        self.tail: Tail | None = None
        self.finished = False
        self.work: Work | None = None
        self.notes: dict[str, Any] = {}  # more fields for the access log
        self.age = 0.0  # seconds it took, when it is over
        self.way: Way | None = None
        self.gauge: Count | None = None
        self.budget: RetryBudget | None = None
        self._gateway = gateway
        self._body: bytes | None = None
        self._told = False
        self.used: tuple[int, int] | None = None  # tokens of prompt and completion, where they were told
        self._then: Callable[[Exchange, bytes], None] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def path(self) -> str:
        return self.request.head.path.decode("latin-1")

    @property
    def request_id(self) -> str:
        return self.id.decode("ascii")

    @property
    def form(self) -> Form:
        """The API that was called; it decides how errors are written."""
        return form_of(self.path)

    def value_of(self, source: Source) -> str | None:
        """What identifies its client: the key, the user, or a header."""
        if source == "key":
            return self.key_id
        if source == "user":
            return self.user
        wanted = source.removeprefix("header:").encode()
        headers = self.request.head.headers
        return next((value.decode("latin-1") for name, value in headers if name == wanted), None)

    def may_use(self, route: ModelRoute) -> bool:
        """Whether this request could go to another model: its owner may use it, and it has the endpoint."""
        allowed = self.principal is None or self.principal.rules.allows_model(route.name)
        offered = self.table is None or self.api is None or self.api.name in self.table.offers[route.name]
        return allowed and offered

    # -- steps

    def run(self, step: Callable[..., None], *arguments: Any) -> None:
        """Do a step of this request's work; what it raises is told to the client. It raises nothing."""
        try:
            step(*arguments)
        except ApiError as error:
            self.fail(error)
        except Exception:
            _log.exception("request failed", request_id=self.request_id, path=self.path)
            self.fail(errors.internal())

    def wait_for_body(self, then: Callable[[Exchange, bytes], None]) -> None:
        """Go on with `then` when the body is complete."""
        body, self._body = self._body, None
        if body is None:  # else it came while something else was waited for
            body = self.request.take()
            if body is not None:
                self.bytes_in = len(body)
        if body is not None:
            self.request.handler = self
            then(self, body)
            return
        self._then = then
        self.request.handler = self

    def wait(self, work: Coroutine[Any, Any, T], then: Callable[[T], None]) -> None:
        """Go on with `then` when a coroutine has its result. It is cancelled when the client leaves."""
        self.request.handler = self

        async def waiting() -> None:
            try:
                result = await work
            except ApiError as error:
                self._task = None
                self.fail(error)
            except Exception:
                self._task = None
                _log.exception("request failed", request_id=self.request_id, path=self.path)
                self.fail(errors.internal())
            else:
                self._task = None
                if not self.finished:
                    self.run(then, result)

        self._task = asyncio.get_running_loop().create_task(waiting())

    # -- what the transport tells

    def on_body(self, body: bytes) -> None:
        self.bytes_in = len(body)
        then, self._then = self._then, None
        if then is not None:
            self.run(then, self, body)
        else:
            self._body = body

    def on_refused(self, refusal: Refusal) -> None:
        self.bytes_in = self.request.received
        self.fail(errors.refused(refusal))

    def on_timeout(self, reason: str) -> None:
        error = self.work.on_timeout(reason) if self.work is not None else errors.internal()
        if error is not None:
            self.fail(error)

    def on_disconnect(self) -> None:
        if not self.finished:
            self.cause = CLIENT_GONE
            self.status = self.status or _CLIENT_CLOSED_REQUEST
            self._leave_work(CLIENT_GONE)
            self._over()

    def on_shutdown(self) -> None:
        self.fail(errors.shutting_down(self._gateway.settings.backends.retry_after_s))

    def on_pause(self) -> None:
        if self.work is not None:
            self.work.on_pause()

    def on_resume(self) -> None:
        if self.work is not None:
            self.work.on_resume()

    def forward(self, authority: bytes, body: bytes) -> bytes:
        """The request as an engine gets it."""
        told, trace = self.told, self.trace
        return b"POST %b HTTP/1.1\r\nhost: %b\r\n%bx-request-id: %b\r\n%bcontent-length: %d\r\n\r\n%b" % (
            self.request.head.path,
            authority,
            told.forward,
            self.id,
            trace.lines(),
            len(body),
            body,
        )

    # -- the answer

    def start(self, status: int, lines: bytes, length: int | None) -> None:
        """Begin an answer; it leaves with its first part."""
        self.status = status
        self.request.start(status, lines, length)

    def respond(self, status: int, lines: bytes, data: bytes, length: int | None) -> None:
        """Send a whole answer. `length` may be unknown to whoever only asked for the head."""
        self.status = status
        if data:
            self.first_byte_at = time.monotonic()
            self.bytes_out = len(data)
        self.finished = True
        self.request.respond(status, lines, data, length)
        self._over()

    def send(self, data: bytes) -> None:
        """Send a part of the body that is not the last one and not empty."""
        if self.bytes_out == 0:
            self.first_byte_at = time.monotonic()
        self.bytes_out += len(data)
        self.request.write(data)

    def end(self, data: bytes = b"") -> None:
        """Send the last part."""
        if data:
            if self.bytes_out == 0:
                self.first_byte_at = time.monotonic()
            self.bytes_out += len(data)
        self.finished = True
        self.request.finish(data)
        self._over()

    def answer(
        self,
        status: int,
        body: bytes,
        headers: tuple[Header, ...] = (),
        *,
        content_type: bytes = b"application/json",
    ) -> None:
        """Send a whole document."""
        lines = b"content-type: %b\r\nx-request-id: %b\r\n%b" % (
            content_type,
            self.id,
            header_lines(headers),
        )
        if self.reservation is not None:
            lines += limit_lines(self.reservation.decision)
        self.start(status, lines, len(body))
        self.end(body if self.method != "HEAD" else b"")

    def answer_lines(self) -> bytes:
        """What the gateway adds to an engine's headers."""
        engine_s = time.monotonic() - self.sent_at
        lines = server_timing(self.placed_at - self.started, self.sent_at - self.placed_at, engine_s)
        if self.reservation is not None:
            lines += limit_lines(self.reservation.decision)
        return b"x-request-id: %b\r\n%b" % (self.id, lines)

    def fail(self, error: ApiError) -> None:
        """Tell of an error, in whatever form is still possible."""
        if self.finished:
            return
        self.cause = error.cause
        self._leave_work(error.cause)
        if self.status == 0:
            self.answer(error.status, error_body(error, self.form, self.request_id), error.headers)
        elif self.event_stream:
            # Ending the event that was cut short keeps the error from becoming a part of it.
            aligned = self.tail is None or self.tail.ends_event()
            self.end((b"" if aligned else b"\n\n") + error_event(error, self.form, self.request_id))
        else:
            self.request.cut()
            self._over()

    def _leave_work(self, cause: str) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        work, self.work = self.work, None
        if work is not None:
            work.abandon(cause)

    def _over(self) -> None:
        """Release what was held, and account for the request; once."""
        self.finished = True
        self.work = None
        if self.gauge is not None:
            self.gauge.value -= 1
        if self.budget is not None:
            self.budget.ended()
        try:
            self._gateway.account(self)
        except Exception:
            _log.exception("request was not accounted for", request_id=self.request_id)

    def usage(self) -> tuple[int, int] | None:
        """Prompt and completion tokens, as the engine told them; it is read once."""
        if self.tail is not None and self.finished and not self._told:
            self._told = True
            self.used = self.tail.usage()
        return self.used

"""One request and its answer, from arrival to log line."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from citadel_llm.gateway.errors import ApiError, Header
from citadel_llm.gateway.metrics import NO_MODEL
from citadel_llm.gateway.usage import Tail

Message = dict[str, Any]


class ClientGone(Exception):  # noqa: N818 (it is no error of ours)
    """The client closed its connection; nobody waits for an answer."""


class Exchange:
    """The state of one request. Times are in seconds of the monotonic clock."""

    __slots__ = (
        "_loop",
        "_reason",
        "_seconds",
        "_send",
        "_task",
        "_timer",
        "alive_at",
        "backend",
        "bytes_in",
        "bytes_out",
        "cancelled_for",
        "cause",
        "endpoint",
        "event_stream",
        "finished",
        "first_byte_at",
        "key_id",
        "method",
        "model",
        "path",
        "request_id",
        "scope",
        "started",
        "status",
        "stream",
        "tail",
    )

    def __init__(self, scope: Message, send: Any, request_id: str) -> None:
        self.scope = scope
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.request_id = request_id
        self.endpoint = "other"
        self.started = time.monotonic()
        self.first_byte_at = 0.0
        self.key_id: str | None = None
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
        self.cancelled_for: str | None = None
        self._send = send
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._reason = ""
        self._seconds = 0.0
        self.alive_at = 0.0

    # -- the answer

    async def start(self, status: int, headers: list[Header]) -> None:
        """Send the status line and headers."""
        self.status = status
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def send(self, body: bytes) -> None:
        """Send a part of the body that is not the last one."""
        if self.bytes_out == 0:
            self.first_byte_at = time.monotonic()
        self.bytes_out += len(body)
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def end(self, body: bytes = b"") -> None:
        """Send the last part."""
        if self.bytes_out == 0 and body:
            self.first_byte_at = time.monotonic()
        self.bytes_out += len(body)
        self.finished = True
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def answer(self, status: int, body: bytes, headers: tuple[Header, ...] = ()) -> None:
        """Send a whole JSON document."""
        head = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"x-request-id", self.request_id.encode()),
            *headers,
        ]
        await self.start(status, head)
        await self.end(body if self.method != "HEAD" else b"")

    async def fail(self, error: ApiError) -> None:
        """Answer with an error."""
        self.cause = error.cause
        await self.answer(error.status, error.body(), error.headers)

    # -- giving up

    def attach(self) -> None:
        """Let `cancel` and the deadline end the current task's waiting."""
        self._task = asyncio.current_task()

    def cancel(self, reason: str) -> None:
        """End the waiting of the task that serves this request, once, and remember why."""
        if self._task is None or self.finished or self.cancelled_for is not None:
            return
        self.cancelled_for = reason
        self._task.cancel()

    def expect(self, reason: str, seconds: float) -> None:
        """From now on, `seconds` without `progress` end the waiting with `reason`."""
        self._reason = reason
        self._seconds = seconds
        self.alive_at = self._loop.time()
        due = self.alive_at + seconds
        if self._timer is not None:
            if self._timer.when() <= due:
                return  # it will find the new limit when it fires; most requests need one timer
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._check)

    def progress(self) -> None:
        """Something arrived."""
        self.alive_at = self._loop.time()

    def disarm(self) -> None:
        """No limit any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        due = self.alive_at + self._seconds
        if due > self._loop.time():
            self._timer = self._loop.call_at(due, self._check)
        else:
            self._timer = None
            self.cancel(self._reason)

    # -- the log

    def age(self) -> float:
        """Seconds since the request arrived."""
        return time.monotonic() - self.started

    def fields(self, usage: tuple[int, int] | None) -> dict[str, Any]:
        """The line of the access log. No content, no query string, no key."""
        fields: dict[str, Any] = {
            "request_id": self.request_id,
            "key_id": self.key_id,
            "method": self.method,
            "path": self.path[:256],
            "model": self.model or None,
            "backend": self.backend,
            "status": self.status,
            "stream": self.stream,
            "duration_ms": round(self.age() * 1000, 3),
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
        }
        if self.first_byte_at:
            fields["ttft_ms"] = round((self.first_byte_at - self.started) * 1000, 3)
        if usage is not None:
            fields["prompt_tokens"], fields["completion_tokens"] = usage
        if self.cause is not None:
            fields["cause"] = self.cause
        return fields

"""Spans of requests, sent by OTLP over HTTP in its JSON form: no packages are needed for it."""

from __future__ import annotations

import json
import queue
import threading
import urllib.request
from collections.abc import Mapping
from typing import Any

from citadel_llm.gateway.accounting.traces import Trace
from citadel_llm.telemetry import get_logger

_BATCH = 512
_MAX_WAITING = 8192
_EVERY_S = 1.0
_TIMEOUT_S = 5.0
_SERVER_KIND = 2
_ERROR = 2
_log = get_logger("citadel.gateway.traces")


class SpanExporter:
    """Takes spans from one thread and sends them from another. What cannot be sent is dropped and counted."""

    def __init__(self, endpoint: str, service: str) -> None:
        """`endpoint` is the whole URL, …/v1/traces."""
        self.sent = 0
        self.dropped = 0
        self._endpoint = endpoint
        self._resource = {"attributes": _attributes({"service.name": service})}
        self._queue: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._failing = False
        # The collector is where the settings say, whatever proxy the environment names.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def add(
        self,
        trace: Trace,
        name: str,
        started_ns: int,
        ended_ns: int,
        attributes: Mapping[str, str | int | bool],
        *,
        failed: bool,
    ) -> None:
        """Take the span of a request that is over; moments in nanoseconds since 1970. It never waits."""
        if not trace.sampled:
            return
        if self._queue.qsize() >= _MAX_WAITING:
            self.dropped += 1
            return
        span: dict[str, Any] = {
            "traceId": trace.trace.decode(),
            "spanId": trace.span.decode(),
            "name": name,
            "kind": _SERVER_KIND,
            "startTimeUnixNano": str(started_ns),
            "endTimeUnixNano": str(ended_ns),
            "attributes": _attributes(attributes),
            "status": {"code": _ERROR} if failed else {},
        }
        if trace.parent is not None:
            span["parentSpanId"] = trace.parent.decode()
        self._queue.put(span)

    def close(self, timeout_s: float = 2.0) -> None:
        """Send what is left, for at most `timeout_s`."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join(timeout_s)

    def _run(self) -> None:
        going_on = True
        while going_on:
            spans, going_on = self._next()
            if spans:
                self._send(spans)

    def _next(self) -> tuple[list[dict[str, Any]], bool]:
        spans: list[dict[str, Any]] = []
        while len(spans) < _BATCH:
            try:
                span = self._queue.get(timeout=_EVERY_S if spans else None)
            except queue.Empty:
                break
            if span is None:
                return spans, False
            spans.append(span)
        return spans, True

    def _send(self, spans: list[dict[str, Any]]) -> None:
        scope = {"scope": {"name": "citadel"}, "spans": spans}
        document = {"resourceSpans": [{"resource": self._resource, "scopeSpans": [scope]}]}
        request = urllib.request.Request(  # noqa: S310 (the settings allow http and https only)
            self._endpoint,
            data=json.dumps(document).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S):
                pass
        except OSError as error:
            self.dropped += len(spans)
            if not self._failing:
                _log.warning("spans cannot be sent", endpoint=self._endpoint, reason=str(error))
            self._failing = True
        else:
            self.sent += len(spans)
            self._failing = False


def _attributes(values: Mapping[str, str | int | bool]) -> list[dict[str, Any]]:
    return [{"key": name, "value": _value(value)} for name, value in values.items()]


def _value(value: str | int | bool) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"stringValue": value}

"""Trace context, spans and Server-Timing."""

from __future__ import annotations

import http.server
import json
import re
import threading
from typing import Any

import pytest

from citadel_llm.gateway.accounting.spans import SpanExporter
from citadel_llm.gateway.accounting.traces import server_timing, trace_of

TRACE, SPAN = b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7"


def parent(version: bytes = b"00", trace: bytes = TRACE, span: bytes = SPAN, flags: bytes = b"01") -> bytes:
    return b"-".join((version, trace, span, flags))


@pytest.mark.parametrize(
    ("header", "sampled"),
    [(parent(), True), (parent(flags=b"00"), False), (parent(b"cc") + b"-more", True), (parent(b"01"), True)],
)
def test_a_trace_is_continued(header: bytes, sampled: bool) -> None:
    trace = trace_of(header, b"vendor=1")
    assert (trace.trace, trace.parent, trace.sampled) == (TRACE, SPAN, sampled)
    assert re.fullmatch(rb"[0-9a-f]{16}", trace.span)
    assert trace.span != SPAN
    flags = b"01" if sampled else b"00"
    expected = b"traceparent: 00-%b-%b-%b\r\ntracestate: vendor=1\r\n" % (TRACE, trace.span, flags)
    assert trace.lines() == expected


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        parent()[:-1],
        parent() + b"-more",
        parent(b"ff"),
        parent(trace=b"0" * 32),
        parent(span=b"0" * 16),
        parent(trace=TRACE.upper()),
        parent() + b"\r\n",
    ],
)
def test_a_trace_begins_where_none_is_told(header: bytes | None) -> None:
    trace = trace_of(header, b"vendor=1")
    assert trace.trace != TRACE
    assert trace.parent is None
    assert re.fullmatch(rb"traceparent: 00-[0-9a-f]{32}-[0-9a-f]{16}-01\r\n", trace.lines())
    assert not trace_of(header, None, sample=0).sampled


def test_a_long_tracestate_is_dropped() -> None:
    assert b"tracestate" not in trace_of(parent(), b"a=" + b"x" * 600).lines()


def test_server_timing() -> None:
    line = b"server-timing: request;dur=0.20, queue;dur=0.00, engine;dur=81.50\r\n"
    assert server_timing(0.0002, 0.0, 0.0815) == line


class Collector(http.server.ThreadingHTTPServer):
    """Takes spans by OTLP."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []
        self.arrived = threading.Event()
        self.status = 200
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.bodies.append((self.path, self.headers["content-type"], json.loads(body)))
        self.send_response(self.server.status)
        self.end_headers()
        self.server.arrived.set()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Any:
    server = Collector()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def test_spans_are_sent_as_otlp(collector: Collector) -> None:
    exporter = SpanExporter(f"http://127.0.0.1:{collector.server_port}/v1/traces", "citadel-gateway")
    exporter.start()
    trace = trace_of(parent(), None)
    exporter.add(trace, "POST", 10, 30, {"http.response.status_code": 502, "a": "b", "c": True}, failed=True)
    exporter.add(trace_of(parent(flags=b"00"), None), "unsampled", 1, 2, {}, failed=False)
    exporter.close(30)
    ((path, content_type, document),) = collector.bodies
    assert (path, content_type) == ("/v1/traces", "application/json")
    resource = document["resourceSpans"][0]
    assert resource["resource"]["attributes"] == [
        {"key": "service.name", "value": {"stringValue": "citadel-gateway"}}
    ]
    (span,) = resource["scopeSpans"][0]["spans"]
    assert span == {
        "traceId": TRACE.decode(),
        "spanId": trace.span.decode(),
        "parentSpanId": SPAN.decode(),
        "name": "POST",
        "kind": 2,
        "startTimeUnixNano": "10",
        "endTimeUnixNano": "30",
        "attributes": [
            {"key": "http.response.status_code", "value": {"intValue": "502"}},
            {"key": "a", "value": {"stringValue": "b"}},
            {"key": "c", "value": {"boolValue": True}},
        ],
        "status": {"code": 2},
    }
    assert (exporter.sent, exporter.dropped) == (1, 0)


def test_a_collector_that_refuses_costs_spans_and_nothing_else(collector: Collector) -> None:
    collector.status = 500
    exporter = SpanExporter(f"http://127.0.0.1:{collector.server_port}/v1/traces", "s")
    exporter.start()
    exporter.add(trace_of(None, None), "x", 1, 2, {}, failed=False)
    exporter.close(30)
    assert (exporter.sent, exporter.dropped) == (0, 1)

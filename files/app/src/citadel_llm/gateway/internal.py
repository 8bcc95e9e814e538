"""The internal listener: liveness, readiness and metrics. It has no authentication and stays on loopback."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import parse_qs

from citadel_llm.gateway import operations
from citadel_llm.gateway.app import Gateway
from citadel_llm.gateway.balancing.backend import BackendState
from citadel_llm.gateway.balancing.balancer import Balancer
from citadel_llm.gateway.engines import Engines, Probe
from citadel_llm.gateway.metrics import GatewayMetrics
from citadel_llm.gateway.snapshots import SnapshotStore
from citadel_llm.gateway.table import RoutingTable
from citadel_llm.gateway.transport.refusals import Refusal
from citadel_llm.gateway.transport.request import Request
from citadel_llm.telemetry import get_logger
from citadel_llm.telemetry.access import AccessLog
from citadel_llm.telemetry.metrics import exposition

_PROBE_FRESH_S = 1.0
_JSON = "application/json"
_Answer = tuple[int, str, bytes]
_Endpoint = Callable[[Request], Coroutine[Any, Any, _Answer]]
_Operation = Callable[[Balancer, str, float], dict[str, Any] | None]
_log = get_logger("citadel.gateway.internal")


class Internal:
    """Answers what the service manager, health gates and Prometheus ask."""

    def __init__(
        self,
        gateway: Gateway,
        snapshots: SnapshotStore,
        engines: Engines,
        metrics: GatewayMetrics,
        access_log: AccessLog | None,
        *,
        expose_metrics: bool = True,
    ) -> None:
        self.draining = False
        self._gateway = gateway
        self._snapshots = snapshots
        self._engines = engines
        self._metrics = metrics
        self._access_log = access_log
        self._started = time.monotonic()
        self._probe_lock = asyncio.Lock()
        self._probes: tuple[float, RoutingTable, dict[BackendState, Probe]] | None = None
        self._routes: dict[bytes, _Endpoint] = {
            b"/live": self._live,
            b"/health": self._health,
            b"/ready": self._ready,
            b"/models": self._models,
        }
        self._actions: dict[bytes, _Endpoint] = {b"/pause": self._pause, b"/resume": self._resume}
        if expose_metrics:
            self._routes[b"/metrics"] = self._expose

    def begin(self, request: Request) -> None:
        """A head is complete."""
        reading = self._routes.get(request.path)
        acting = self._actions.get(request.path)
        if reading is None and acting is None:
            offered = ", ".join(path.decode() for path in (*self._routes, *self._actions))
            _answer(request, _json(404, {"error": f"nothing here; there is {offered}"}))
        elif reading is not None and request.method in ("GET", "HEAD"):
            request.handler = _Answering(request, reading)
        elif acting is not None and request.method == "POST":
            request.handler = _Answering(request, acting)
        else:
            accepted = "GET" if reading is not None else "POST"
            _answer(request, _json(405, {"error": f"{request.path.decode('latin-1')} accepts {accepted}"}))

    def refuse(self, refusal: Refusal, target: bytes) -> tuple[bytes, bytes]:  # noqa: ARG002
        """The transport could not make a request of what it read."""
        _, content_type, body = _json(refusal.status, {"error": refusal.message})
        return b"content-type: %b\r\n" % content_type.encode(), body

    async def _live(self, _request: Request) -> _Answer:
        return _json(200, {"status": "ok"})

    async def _health(self, _request: Request) -> _Answer:
        return _json(
            200,
            {
                "status": "draining" if self.draining else "ok",
                "uptime_s": round(time.monotonic() - self._started, 1),
                "in_flight": self._gateway.in_flight,
                "snapshot": self._snapshot(),
            },
        )

    async def _ready(self, _request: Request) -> _Answer:
        """200 when a snapshot is loaded and each of its models has a back end that answers."""
        table = self._snapshots.table
        models: dict[str, Any] = {}
        if table is not None:
            probes = await self._probe(table)
            models = {name: _model(route.backends, probes) for name, route in table.models.items()}
        ready = table is not None and not self.draining and all(model["ready"] for model in models.values())
        status = "draining" if self.draining else "ready" if ready else "not ready"
        return _json(
            200 if ready else 503, {"status": status, "snapshot": self._snapshot(), "models": models}
        )

    async def _models(self, _request: Request) -> _Answer:
        """Models, their queues and back ends, as the choice of a back end sees them."""
        return _json(200, operations.state(self._engines.balancer, asyncio.get_running_loop().time()))

    async def _pause(self, request: Request) -> _Answer:
        """Hold the requests of ?model=NAME."""
        return self._operate(request, operations.pause)

    async def _resume(self, request: Request) -> _Answer:
        """Let the requests of ?model=NAME go on."""
        return self._operate(request, operations.resume)

    def _operate(self, request: Request, operation: _Operation) -> _Answer:
        name = parse_qs(request.query.decode("latin-1")).get("model", [""])[0]
        now = asyncio.get_running_loop().time()
        document = operation(self._engines.balancer, name, now)
        if document is None:
            there = ", ".join(self._engines.balancer.routes)
            return _json(404, {"error": f"there is no model {name!r}; say ?model=NAME, one of: {there}"})
        path = request.path.decode()
        _log.warning("an operator acted", action=path, model=document["model"])
        return _json(200, document)

    async def _expose(self, request: Request) -> _Answer:
        accept = next((value.decode("latin-1") for name, value in request.headers if name == b"accept"), "")
        if self._access_log is not None:
            self._metrics.access_lines_dropped.set(self._access_log.dropped)
        self._metrics.draining.set(self.draining)
        content_type, body = exposition(self._metrics.registry, accept)
        return 200, content_type, body

    def _snapshot(self) -> dict[str, Any]:
        store = self._snapshots
        return {
            "version": store.table.version if store.table is not None else None,
            "age_s": round(store.age(), 1),
            "refused": store.refused,
            "last_error": store.last_error,
        }

    async def _probe(self, table: RoutingTable) -> dict[BackendState, Probe]:
        """Probe every back end at once. Who asks within a second gets the same result."""
        async with self._probe_lock:
            now = time.monotonic()
            if (
                self._probes is not None
                and self._probes[1] is table
                and now - self._probes[0] < _PROBE_FRESH_S
            ):
                return self._probes[2]
            backends = [backend for route in table.models.values() for backend in route.backends]
            found = await asyncio.gather(*(self._engines.probe(backend) for backend in backends))
            probes = dict(zip(backends, found, strict=True))
            self._probes = (time.monotonic(), table, probes)
            return probes


def _model(backends: tuple[BackendState, ...], probes: dict[BackendState, Probe]) -> dict[str, Any]:
    found = {backend.name: probes[backend] for backend in backends}
    return {
        "ready": any(probe.up for probe in found.values()),
        "backends": {name: {"up": probe.up, "detail": probe.detail} for name, probe in found.items()},
    }


def _json(status: int, document: dict[str, Any]) -> _Answer:
    return status, _JSON, json.dumps(document).encode() + b"\n"


def _answer(request: Request, answer: _Answer) -> None:
    status, content_type, body = answer
    request.respond(status, b"content-type: %b\r\n" % content_type.encode(), body)


class _Answering:
    """Answers one request when its endpoint has an answer."""

    def __init__(self, request: Request, endpoint: _Endpoint) -> None:
        self._request = request
        self._task = asyncio.get_running_loop().create_task(self._run(endpoint))

    async def _run(self, endpoint: _Endpoint) -> None:
        try:
            answer = await endpoint(self._request)
        except Exception:
            _log.exception("request failed", path=self._request.path.decode("latin-1"))
            answer = _json(500, {"error": "unexpected error; the log has the details"})
        if not self._request.answered:
            _answer(self._request, answer)

    def on_body(self, body: bytes) -> None:
        """Nothing is expected of it."""

    def on_refused(self, refusal: Refusal) -> None:
        self._end(_json(refusal.status, {"error": refusal.message}))

    def on_timeout(self, reason: str) -> None:
        self._end(_json(503, {"error": f"no answer in time ({reason})"}))

    def on_shutdown(self) -> None:
        self._end(_json(503, {"error": "shutting down"}))

    def on_disconnect(self) -> None:
        self._task.cancel()

    def on_pause(self) -> None:
        """An answer is one piece."""

    def on_resume(self) -> None:
        """An answer is one piece."""

    def _end(self, answer: _Answer) -> None:
        self._task.cancel()
        _answer(self._request, answer)

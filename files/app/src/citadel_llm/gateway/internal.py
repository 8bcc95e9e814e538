"""The internal listener: liveness, readiness and metrics. It has no authentication and stays on loopback."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from citadel_llm.gateway.app import Gateway, Receive, Send
from citadel_llm.gateway.engines import Engines, Probe
from citadel_llm.gateway.exchange import Message
from citadel_llm.gateway.metrics import GatewayMetrics
from citadel_llm.gateway.snapshots import SnapshotStore
from citadel_llm.gateway.table import BackendState, RoutingTable
from citadel_llm.telemetry.access import AccessLog
from citadel_llm.telemetry.metrics import exposition

_PROBE_FRESH_S = 1.0
_JSON = "application/json"
_Answer = tuple[int, str, bytes]


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
        self._routes: dict[str, Callable[[Message], Awaitable[_Answer]]] = {
            "/live": self._live,
            "/health": self._health,
            "/ready": self._ready,
        }
        if expose_metrics:
            self._routes["/metrics"] = self._expose

    async def __call__(self, scope: Message, _receive: Receive, send: Send) -> None:
        handler = self._routes.get(scope["path"])
        if handler is None:
            answer = _json(404, {"error": f"nothing here; there is {', '.join(self._routes)}"})
        elif scope["method"] not in ("GET", "HEAD"):
            answer = _json(405, {"error": f"{scope['path']} accepts GET"})
        else:
            answer = await handler(scope)
        status, content_type, body = answer
        headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body if scope["method"] != "HEAD" else b""})

    async def _live(self, _scope: Message) -> _Answer:
        return _json(200, {"status": "ok"})

    async def _health(self, _scope: Message) -> _Answer:
        return _json(
            200,
            {
                "status": "draining" if self.draining else "ok",
                "uptime_s": round(time.monotonic() - self._started, 1),
                "in_flight": self._gateway.in_flight,
                "snapshot": self._snapshot(),
            },
        )

    async def _ready(self, _scope: Message) -> _Answer:
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

    async def _expose(self, scope: Message) -> _Answer:
        accept = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"accept"), "")
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
            backends = list(table.backends.values())
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

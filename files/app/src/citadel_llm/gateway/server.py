"""The gateway's process: start, reload, drain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import AsyncIterator

import uvloop

from citadel_llm.gateway.app import Gateway
from citadel_llm.gateway.engines import Engines
from citadel_llm.gateway.internal import Internal
from citadel_llm.gateway.listener import Listener, open_sockets
from citadel_llm.gateway.metrics import GatewayMetrics
from citadel_llm.gateway.snapshots import SnapshotStore
from citadel_llm.schema.gateway import GatewaySettings
from citadel_llm.telemetry import get_logger
from citadel_llm.telemetry.access import AccessLog
from citadel_llm.telemetry.systemd import notify, notify_reloading, passed_sockets, watchdog_interval

SERVICE = "citadel-gateway"
_log = get_logger("citadel.gateway")


def run(settings: GatewaySettings, *, expose_metrics: bool = True) -> None:
    """Serve until SIGTERM or SIGINT. Logging is configured by the caller. Raises ListenError."""
    for name in ("uvicorn.error", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
    api, internal = open_sockets(settings, passed_sockets())
    uvloop.run(_Process(settings, expose_metrics).serve(api, internal))


class _Process:
    def __init__(self, settings: GatewaySettings, expose_metrics: bool) -> None:
        self._settings = settings
        self._expose_metrics = expose_metrics
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, api: socket.socket, internal: socket.socket) -> None:
        settings = self._settings
        metrics = GatewayMetrics()
        access_log = AccessLog(service=SERVICE) if settings.access_log else None
        self._snapshots = SnapshotStore(settings.snapshot_path, metrics)
        engines = Engines(settings, metrics)
        gateway = Gateway(settings, self._snapshots, engines, metrics, access_log)
        self._internal = Internal(
            gateway, self._snapshots, engines, metrics, access_log, expose_metrics=self._expose_metrics
        )
        self._api_listener = Listener(
            gateway,
            settings,
            drain_idle_s=settings.drain_idle_s,
            drain_timeout_s=settings.drain_timeout_s,
        )
        internal_listener = Listener(self._internal, settings, drain_idle_s=0, drain_timeout_s=1)
        engines.start()
        try:
            await self._snapshots.reload()
            async with self._background(), _serving(internal_listener, internal):
                await self._serve_api(api)
        finally:
            await engines.close()
            if access_log is not None:
                access_log.close()

    async def _serve_api(self, api: socket.socket) -> None:
        listener = self._api_listener
        async with _serving(listener, api) as task:
            ready = asyncio.create_task(listener.ready.wait())
            await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
            settings = self._settings
            _log.info("serving", host=settings.host, port=settings.port, internal_port=settings.internal_port)
            self._tell_ready()
            await asyncio.wait({task})

    @contextlib.asynccontextmanager
    async def _background(self) -> AsyncIterator[None]:
        """Signals, the watch over the snapshot's file, and the service manager's watchdog."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop)
        loop.add_signal_handler(signal.SIGINT, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        watch = asyncio.create_task(self._snapshots.watch(self._settings.snapshot_poll_s))
        interval = watchdog_interval()
        watchdog = asyncio.create_task(_feed_watchdog(interval)) if interval is not None else None
        try:
            yield
        finally:
            watch.cancel()
            if watchdog is not None:
                watchdog.cancel()
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)

    def _stop(self) -> None:
        """Drain; the second time, stop at once."""
        if self._internal.draining:
            self._api_listener.force_exit = True
            return
        self._internal.draining = True
        notify("STOPPING=1", "STATUS=draining")
        _log.info("draining", timeout_s=self._settings.drain_timeout_s)
        self._api_listener.stop()

    def _on_hangup(self) -> None:
        task = asyncio.create_task(self._reload())
        self._tasks.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._tasks.discard)

    async def _reload(self) -> None:
        notify_reloading()
        await self._snapshots.reload()
        if not self._internal.draining:
            self._tell_ready()

    def _tell_ready(self) -> None:
        table = self._snapshots.table
        using = f"snapshot {table.version}" if table is not None else "no routing snapshot"
        notify("READY=1", f"STATUS=serving, {using}")


@contextlib.asynccontextmanager
async def _serving(listener: Listener, sock: socket.socket) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(listener.serve(sockets=[sock]))
    try:
        yield task
    finally:
        listener.stop()
        await task


async def _feed_watchdog(interval_s: float) -> None:
    while True:
        notify("WATCHDOG=1")
        await asyncio.sleep(interval_s)

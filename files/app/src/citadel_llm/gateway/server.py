"""The gateway's process: start, reload, drain."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from collections.abc import AsyncIterator

import uvloop

from citadel_llm.gateway.app import Gateway
from citadel_llm.gateway.engines import Engines
from citadel_llm.gateway.internal import Internal
from citadel_llm.gateway.keeping import Keeping, read_peppers
from citadel_llm.gateway.listener import Listener, limits_of, open_sockets
from citadel_llm.gateway.metrics import GatewayMetrics
from citadel_llm.gateway.snapshots import SnapshotStore
from citadel_llm.gateway.transport.limits import Limits
from citadel_llm.schema.gateway import GatewaySettings
from citadel_llm.telemetry import get_logger
from citadel_llm.telemetry.access import AccessLog
from citadel_llm.telemetry.systemd import notify, notify_reloading, passed_sockets, watchdog_interval

SERVICE = "citadel-gateway"
_log = get_logger("citadel.gateway")


def run(settings: GatewaySettings, *, expose_metrics: bool = True) -> None:
    """Serve until SIGTERM or SIGINT. Logging is configured by the caller. Raises ListenError."""
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    api, internal = open_sockets(settings, passed_sockets())

    # What start-up made stays for good. Collecting less often, and never that, is worth 5 % of the time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)

    async def serve() -> None:
        await Process(settings, expose_metrics=expose_metrics).serve(api, internal)

    uvloop.run(serve())


class Process:
    """Everything that one gateway process has. It must be made inside the running loop."""

    def __init__(self, settings: GatewaySettings, *, expose_metrics: bool = True) -> None:
        """Raises CredentialError."""
        self.settings = settings
        self.metrics = GatewayMetrics(keys=settings.key_series)
        self.keeping = Keeping(settings, self.metrics.registry)
        self.access_log = AccessLog(service=SERVICE) if settings.access_log else None
        self.engines = Engines(settings, self.metrics)
        self.snapshots = SnapshotStore(settings.snapshot_path, self.metrics, self.engines, read_peppers())
        self.gateway = Gateway(
            settings, self.snapshots, self.engines, self.metrics, self.access_log, self.keeping
        )
        self.internal = Internal(
            self.gateway,
            self.snapshots,
            self.engines,
            self.metrics,
            self.access_log,
            expose_metrics=expose_metrics,
        )
        self.serving = asyncio.Event()
        self._api = Listener(
            self.gateway,
            limits_of(settings),
            backlog=settings.backlog,
            drain_idle_s=settings.drain_idle_s,
            drain_timeout_s=settings.drain_timeout_s,
        )
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, api: socket.socket, internal: socket.socket) -> None:
        """Serve on two listening sockets until `stop` or a signal. The sockets are closed."""
        internal_listener = Listener(
            self.internal, Limits(), backlog=self.settings.backlog, drain_idle_s=0, drain_timeout_s=1
        )
        try:
            await self.keeping.start()
            await self.snapshots.reload()
            # The internal listener stays until the end: who waits for the drain can watch it.
            async with self._background(), _listening(internal_listener, internal):
                await self._serve_api(api)
        finally:
            self.engines.close()
            await self.keeping.close()
            if self.access_log is not None:
                await asyncio.to_thread(self.access_log.close)

    def stop(self) -> None:
        """Drain; the second time, stop at once."""
        if self.internal.draining:
            self._api.stop_now()
            return
        self.internal.draining = True
        notify("STOPPING=1", "STATUS=draining")
        _log.info("draining", in_flight=self.gateway.in_flight, timeout_s=self.settings.drain_timeout_s)
        self._api.stop()

    async def reload(self) -> None:
        """Read the snapshot again, and tell the service manager when that is done."""
        notify_reloading()
        await self.snapshots.reload()
        if not self.internal.draining:
            self._tell_ready()

    async def _serve_api(self, api: socket.socket) -> None:
        async with _listening(self._api, api) as server:
            ready = asyncio.create_task(self._api.ready.wait())
            await asyncio.wait({server, ready}, return_when=asyncio.FIRST_COMPLETED)
            host, port = self.settings.host, self.settings.port
            _log.info("serving", host=host, port=port, internal_port=self.settings.internal_port)
            self._tell_ready()
            self.serving.set()
            await asyncio.wait({server})

    @contextlib.asynccontextmanager
    async def _background(self) -> AsyncIterator[None]:
        """Signals, the watch over the snapshot's file, and the service manager's watchdog."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stop)
        loop.add_signal_handler(signal.SIGINT, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        tasks = [
            asyncio.create_task(self.snapshots.watch(self.settings.snapshot_poll_s)),
            asyncio.create_task(self.engines.watch()),
        ]
        interval = watchdog_interval()
        if interval is not None:
            tasks.append(asyncio.create_task(_feed_watchdog(interval)))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)

    def _on_hangup(self) -> None:
        task = asyncio.create_task(self.reload())
        self._tasks.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._tasks.discard)

    def _tell_ready(self) -> None:
        table = self.snapshots.table
        using = f"snapshot {table.version}" if table is not None else "no routing snapshot"
        notify("READY=1", f"STATUS=serving, {using}")


@contextlib.asynccontextmanager
async def _listening(listener: Listener, sock: socket.socket) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(listener.serve(sock))
    try:
        yield task
    finally:
        listener.stop()
        await task


async def _feed_watchdog(interval_s: float) -> None:
    while True:
        notify("WATCHDOG=1")
        await asyncio.sleep(interval_s)

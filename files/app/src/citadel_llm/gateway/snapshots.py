"""The snapshot in use: loading it, and replacing it while requests are served."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from citadel_llm.gateway.engines import Engines
from citadel_llm.gateway.metrics import GatewayMetrics
from citadel_llm.gateway.table import RoutingTable
from citadel_llm.schema import snapshot as schema
from citadel_llm.schema.key_hash import Pepper
from citadel_llm.telemetry import get_logger

_log = get_logger("citadel.gateway.snapshots")
_Identity = tuple[int, int, int]


class SnapshotStore:
    """Holds the table that requests are served from. A bad snapshot is refused and the old one stays."""

    def __init__(
        self, path: Path, metrics: GatewayMetrics, engines: Engines, peppers: Sequence[Pepper] = ()
    ) -> None:
        self.table: RoutingTable | None = None
        self.loaded_at = 0.0
        self.refused = 0
        self.last_error: str | None = None
        self._path = path
        self._metrics = metrics
        self._engines = engines
        self._peppers = peppers
        self._seen: _Identity | None = None
        self._lock = asyncio.Lock()
        metrics.snapshot_age.set_function(self.age)

    def age(self) -> float:
        """Seconds since the snapshot in use was loaded; 0 while there is none."""
        return time.monotonic() - self.loaded_at if self.table is not None else 0.0

    async def reload(self) -> bool:
        """Read the file again. False when it was refused; what was in use stays in use."""
        async with self._lock:
            self._seen = self._identity()
            try:
                table = await asyncio.to_thread(self._read)
            except schema.SnapshotError as error:
                self._refuse(str(error))
                return False
            self._use(table)
            return True

    async def watch(self, interval_s: float) -> None:
        """Reload whenever the file has changed, for ever."""
        while True:
            await asyncio.sleep(interval_s)
            if self._identity() != self._seen:
                await self.reload()

    def _read(self) -> RoutingTable:
        snapshot = schema.load(self._path)
        try:
            return RoutingTable(snapshot, self._peppers)
        except schema.SnapshotError as error:
            raise schema.SnapshotError(f"{self._path}: {error}") from error

    def _use(self, table: RoutingTable) -> None:
        previous = self.table.version if self.table is not None else None
        self._engines.use(table.snapshot)
        table.bind(self._engines.balancer.routes)
        self.table = table
        self.loaded_at = time.monotonic()
        self.last_error = None
        self._metrics.snapshot_in_use(table.version, table.created, set(table.models))
        _log.info(
            "routing snapshot loaded",
            version=table.version,
            previous=previous,
            models=len(table.models),
            backends=len(self._engines.balancer.backends),
        )

    def _refuse(self, reason: str) -> None:
        self.refused += 1
        self.last_error = reason
        self._metrics.snapshot_refused.inc()
        in_use = self.table.version if self.table is not None else None
        _log.error("routing snapshot refused", reason=reason, in_use=in_use)

    def _identity(self) -> _Identity | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

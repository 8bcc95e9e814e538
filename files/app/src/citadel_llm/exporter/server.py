"""The exporter's process: collectors in the background, and a server that answers with what they found."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType

from prometheus_client import start_http_server

from citadel_llm.configuration import layers
from citadel_llm.exporter import gpus, host, units
from citadel_llm.exporter.cache import Cache, Source
from citadel_llm.schema.monitoring import ExporterSettings
from citadel_llm.schema.settings import Settings
from citadel_llm.telemetry.logs import get_logger
from citadel_llm.telemetry.metrics import new_registry
from citadel_llm.telemetry.systemd import notify, watchdog_interval

SERVICE = "exporter"
_log = get_logger("citadel.exporter")


def sources(
    settings: Settings, exporter: ExporterSettings, directory: Path, log_counter: units.LogCounter
) -> list[Source]:
    """The collectors that this server needs."""
    paths = settings.citadel.paths
    stores = {"models": paths.models, "logs": paths.logs, "backups": paths.backups, "state": paths.state}
    report = exporter.preflight_report
    found = [
        Source("space", lambda: host.space(stores), host.DEFINITIONS, 30),
        Source("backups", lambda: host.backups(Path(paths.backups)), host.DEFINITIONS, 60),
        Source("certificates", lambda: host.certificates(exporter.certificates), host.DEFINITIONS, 60),
        Source("configuration", lambda: host.configuration(directory), host.DEFINITIONS, 30),
        Source("reboot", host.reboot, host.DEFINITIONS, 60),
        Source("units", lambda: units.read(exporter.units), units.DEFINITIONS, 10),
        Source("logs", log_counter.read, units.LOG_DEFINITIONS, 10),
    ]
    if report is not None:
        found.append(Source("preflight", lambda: host.preflight(Path(report)), host.DEFINITIONS, 60))
    if exporter.gpu_command:
        found.append(Source("gpus", lambda: gpus.read(exporter.gpu_command), gpus.DEFINITIONS, 30))
    return found


def run(settings: Settings, exporter: ExporterSettings) -> None:
    """Serve until SIGTERM. Raises OSError when the port is taken."""
    ended = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    counter = units.LogCounter(exporter.units)
    counter.start()
    cache = Cache(sources(settings, exporter, layers.find_directory(), counter))
    registry = new_registry()
    registry.register(cache)
    cache.start()
    server, _thread = start_http_server(exporter.port, exporter.host, registry)
    _log.info("exporter started", host=exporter.host, port=exporter.port)
    notify("READY=1")
    while not ended.wait(watchdog_interval()):
        notify("WATCHDOG=1")
    notify("STOPPING=1")
    cache.stop()
    server.shutdown()

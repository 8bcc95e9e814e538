"""The kinds of checks. Each function makes a coroutine's work of one question and answers with a Finding."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from pathlib import Path
from urllib.parse import urlsplit

from citadel_llm.engine.probe import probe
from citadel_llm.schema.settings import CpuThresholds, Deployment, DiskThresholds, MemoryThresholds
from citadel_llm.services.health.model import Finding, State
from citadel_llm.services.health.threads import in_thread
from citadel_llm.services.systemd import Systemd, SystemdError

_GIB = 1024**3
_HEAD = 512


async def http(url: str, expect_status: tuple[int, ...], timeout_s: float) -> Finding:
    """GET a URL and compare the status; the body is not read beyond its beginning."""
    parts = urlsplit(url)
    try:
        status, head = await in_thread(lambda: _get(url, timeout_s))
    except OSError as error:
        return Finding("critical", f"{url}: {error.strerror or error}")
    if status in expect_status:
        return Finding("ok", f"answered {status}")
    wanted = " or ".join(str(code) for code in expect_status)
    return Finding("critical", f"{parts.path or '/'} answered {status}, not {wanted}: {head}")


def _get(url: str, timeout_s: float) -> tuple[int, str]:
    # Imported here: an opener drags in email and TLS, which most commands never need.
    import http.client
    import urllib.error
    import urllib.request

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=timeout_s) as response:
            return response.status, response.read(_HEAD).decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, " ".join(error.read(_HEAD).decode("utf-8", "replace").split())
    except urllib.error.URLError as error:
        raise error.reason if isinstance(error.reason, OSError) else OSError(str(error.reason)) from error
    except http.client.HTTPException as error:
        raise OSError(f"not an HTTP answer: {error or type(error).__name__}") from error


async def tcp(host: str, port: int) -> Finding:
    """Open a connection and close it."""
    try:
        _reader, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        return Finding("critical", f"{host}:{port}: {os.strerror(error.errno) if error.errno else error}")
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return Finding("ok", f"{host}:{port} accepts connections")


async def process(systemd: Systemd | None, unit: str, unreachable: str) -> Finding:
    """Whether a unit is active. `unreachable` is said when there is no systemd."""
    if systemd is None:
        return Finding("unknown", unreachable)
    try:
        status = await systemd.status(unit)
    except SystemdError as error:
        return Finding("unknown", str(error))
    restarts = {} if status.restarts is None else {"restarts": float(status.restarts)}
    said = f"{status.active} ({status.sub})"
    if status.load == "not-found":
        return Finding("critical", "is not installed: run the playbook", restarts)
    if status.active == "active":
        return Finding("ok", said, restarts)
    if status.active in ("activating", "reloading", "deactivating", "refreshing"):
        return Finding("warning", said, restarts)
    detail = f", result {status.result}" if status.result not in (None, "success") else ""
    return Finding("critical", f"{said}{detail}. See: citadel logs {unit}", restarts)


async def engine(deployment: Deployment, timeout_s: float) -> Finding:
    """One real request to an engine."""
    answer = await in_thread(
        lambda: probe(deployment.host, deployment.port, deployment.model, deployment.task, timeout_s)
    )
    return Finding(
        "ok" if answer.ready else "critical", answer.message, {"seconds": round(answer.seconds, 4)}
    )


async def disk(path: str, limits: DiskThresholds) -> Finding:
    """Free space of the file system that holds a path."""
    try:
        usage = await in_thread(lambda: shutil.disk_usage(path))
    except OSError as error:
        return Finding("unknown", f"{path}: {error.strerror}")
    percent = 100 * usage.free / usage.total if usage.total else 0.0
    state: State = "ok"
    if percent < limits.warning_free_percent or usage.free < limits.warning_free_bytes:
        state = "warning"
    if percent < limits.critical_free_percent or usage.free < limits.critical_free_bytes:
        state = "critical"
    message = f"{path}: {usage.free / _GIB:.1f} of {usage.total / _GIB:.1f} GiB free ({percent:.0f} %)"
    return Finding(state, message, {"free_bytes": float(usage.free), "free_percent": round(percent, 2)})


async def memory(limits: MemoryThresholds, source: Path = Path("/proc/meminfo")) -> Finding:
    """Memory in use, without what the kernel can reclaim."""
    text = await in_thread(lambda: source.read_text(encoding="ascii"))
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    total, available = (int(fields[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    percent = 100 * (total - available) / total
    state = _above(percent, limits.warning_used_percent, limits.critical_used_percent)
    message = f"{percent:.0f} % of {total / _GIB:.1f} GiB used"
    return Finding(state, message, {"used_percent": round(percent, 2), "available_bytes": float(available)})


async def cpu(limits: CpuThresholds) -> Finding:
    """The five-minute load average per core."""
    cores = os.cpu_count() or 1
    load = os.getloadavg()[1] / cores
    state = _above(load, limits.warning_load_per_core, limits.critical_load_per_core)
    return Finding(
        state, f"load {load:.2f} per core over 5 minutes ({cores} cores)", {"load": round(load, 3)}
    )


async def command(argv: tuple[str, ...]) -> Finding:
    """Run a program without a shell: exit status 0 is ok, 1 a warning, anything else critical."""
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        return Finding("unknown", f"{argv[0]}: {error.strerror}")
    try:
        output, _none = await process.communicate()
    finally:
        if process.returncode is None:
            # The deadline has passed: end the program and everything that it started.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    text = " ".join(output[-_HEAD:].decode("utf-8", "replace").split())
    states: dict[int, State] = {0: "ok", 1: "warning"}
    state = states.get(process.returncode or 0, "critical")
    return Finding(state, text or f"{argv[0]}: exit status {process.returncode}")


def _above(value: float, warning: float, critical: float) -> State:
    return "critical" if value > critical else "warning" if value > warning else "ok"

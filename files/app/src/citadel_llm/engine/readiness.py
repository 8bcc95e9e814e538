"""Waiting until an engine serves."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from citadel_llm.engine.check import weight_bytes
from citadel_llm.engine.probe import Answer, probe
from citadel_llm.schema.settings import Deployment, Readiness

_PROGRESS_S = 10.0
_PROBE_S = 60.0


class NotReadyError(Exception):
    """The engine does not serve; the message says why."""


def allowance(deployment: Deployment, readiness: Readiness) -> float:
    """Seconds that this engine may take until it serves: the base and the time to load its weights."""
    loading = weight_bytes(Path(deployment.path)) / (readiness.load_mb_per_s * 1e6)
    return readiness.base_timeout_s + loading


def alive(pid: int) -> bool:
    """Whether the process runs. A zombie does not.

    In a sandbox a process may run and be invisible below /proc, so the kernel is asked by a signal.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True
    return status.rpartition(")")[2].split()[0] != "Z"


def wait_ready(
    deployment: Deployment,
    timeout_s: float,
    pid: int | None = None,
    report: Callable[[str], None] = lambda _text: None,
    interval_s: float = 1.0,
) -> Answer:
    """Probe until the engine answers a real request.

    `pid` is the engine's main process: when it ends, waiting is over. Raises NotReadyError when it ends, when
    the engine refuses the request for good, and when `timeout_s` has passed.
    """
    begin = time.monotonic()
    next_report = begin + _PROGRESS_S
    while True:
        left = begin + timeout_s - time.monotonic()
        answer = probe(
            deployment.host, deployment.port, deployment.model, deployment.task, max(0.1, min(left, _PROBE_S))
        )
        now = time.monotonic()
        if answer.ready:
            return answer
        if answer.state == "refused":
            raise NotReadyError(f"engine {deployment.name}: {answer.message}")
        if pid is not None and not alive(pid):
            raise NotReadyError(
                f"engine {deployment.name}: its process {pid} ended before it served. See its log"
            )
        if now - begin >= timeout_s:
            raise NotReadyError(
                f"engine {deployment.name}: does not serve after {timeout_s:.0f} s: {answer.message}. "
                "If it only needs longer, raise ai_models.readiness.base_timeout_s or lower its load_mb_per_s"
            )
        if now >= next_report:
            report(
                f"engine {deployment.name}: {now - begin:.0f} of at most {timeout_s:.0f} s: {answer.message}"
            )
            next_report += _PROGRESS_S
        time.sleep(min(interval_s, max(0.0, begin + timeout_s - now)))

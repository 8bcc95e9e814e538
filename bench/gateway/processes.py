"""Processes on a core of their own, and what they use."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

GATEWAY_CORE, OTHER_CORE = 0, 1
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Running:
    """A program with its children."""

    pid: int

    def _family(self) -> list[Path]:
        """Folders in /proc of the process and its descendants."""
        parents: dict[int, list[int]] = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                parents.setdefault(int(_fields(path)[1]), []).append(int(path.parent.name))
        found, todo = [], [self.pid]
        while todo:
            pid = todo.pop()
            found.append(Path(f"/proc/{pid}"))
            todo += parents.get(pid, [])
        return found

    def cpu_s(self) -> float:
        """Seconds of processor time used so far."""
        return sum(sum(map(int, _fields(path / "stat")[11:13])) for path in self._family()) / _TICKS

    def memory(self) -> int:
        """Bytes of memory in use (resident)."""
        return sum(int((path / "statm").read_text().split()[1]) for path in self._family()) * _PAGE

    def descriptors(self) -> int:
        return sum(len(list((path / "fd").iterdir())) for path in self._family())


def _fields(path: Path) -> list[str]:
    """The fields of /proc/PID/stat after the name, the process's state first."""
    return path.read_text().rpartition(")")[2].split()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def running(
    argv: Sequence[str],
    *,
    core: int,
    log: Path,
    ready: Callable[[], bool],
    env: dict[str, str] | None = None,
    seconds: float = 60,
) -> Iterator[Running]:
    """A program pinned to a core until the end of the block. Raises RuntimeError when it is never ready."""
    with log.open("w") as output:
        process = subprocess.Popen(
            argv,
            env=os.environ | (env or {}),
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
    try:
        end = time.monotonic() + seconds
        while not ready():
            if process.poll() is not None or time.monotonic() > end:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
                raise RuntimeError(f"{argv[0]} does not serve:\n{tail}")
            time.sleep(0.1)
        yield Running(process.pid)
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a program and its children, at the latest after five seconds."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)


def accepts(port: int) -> Callable[[], bool]:
    """Whether something listens on a port of this machine."""

    def probe() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            return False
        return True

    return probe


def answers(port: int, method: str, path: str, headers: dict[str, str], body: bytes) -> Callable[[], bool]:
    """Whether a request is answered with 200."""

    def probe() -> bool:
        head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n"
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        request = f"{head}{lines}content-length: {len(body)}\r\n\r\n".encode() + body
        try:
            with socket.create_connection(("127.0.0.1", port), 2) as sock:
                sock.settimeout(10)
                sock.sendall(request)
                return sock.recv(64).startswith(b"HTTP/1.1 200")
        except OSError:
            return False

    return probe

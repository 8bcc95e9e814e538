"""Small pieces that touch the operating system: commands, locks, files, processes."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 120.0  # seconds for a step that takes a moment, on a machine that is short of processors


class LabError(Exception):
    """Something the operator can act on: the message names the value, the place and the remedy."""


def say(message: str) -> None:
    """Progress goes to standard error, results to standard output."""
    print(message, file=sys.stderr, flush=True)


def run(command: Sequence[str], *, stdin: str | None = None, check: bool = True) -> str:
    """Run a command to its end and return its standard output.

    Raises LabError with the command and its standard error when it is missing or (with `check`) fails.
    """
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise LabError(f"command {command[0]!r} not found: see 'python3 -m lab preflight'") from error
    if check and done.returncode != 0:
        detail = (done.stderr or done.stdout).strip() or f"exit status {done.returncode}"
        raise LabError(f"{' '.join(command)}: {detail}")
    return done.stdout


def write_atomic(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file: readers see the old or the new content, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as stream:
        os.fchmod(stream.fileno(), mode)
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.rename(path)


def read_text(path: Path) -> str:
    """The content of a file, or an empty string where it is absent or vanishes while being read."""
    try:
        return path.read_text()
    except (FileNotFoundError, NotADirectoryError, ProcessLookupError):
        return ""
    except OSError as error:
        if error.errno == 19:  # ENODEV: a cgroup that was removed between open and read
            return ""
        raise


@contextmanager
def lock(path: Path, waiting_for: str) -> Iterator[int]:
    """Hold an exclusive lock and yield its descriptor; says so when it has to wait.

    The kernel drops the lock with the last descriptor, so a killed holder never blocks the next run.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another lab command on {waiting_for}")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def wait_until(condition: Callable[[], bool], seconds: float, interval: float = 0.02) -> bool:
    """Poll until the condition holds; False when it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(interval)
    return True


def process_stamp(pid: int) -> str:
    """`PID STARTTIME`, which no later process of the same number can have; empty when it does not run."""
    stat = read_text(Path(f"/proc/{pid}/stat"))
    fields = stat.rpartition(")")[2].split()
    if not fields or fields[0] in ("Z", "X"):
        return ""
    return f"{pid} {fields[19]}"


def live_pid(stamp_file: Path) -> int | None:
    """The process that a stamp file names, if exactly that one still runs."""
    stamp = read_text(stamp_file).strip()
    if not stamp:
        return None
    pid = int(stamp.split()[0])
    return pid if process_stamp(pid) == stamp else None


def kill(pid: int) -> None:
    """SIGKILL; a process that is already gone is fine."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def size_in_bytes(text: str) -> int:
    """`512M`, `2G`, `1T` or a plain number of bytes. Raises LabError on anything else."""
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
    number, unit = (text[:-1], units.get(text[-1:].upper())) if text[-1:].isalpha() else (text, 1)
    if unit is None or not number.isdigit() or int(number) == 0:
        raise LabError(f"size {text!r}: give a whole number with K, M, G or T, such as 2G")
    return int(number) * unit

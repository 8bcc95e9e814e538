"""The supervisor of one host: `python3 -m lab.runner NAME LOCK_FD`, in a mount namespace of its own.

It holds the overlay, starts the host's PID 1 in fresh namespaces at each boot, and ends when the host powers
off. When it dies, however it dies, the kernel kills PID 1 and with it every process, mount and interface.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from lab import cgroups, network
from lab.inside import NAMESPACES, WITHHELD
from lab.paths import GUEST, HostPaths, State
from lab.records import HostRecord, load
from lab.system import PATIENCE, LabError, process_stamp, read_text, run, wait_until, write_atomic

REBOOT = -signal.SIGHUP  # how the kernel ends a PID namespace that asked for a reboot; a power-off is SIGINT


def main() -> int:
    """Boot the host again and again until it does not ask for it."""
    name, lock_descriptor = sys.argv[1], int(sys.argv[2])
    state = State.from_environment()
    paths = state.host(name)
    record = load(paths)
    if record is None:
        raise LabError(f"{paths.record}: missing")
    write_atomic(paths.runner, process_stamp(os.getpid()) + "\n")
    groups = cgroups.create(state.cgroup(name))
    write_atomic(paths.cgroups, "".join(f"{group}\n" for group in groups))
    _mount_overlay(paths, record)
    os.close(lock_descriptor)
    try:
        while _boot(state, paths, record, groups) == REBOOT:
            cgroups.recreate(groups)
    finally:
        paths.pid.unlink(missing_ok=True)
        network.unplug(state, record.address)
    return 0


def _mount_overlay(paths: HostPaths, record: HostRecord) -> None:
    options = f"lowerdir={record.base},upperdir={paths.upper},workdir={paths.work}"
    run(["mount", "-t", "overlay", "overlay", "-o", options, str(paths.root)])


def _boot(state: State, paths: HostPaths, record: HostRecord, groups: list[Path]) -> int:
    """One life of the host's PID 1; returns how it ended, as subprocess gives it."""
    paths.outer_pid.unlink(missing_ok=True)
    arguments = [paths.directory, paths.root, record.name, record.uid, GUEST / "init.sh"]
    command = ["setpriv", f"--bounding-set={WITHHELD}", "--pdeathsig", "KILL", "unshare", *NAMESPACES]
    command += ["--propagation", "private", "--fork", "--kill-child=KILL", "--"]
    command += ["sh", str(GUEST / "enter.sh"), *map(str, arguments)]
    with paths.console.open("ab") as console:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=console,
            stderr=console,
            cwd="/",
            preexec_fn=cgroups.joiner(groups, strict=True),
        )
    try:
        if not wait_until(lambda: paths.outer_pid.exists() or process.poll() is not None, PATIENCE, 0.005):
            raise LabError(f"{record.name}: PID 1 did not start within {PATIENCE:.0f} s")
        if process.poll() is None:
            pid = int(read_text(paths.outer_pid))
            cgroups.step_aside(process.pid, groups)
            network.plug(state, pid, record.address)
            write_atomic(paths.pid, f"{process_stamp(pid)}\n")
            _start(process)
        return process.wait()
    finally:
        process.kill()


def _start(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.write(b"plugged in\n")
        process.stdin.close()


if __name__ == "__main__":
    sys.exit(main())

"""Commands inside a host, entered from the machine: they work before ssh does."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from lab import cgroups
from lab.system import PATIENCE, LabError

# A host shares the machine's kernel: without these nothing inside can set its clock or load modules into it.
WITHHELD = "-sys_time,-sys_module,-sys_rawio"
NAMESPACES = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup")


def command_line(pid: int, command: Sequence[str]) -> list[str]:
    """The command as the machine starts it to run beside PID `pid` of a host."""
    environment = [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME=/root",
        "LANG=C.UTF-8",
    ]
    environment.append(f"TERM={os.environ.get('TERM', 'dumb')}")
    enter = ["setpriv", f"--bounding-set={WITHHELD}", "nsenter", "--target", str(pid), *NAMESPACES, "--"]
    return [*enter, "/usr/bin/env", "--chdir=/root", "-i", *environment, *command]


def execute(pid: int, command: Sequence[str]) -> None:
    """Become the command; does not return."""
    cgroups.joiner(
        cgroups.directories_of(pid)
    )()  # logind and systemd adopt no process from outside their groups
    os.execvp("setpriv", command_line(pid, command))  # noqa: S606


def run(
    pid: int, command: Sequence[str], *, stdin: str | None = None, seconds: float = PATIENCE
) -> subprocess.CompletedProcess[str]:
    """Run a command inside and return its result, whatever it is."""
    try:
        return subprocess.run(
            command_line(pid, command),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            preexec_fn=cgroups.joiner(cgroups.directories_of(pid)),
        )
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{' '.join(command)}: no answer within {seconds:.0f} s inside the host") from error


def show_disk(pid: int, device: str, name: str) -> bool:
    """Give a new loop device its node inside and let udev look at it; True when /dev/NAME is there."""
    kernel_name = device.rpartition("/")[2]
    major, minor = Path("/sys/block", kernel_name, "dev").read_text().strip().split(":")
    script = (
        f"[ -b {device} ] || mknod -m 660 {device} b {major} {minor}; "
        f"udevadm trigger --action=change --settle /sys/block/{kernel_name}; [ -b /dev/{name} ]"
    )
    return run(pid, ["sh", "-c", script]).returncode == 0


def hide_disk(pid: int, device: str) -> None:
    """Take the node of a detached loop device away."""
    run(pid, ["sh", "-c", f"rm -f {device}; udevadm settle"])


def is_mounted(pid: int, device: str) -> bool:
    """Whether a device is mounted anywhere inside."""
    return run(pid, ["findmnt", "--noheadings", "--source", device]).returncode == 0

"""Runs the lab as its users do, and looks for what it leaves on the machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from lab.paths import MACHINE_RUN, REPOSITORY, State

SETTINGS = ("/proc/sys/net/ipv4/ip_forward", "/proc/sys/fs/inotify/max_user_instances")


def settings() -> list[str] | None:
    """The kernel settings that a lab raises; None while another lab holds them."""
    if list(MACHINE_RUN.glob("user-*")):
        return None
    return [Path(name).read_text() for name in SETTINGS]


class Lab:
    """Runs lab commands against a state directory of its own."""

    def __init__(self, state: Path, network: str) -> None:
        self.state = State(state)
        self.network = network
        self.settings = settings()
        self.environment = {**os.environ, "CITADEL_LAB_STATE": str(state), "CITADEL_LAB_NET": network}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "lab", *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, cwd=REPOSITORY, env=self.environment, stdout=pipe, stderr=pipe, text=True
        )

    def result(self, *arguments: str) -> tuple[int, str, str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=180)
        return process.returncode, out, err

    def __call__(self, *arguments: str) -> str:
        code, out, err = self.result(*arguments)
        assert code == 0, f"lab {' '.join(arguments)}: {err}{out}"
        return out.strip()

    def sh(self, name: str, script: str) -> str:
        return self("exec", name, "sh", "-c", script)

    def traces(self) -> dict[str, list[str]]:
        """Everything on the machine that carries the mark of this lab."""
        tag, state = self.state.tag, str(self.state.directory)
        mounts = Path("/proc").glob("[0-9]*/mountinfo")
        return {
            "processes": _processes_with(state),
            "mounts": [str(path) for path in mounts if state in _text(path)],
            "loop devices": _lines(
                ["losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE"], state
            ),
            "interfaces": _lines(["ip", "-brief", "link"], tag),
            "network namespaces": _lines(["ip", "netns"], tag),
            "firewall": _lines(["nft", "list", "tables"], tag),
            "cgroups": [str(path) for path in Path("/sys/fs/cgroup").rglob(f"*{tag}*")],
            "units": [str(path) for path in Path("/run/systemd/transient").glob(f"*{tag}*")],
            "settings": [str(path) for path in Path("/run/citadel-lab").glob(f"*{tag}*")],
            "hosts": [str(path) for path in self.state.hosts.glob("*")],
        }


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _processes_with(text: str) -> list[str]:
    own = str(os.getpid())
    processes = [path.parent for path in Path("/proc").glob("[0-9]*/cmdline") if path.parent.name != own]
    return [path.name for path in processes if text in _text(path / "cmdline") + _text(path / "environ")]


def _lines(command: list[str], text: str) -> list[str]:
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [line for line in output.splitlines() if text in line]

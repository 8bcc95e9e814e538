"""What the lab needs of a machine, and which distribution package has it."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from lab import cgroups, network, sources
from lab.paths import State
from lab.system import LabError, read_text

COMMANDS = {
    "mmdebstrap": "mmdebstrap",
    "gpgv": "gpgv",
    "nft": "nftables",
    "ip": "iproute2",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "losetup": "mount",
    "mount": "mount",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "apt-config": "apt",
}


@dataclass(frozen=True)
class Finding:
    """One need: `remedy` is empty when it is met."""

    subject: str
    found: str
    remedy: str = ""


def required_packages() -> list[str]:
    """Distribution packages whose commands are missing on this machine."""
    return sorted({package for command, package in COMMANDS.items() if shutil.which(command) is None})


def check(state: State) -> list[Finding]:
    """Look at everything the lab needs; nothing is changed."""
    if sys.platform != "linux":
        return [
            Finding("kernel", sys.platform, "the lab needs Linux: run it on a Linux machine or a virtual one")
        ]
    return [_root(), *_commands(), _overlay(state), _loop(), _cgroup(), _distribution(), _subnet(state)]


def require(state: State) -> None:
    """Raises LabError with every need that is not met."""
    unmet = [finding for finding in check(state) if finding.remedy]
    if unmet:
        lines = [f"  {finding.subject}: {finding.found}; {finding.remedy}" for finding in unmet]
        raise LabError("this machine cannot run lab hosts:\n" + "\n".join(lines))


def _root() -> Finding:
    user = os.geteuid()
    return Finding(
        "user", f"uid {user}", "" if user == 0 else "run it as root, e.g. 'sudo python3 -m lab ...'"
    )


def _commands() -> list[Finding]:
    found = []
    for command, package in COMMANDS.items():
        path = shutil.which(command)
        found.append(
            Finding(f"command {command}", path or "missing", "" if path else f"apt-get install {package}")
        )
    return found


def _overlay(state: State) -> Finding:
    supported = "\toverlay\n" in read_text(Path("/proc/filesystems")) or any(
        Path("/lib/modules", os.uname().release, "kernel/fs/overlayfs").glob("overlay.ko*")
    )
    if not supported:
        return Finding(
            "overlayfs", "not in /proc/filesystems", "use a kernel with overlayfs (modprobe overlay)"
        )
    kind = filesystem_type(state.directory, read_text(Path("/proc/self/mountinfo")))
    if kind in ("overlay", "nfs", "nfs4", "fuse", "9p"):
        return Finding(
            "state directory",
            f"{state.directory} is on {kind}",
            "overlayfs cannot keep changes there: set CITADEL_LAB_STATE to a directory on a local disk",
        )
    return Finding("overlayfs", f"supported, {state.directory} is on {kind}")


def filesystem_type(path: Path, mountinfo: str) -> str:
    """The type of the file system that a path, existing or not, lies on."""
    best, kind = -1, "unknown"
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        point = left.split()[4].encode().decode("unicode_escape")
        if (path == Path(point) or Path(point) in path.parents) and len(point) >= best:
            best, kind = len(point), right.split()[0]
    return kind


def _loop() -> Finding:
    present = Path("/dev/loop-control").exists()
    return Finding(
        "loop devices", "present" if present else "no /dev/loop-control", "" if present else "modprobe loop"
    )


def _cgroup() -> Finding:
    groups = cgroups.directories_of("self")
    if not groups:
        return Finding("cgroups", "no hierarchy mounted", "mount cgroup2 on /sys/fs/cgroup")
    closed = [group for group in groups if not os.access(group, os.W_OK)]
    if closed:
        return Finding("cgroups", f"{closed[0]} is read-only", "run where the cgroup file system is writable")
    return Finding("cgroups", f"{len(groups)} hierarchies, below {groups[-1]}")


def _distribution() -> Finding:
    try:
        distribution, own = sources.machine_release()
        suites = sources.suites_of(distribution)
        sources.lines_for(suites[0], sources.machine_sources(), distribution, own)
    except LabError as error:
        return Finding("apt sources", "cannot be used", str(error))
    return Finding("apt sources", f"{distribution} {own}: {', '.join(suites)}")


def _subnet(state: State) -> Finding:
    try:
        return Finding("subnet", str(network.configured_subnet(state).network))
    except LabError as error:
        return Finding("subnet", "cannot be used", str(error))

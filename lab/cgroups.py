"""The host's cgroups, always below the cgroup that the supervisor itself is in: v1, hybrid and pure v2.

A v1 hierarchy takes a child group as it is. On v2 a group that has processes cannot hand controllers to its
children, so the group is split: `supervisor` for our own process, `host` for PID 1 of the host.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from lab.system import LabError, kill, read_text


@dataclass(frozen=True)
class Membership:
    """One line of /proc/PID/cgroup: `controllers` is empty for v2."""

    controllers: str
    path: str


@dataclass(frozen=True)
class Mount:
    """Where a hierarchy is mounted, and which of its groups is the mount's root."""

    controllers: frozenset[str]
    root: str
    directory: Path


def parse_memberships(text: str) -> list[Membership]:
    """Parse /proc/PID/cgroup."""
    lines = (line.split(":", 2) for line in text.splitlines() if line.count(":") >= 2)
    return [Membership(controllers, path) for _, controllers, path in lines]


def parse_mounts(mountinfo: str) -> list[Mount]:
    """Find the cgroup mounts in /proc/self/mountinfo; v2 has an empty set of controllers."""
    mounts = []
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields, tail = left.split(), right.split()
        if len(fields) < 6 or len(tail) < 3 or tail[0] not in ("cgroup", "cgroup2"):
            continue
        options = frozenset() if tail[0] == "cgroup2" else frozenset(tail[2].split(","))
        mounts.append(Mount(options, fields[3], Path(fields[4])))
    return mounts


def locate(membership: Membership, mounts: Iterable[Mount]) -> Path | None:
    """The directory of a group, or None where its hierarchy is not mounted or the group is not visible."""
    wanted = frozenset(filter(None, membership.controllers.split(",")))
    for mount in mounts:
        matches = wanted <= mount.controllers if wanted else not mount.controllers
        root = mount.root.rstrip("/")
        if matches and (membership.path + "/").startswith(root + "/"):
            return mount.directory / membership.path[len(root) :].lstrip("/")
    return None


def directories_of(pid: int | str) -> list[Path]:
    """The groups of a process, in every mounted hierarchy."""
    mounts = parse_mounts(read_text(Path("/proc/self/mountinfo")))
    memberships = parse_memberships(read_text(Path(f"/proc/{pid}/cgroup")))
    return [path for path in (locate(member, mounts) for member in memberships) if path is not None]


def is_pure_v2(memberships: list[Membership]) -> bool:
    """True when v2 is the only hierarchy."""
    return [member.controllers for member in memberships] == [""]


def create(name: str) -> list[Path]:
    """Make the host's groups below the caller's own and return the directories that PID 1 must join."""
    own = directories_of("self")
    if is_pure_v2(parse_memberships(read_text(Path("/proc/self/cgroup")))):
        return [_create_v2(own[0], name)] if own else []
    return [_make(directory / name) for directory in own]


def recreate(directories: Iterable[Path]) -> None:
    """Replace the groups by fresh ones: a v2 group whose children had controllers takes no process."""
    directories = list(directories)
    if left := remove(directories):
        raise LabError(f"cgroup {left[0]} cannot be removed; its processes: {sorted(processes(left))}")
    for directory in directories:
        _make(directory)


def _make(directory: Path) -> Path:
    directory.mkdir(exist_ok=True)
    for setting in ("cpuset.cpus", "cpuset.mems"):
        inherited = read_text(directory.parent / setting).strip()
        if inherited and not read_text(directory / setting).strip():  # an empty v1 group accepts no process
            (directory / setting).write_text(inherited)
    return directory


def _create_v2(own: Path, name: str) -> Path:
    # Under systemd the supervisor has a delegated scope of its own; elsewhere it makes a group beside others.
    group = own if own.name.startswith(name) else own / name
    if group != own:
        group.mkdir(exist_ok=True)
        # Only the root may have processes and children with controllers. Elsewhere the kernel would hand on
        # some of them all the same, but make the children unfit for processes.
        if not (own / "cgroup.type").exists():
            _enable_controllers(own)
    for part in ("supervisor", "host"):
        (group / part).mkdir(exist_ok=True)
    (group / "supervisor" / "cgroup.procs").write_text(str(os.getpid()))
    _enable_controllers(group)
    return group / "host"


def _enable_controllers(group: Path) -> None:
    """Hand on what can be handed on: without a controller only the limits inside have no effect."""
    for controller in read_text(group / "cgroup.controllers").split():
        try:
            (group / "cgroup.subtree_control").write_text(f"+{controller}")
        except OSError:
            continue


def step_aside(pid: int, directories: Iterable[Path]) -> None:
    """Move the helper that made the namespaces out of a v2 group: only the host may have processes there."""
    for directory in directories:
        supervisor = directory.parent / "supervisor" / "cgroup.procs"
        if directory.name == "host" and supervisor.exists():
            supervisor.write_text(str(pid))


def joiner(directories: Iterable[Path], *, strict: bool = False) -> Callable[[], None]:
    """A `preexec_fn` that moves the child into the groups before it becomes something else.

    Not `strict`, it goes on without a group that refuses: a look inside is worth more than its accounting.
    """
    files = [directory / "cgroup.procs" for directory in directories]

    def join() -> None:
        for file in files:
            try:
                file.write_text(str(os.getpid()))
            except OSError:
                if strict:
                    raise

    return join


def processes(directories: Iterable[Path]) -> set[int]:
    """Every process in the groups and below them."""
    found: set[int] = set()
    for directory in directories:
        for group, _, _ in os.walk(
            directory
        ):  # passes over what vanishes meanwhile: systemd removes groups too
            found.update(int(pid) for pid in read_text(Path(group, "cgroup.procs")).split() if pid != "0")
    return found


def remove(directories: Iterable[Path], seconds: float = 5) -> list[Path]:
    """Kill what is left in the groups and remove them; returns those that would not go in time."""
    left = [directory for directory in directories if directory.is_dir()]
    deadline = time.monotonic() + seconds
    while left:
        for pid in processes(left) - {os.getpid()}:
            kill(pid)
        for directory in left:
            for parent, _, _ in os.walk(directory, topdown=False):
                _rmdir(Path(parent))
        left = [directory for directory in left if directory.is_dir()]
        if not left or time.monotonic() >= deadline:
            break
        time.sleep(0.02)
    return left


def _rmdir(directory: Path) -> None:
    try:
        directory.rmdir()
    except OSError:
        return  # busy for a moment more, or gone: the caller looks again

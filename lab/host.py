"""The life of a host: made, booted, taken down."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

from lab import base, cgroups, disks, furnish, inside, network, records, sources
from lab.paths import REPOSITORY, HostPaths, State
from lab.records import HostRecord
from lab.system import PATIENCE, LabError, kill, live_pid, lock, read_text, run, wait_until

# To be told is cheaper than to ask over and over; the second question is for a state that is never announced.
SETTLED = "timeout 3 systemctl is-system-running --wait || systemctl is-system-running"


def pid_of(state: State, name: str) -> int | None:
    """PID 1 of a running host as the machine numbers it, else None."""
    return live_pid(state.host(name).pid)


def _settled_pid(state: State, name: str) -> int | None:
    """As pid_of(), but a host that is just booting or rebooting gets the moment it needs."""
    runner = state.host(name).runner
    wait_until(lambda: pid_of(state, name) is not None or live_pid(runner) is None, 10)
    return pid_of(state, name)


def require_pid(state: State, name: str) -> int:
    """PID 1 of a host; raises LabError when the host does not run."""
    records.require(state, name)
    pid = _settled_pid(state, name)
    if pid is None:
        raise LabError(f"host {name} is not running: 'python3 -m lab up {name}' starts it")
    return pid


def up(state: State, name: str, address: str | None, suite: str | None, wanted: dict[str, int]) -> bool:
    """Make the host run with what was asked for; False when it already did.

    A host that was never completed is made anew; one that stopped keeps its file system and disks.
    Raises LabError when it exists with another address, suite or disk size.
    """
    records.check_name(name)
    with lock(state.host_lock(name), f"host {name}") as descriptor:
        paths = state.host(name)
        record = records.load(paths)
        if record is None or not record.completed:
            _erase(state, name)
            record = _create(state, name, address, suite, wanted)
        else:
            _check_same(record, address, suite, wanted)
            record = replace(record, disks={**record.disks, **wanted})
            record.save(paths)
        with lock(state.lock, "the network"):
            network.ensure(state)
        added = disks.attach(paths, record)
        running = _settled_pid(state, name)
        if running is None:
            _stop(state, paths, record)
            _boot(state, paths, record, descriptor)
        else:
            _show_all(running, added)
        _finish(state, record)
        return running is None or bool(added)


def _check_same(record: HostRecord, address: str | None, suite: str | None, wanted: dict[str, int]) -> None:
    asked: list[tuple[str, object, object]] = [
        ("address", address, record.address),
        ("suite", suite, record.suite),
    ]
    asked += [(f"disk {name}", size, record.disks.get(name, size)) for name, size in wanted.items()]
    for what, new, old in asked:
        if new is not None and new != old:
            raise LabError(
                f"host {record.name} exists with {what} {old}, not {new}: "
                f"'python3 -m lab down {record.name}' first"
            )
    if not Path(record.base).is_dir():
        raise LabError(
            f"base image {record.base} of {record.name} is gone: 'python3 -m lab down {record.name}' first"
        )


def _create(
    state: State, name: str, address: str | None, suite: str | None, wanted: dict[str, int]
) -> HostRecord:
    """Choose an address under the lab's lock and lay down the host's files."""
    suite = suite or sources.default_suite()
    image = base.ensure(suite)
    with lock(state.lock, "the address list"):
        furnish.make_key(state)
        subnet = network.configured_subnet(state)
        taken = {known.address: known.name for known in records.load_all(state)}
        if address is None:
            address = subnet.allocate(set(taken))
        elif subnet.check_static(address) in taken:
            raise LabError(f"--ip {address}: host {taken[address]} has it ('python3 -m lab list')")
        record = HostRecord(name, address, suite, str(image), disks=wanted)
        paths = state.host(name)
        for directory in (paths.upper, paths.work, paths.root):
            directory.mkdir(parents=True, exist_ok=True)
        record.save(paths)
    furnish.furnish(state, record)
    record = replace(record, completed=True)
    record.save(paths)
    return record


def _boot(state: State, paths: HostPaths, record: HostRecord, lock_descriptor: int) -> None:
    """Start the supervisor; it keeps the host's lock until its own traces are on disk."""
    name = record.name
    command = ["unshare", "--mount", "--propagation", "slave", "--", sys.executable, "-m", "lab.runner"]
    command = [*_scope(state, name), *command, name, str(lock_descriptor)]
    with paths.runner_log.open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=REPOSITORY,
            env={**os.environ, "CITADEL_LAB_STATE": str(state.directory), "PYTHONPATH": str(REPOSITORY)},
            pass_fds=(lock_descriptor,),
            start_new_session=True,
        )
    wait_until(lambda: pid_of(state, name) is not None or process.poll() is not None, PATIENCE)
    if pid_of(state, name) is None:
        logs = "\n".join([_tail(paths.runner_log), _tail(paths.console)]).strip()
        raise LabError(f"host {name} did not start; {paths.runner_log} and {paths.console} end with:\n{logs}")


def _scope(state: State, name: str) -> list[str]:
    """A systemd machine's cgroups belong to systemd: ask for one of our own, which outlives the session."""
    if not Path("/run/systemd/system").is_dir():
        return []
    unit = state.cgroup(name)
    return [
        "systemd-run",
        "--scope",
        "--quiet",
        "--collect",
        f"--unit={unit}",
        "--property=Delegate=yes",
        "--",
    ]


def _tail(path: Path, lines: int = 15) -> str:
    return "\n".join(read_text(path).splitlines()[-lines:])


def _finish(state: State, record: HostRecord) -> None:
    """Everything that can be done again at will: cable, known hosts, neighbours."""
    run(["ip", "link", "set", state.veth(record.address), "master", state.bridge, "up"])
    furnish.announce(state)


def wait(state: State, name: str, seconds: float) -> str:
    """Wait until systemd has started everything and ssh works; returns `running` or `degraded: UNITS`."""
    pid = require_pid(state, name)
    address = records.require(state, name).address
    status = ""

    def started() -> bool:
        nonlocal status, pid
        pid = pid_of(state, name) or pid  # another one after a reboot
        status = (inside.run(pid, ["sh", "-c", SETTLED]).stdout.split() or [""])[-1]
        return status in ("running", "degraded", "maintenance")

    if not wait_until(started, seconds, 0.1):
        jobs = inside.run(pid, ["systemctl", "list-jobs", "--no-legend"]).stdout.strip()
        raise LabError(
            f"host {name} is {status or 'not answering'!r} after {seconds:.0f} s; waiting for:\n{jobs}"
        )
    if status == "maintenance":
        raise LabError(
            f"host {name} is in maintenance mode: 'python3 -m lab exec {name} journalctl -b -p warning'"
        )
    login = [*furnish.ssh_command(state, address), "-o", "BatchMode=yes", "true"]
    if not wait_until(
        lambda: subprocess.run(login, capture_output=True, check=False).returncode == 0, seconds, 0.1
    ):
        raise LabError(f"host {name} does not answer ssh: {' '.join(login)}")
    if status == "degraded":
        failed = inside.run(pid, ["systemctl", "list-units", "--failed", "--plain", "--no-legend"]).stdout
        return f"degraded: {' '.join(line.split()[0] for line in failed.splitlines() if line.strip())}"
    return status


def reboot(state: State, name: str, seconds: float) -> str:
    """Ask for a real reboot and wait for the host to be back; returns what wait() says."""
    before = require_pid(state, name)
    inside.run(before, ["systemctl", "reboot"])
    if not wait_until(lambda: pid_of(state, name) not in (None, before), seconds):
        raise LabError(
            f"host {name} did not come back within {seconds:.0f} s: see {state.host(name).console}"
        )
    return wait(state, name, seconds)


def add_disk(state: State, name: str, disk: str, size: int) -> bool:
    """Attach a disk to a host; False when it has that disk already."""
    with lock(state.host_lock(name), f"host {name}"):
        pid = require_pid(state, name)
        record = records.require(state, name)
        _check_same(record, None, None, {disk: size})
        record = record.with_disk(disk, size)
        record.save(state.host(name))
        added = disks.attach(state.host(name), record)
        _show_all(pid, added)
        return bool(added)


def _show_all(pid: int, added: dict[str, str]) -> None:
    for name, device in added.items():
        if not inside.show_disk(pid, device, name):
            raise LabError(
                f"/dev/{name} did not appear; inside, 'udevadm info {device}' says what udev knows"
            )


def remove_disk(state: State, name: str, disk: str) -> bool:
    """Pull a disk out and delete its content; False when the host has none of that name."""
    with lock(state.host_lock(name), f"host {name}"):
        record, paths = records.require(state, name), state.host(name)
        if disk not in record.disks:
            return False
        file = paths.disk(record.uid, disk)
        device = disks.attached(paths).get(str(file))
        pid = pid_of(state, name)
        if pid is not None and device is not None:
            if inside.is_mounted(pid, device):
                raise LabError(f"/dev/{disk} is mounted in {name}: unmount it there first")
            disks.detach(paths, file)
            inside.hide_disk(pid, device)
        disks.detach(paths, file)
        record.without_disk(disk).save(paths)
        file.unlink(missing_ok=True)
        return True


def down(state: State, name: str) -> bool:
    """Take a host away with everything that belongs to it; False when there was none."""
    records.check_name(name)
    with lock(state.host_lock(name), f"host {name}"):
        present = state.host(name).directory.exists()
        _erase(state, name)
    furnish.announce(state)
    retire_network(state)
    return present


def retire_network(state: State) -> None:
    """With the last host the bridge goes, and all that came with it."""
    with lock(state.lock, "the network"):
        if not (state.hosts.is_dir() and any(state.hosts.iterdir())):
            network.remove(state)


def _erase(state: State, name: str) -> None:
    """Stop a host and delete its files, whatever state an interrupted run left it in."""
    paths = state.host(name)
    if not paths.directory.exists():
        return
    _stop(state, paths, records.load(paths))
    disks.detach(paths)
    shutil.rmtree(paths.directory)


def _stop(state: State, paths: HostPaths, record: HostRecord | None) -> None:
    """Kill what runs of a host; its file system and disks stay."""
    for stamp in (paths.runner, paths.pid):
        if (pid := live_pid(stamp)) is not None:
            kill(pid)
            wait_until(partial(_is_gone, stamp), 10)
    groups = [Path(line) for line in read_text(paths.cgroups).splitlines()]
    if left := cgroups.remove(_with_scope(groups)):
        raise LabError(
            f"cgroup {left[0]} cannot be removed; its processes: {sorted(cgroups.processes(left))}"
        )
    if record is not None:
        network.unplug(state, record.address)
    for file in (paths.runner, paths.pid, paths.outer_pid, paths.cgroups):
        file.unlink(missing_ok=True)


def _is_gone(stamp: Path) -> bool:
    return live_pid(stamp) is None


def _with_scope(groups: Iterable[Path]) -> list[Path]:
    """On pure v2 PID 1's group lies inside one that holds the supervisor as well."""
    return [
        group.parent if group.name == "host" and (group.parent / "supervisor").exists() else group
        for group in groups
    ]


def clean(state: State) -> list[str]:
    """Take every host down, also those of which only parts are left; returns their names."""
    names = sorted(path.name for path in state.hosts.glob("*")) if state.hosts.is_dir() else []
    for name in names:
        down(state, name)
    for cable in Path("/sys/class/net").glob(f"lv{state.tag}.*"):
        run(["ip", "link", "delete", cable.name], check=False)
    retire_network(state)
    return [name for name in names if re.fullmatch(records.NAME, name)]

"""Command line of the lab."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import cast

from lab import base, furnish, host, inside, preflight, records, sources
from lab.paths import State
from lab.system import PATIENCE, LabError, say, size_in_bytes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 done, 1 a failure that the message explains, 2 wrong usage."""
    options = parser().parse_args(arguments)
    command: Callable[[State, argparse.Namespace], int] = options.run
    try:
        return command(State.from_environment(), options)
    except LabError as error:
        say(f"lab: {error}")
        return 1
    except KeyboardInterrupt:
        say("lab: interrupted; the same command can be run again")
        return 130


def parser() -> argparse.ArgumentParser:
    """All commands with their arguments."""
    top = argparse.ArgumentParser(
        prog="python3 -m lab", description="Disposable systemd hosts on this machine."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[State, argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=text, description=text)
        one.set_defaults(run=run)
        return one

    def add_timeout(one: argparse.ArgumentParser) -> None:
        one.add_argument("--timeout", type=float, default=PATIENCE, metavar="SECONDS", help="default: 120")

    one = add(
        "up", _up, "Make a host and wait until it runs and answers ssh; nothing changes if it already does."
    )
    one.add_argument("name")
    one.add_argument(
        "--ip", metavar="ADDRESS", help="a fixed address; default: the lowest free one from .100"
    )
    one.add_argument(
        "--suite", choices=[*sources.DEBIAN_SUITES, *sources.UBUNTU_SUITES], help="default: the machine's"
    )
    one.add_argument(
        "--disk", action="append", default=[], metavar="DEVICE=SIZE", help="such as nvme0n1=2G; repeatable"
    )
    add_timeout(one)
    one = add("down", _down, "Take hosts away with everything that belongs to them.")
    one.add_argument("names", nargs="+", metavar="name")
    one = add("exec", _exec, "Run a command inside as root, without ssh.")
    one.add_argument("name")
    one.add_argument("command", nargs=argparse.REMAINDER)
    one = add("ssh", _ssh, "Log in, or run a command, by ssh as root.")
    one.add_argument("name")
    one.add_argument("command", nargs=argparse.REMAINDER)
    one = add("shell", _ssh, "Log in by ssh as root.")
    one.add_argument("name")
    one.set_defaults(command=[])
    one = add("console", _console, "Print what the host's PID 1 wrote at boot.")
    one.add_argument("name")
    one = add("wait", _wait, "Wait until a host runs and answers ssh.")
    one.add_argument("name")
    add_timeout(one)
    one = add("reboot", _reboot, "Reboot a host and wait until it is back.")
    one.add_argument("name")
    add_timeout(one)
    one = add("disk", _disk, "Attach a loop disk that appears inside as /dev/DEVICE.")
    one.add_argument("name")
    one.add_argument("device")
    one.add_argument("size")
    one = add("undisk", _undisk, "Pull a loop disk out and delete its content.")
    one.add_argument("name")
    one.add_argument("device")
    one = add("list", _list, "List the hosts.")
    one.add_argument("--json", action="store_true")
    one = add("clean", _clean, "Take all hosts down; nothing is left behind.")
    one.add_argument("--images", action="store_true", help="delete base images too that are out of date")
    one = add("base", _base, "Build base images, or say where they are.")
    one.add_argument("suites", nargs="*", metavar="suite", help="default: the machine's")
    one.add_argument("--rebuild", action="store_true", help="even if the cache has one")
    add("preflight", _preflight, "Say what this machine has and lacks.")
    add("packages", _packages, "Print the distribution packages that are missing, one a line.")
    return top


def _up(state: State, options: argparse.Namespace) -> int:
    preflight.require(state)
    started = time.monotonic()
    disks = dict(records.parse_disk(text) for text in options.disk)
    changed = host.up(state, options.name, options.ip, options.suite, disks)
    status = host.wait(state, options.name, options.timeout)
    record = records.require(state, options.name)
    seconds = f"{time.monotonic() - started:.1f} s" if changed else "no change"
    print(f"{record.name}: {status}, {record.address}, {record.suite}, {seconds}")
    return 0


def _down(state: State, options: argparse.Namespace) -> int:
    _require_root()
    for name in options.names:
        print(f"{name}: {'taken down' if host.down(state, name) else 'not there'}")
    return 0


def _exec(state: State, options: argparse.Namespace) -> int:
    _require_root()
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        raise LabError(f"exec {options.name}: give a command, such as 'systemctl status'")
    inside.execute(host.require_pid(state, options.name), command)
    return 0


def _ssh(state: State, options: argparse.Namespace) -> int:
    record = records.require(state, options.name)
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    arguments = [*furnish.ssh_command(state, record.address), *command]
    os.execvp(arguments[0], arguments)  # noqa: S606


def _console(state: State, options: argparse.Namespace) -> int:
    records.require(state, options.name)
    sys.stdout.write(state.host(options.name).console.read_text(errors="replace"))
    return 0


def _wait(state: State, options: argparse.Namespace) -> int:
    _require_root()
    print(f"{options.name}: {host.wait(state, options.name, options.timeout)}")
    return 0


def _reboot(state: State, options: argparse.Namespace) -> int:
    _require_root()
    started = time.monotonic()
    status = host.reboot(state, options.name, options.timeout)
    print(f"{options.name}: {status}, {time.monotonic() - started:.1f} s")
    return 0


def _disk(state: State, options: argparse.Namespace) -> int:
    _require_root()
    device = records.check_disk(options.device)
    changed = host.add_disk(state, options.name, device, size_in_bytes(options.size))
    print(f"{options.name}: /dev/{device} {options.size}{'' if changed else ', no change'}")
    return 0


def _undisk(state: State, options: argparse.Namespace) -> int:
    _require_root()
    removed = host.remove_disk(state, options.name, options.device)
    print(f"{options.name}: /dev/{options.device} {'removed' if removed else 'not there'}")
    return 0


def _list(state: State, options: argparse.Namespace) -> int:
    rows = [_row(state, record) for record in records.load_all(state)]
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    for row in rows:
        disks = " ".join(cast(list[str], row["disks"]))
        print(f"{row['name']:<24} {row['address']:<15} {row['suite']:<9} {row['state']:<8} {disks}".rstrip())
    return 0


def _row(state: State, record: records.HostRecord) -> dict[str, object]:
    pid = host.pid_of(state, record.name)
    words = "running" if pid else "stopped" if record.completed else "partial"
    return {
        "name": record.name,
        "address": record.address,
        "suite": record.suite,
        "state": words,
        "pid": pid,
        "key": str(state.key),
        "known_hosts": str(state.known_hosts),
        "disks": sorted(record.disks),
    }


def _clean(state: State, options: argparse.Namespace) -> int:
    _require_root()
    for name in host.clean(state):
        print(f"{name}: taken down")
    for image in base.prune() if options.images else []:
        print(f"{image}: deleted")
    return 0


def _base(state: State, options: argparse.Namespace) -> int:
    preflight.require(state)
    for suite in options.suites or [sources.default_suite()]:
        print(f"{suite}: {base.ensure(suite, rebuild=options.rebuild)}")
    return 0


def _preflight(state: State, _: argparse.Namespace) -> int:
    findings = preflight.check(state)
    for finding in findings:
        print(
            f"{'lacks' if finding.remedy else 'ok':<6} {finding.subject}: {finding.found}{_remedy(finding)}"
        )
    return 1 if any(finding.remedy for finding in findings) else 0


def _remedy(finding: preflight.Finding) -> str:
    return f"; {finding.remedy}" if finding.remedy else ""


def _packages(_state: State, _: argparse.Namespace) -> int:
    for package in preflight.required_packages():
        print(package)
    return 0


def _require_root() -> None:
    if os.geteuid() != 0:
        raise LabError(f"this command needs root, not uid {os.geteuid()}: run it with sudo")

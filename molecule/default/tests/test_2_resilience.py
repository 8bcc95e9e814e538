"""The host comes back by itself: after a reboot, and after its engine's processes were killed."""

from __future__ import annotations

import subprocess

from conftest import ROOT, answer, until
from openai import OpenAI
from testinfra.host import Host

UNIT = "citadel-engine@smollm2.service"


def engine_processes(server: Host) -> dict[int, str]:
    """PID and name of each process in the engine's cgroup."""
    lines = server.check_output("ps -eww -o pid=,comm=,cgroup=").splitlines()
    return {int(line.split()[0]): line.split()[1] for line in lines if UNIT in line}


def kill_and_recover(server: Host, client: OpenAI, pid: int) -> None:
    before = set(engine_processes(server))
    server.check_output(f"kill -9 {pid}")
    until(lambda: set(engine_processes(server)).isdisjoint(before), 60, "the end of every old process")
    until(lambda: "Paris" in answer(client), 240, "an answer after the kill")
    left = server.run(f"ps -o pid= -p {','.join(map(str, before))}").stdout.split()
    assert left == [], f"orphans: {left}"


def main_pid(server: Host) -> int:
    return int(server.check_output(f"systemctl show -p MainPID --value {UNIT}"))


def test_killed_worker(server: Host, client: OpenAI) -> None:
    workers = [
        pid for pid, name in engine_processes(server).items() if pid != main_pid(server) and "Engine" in name
    ]
    assert workers, engine_processes(server)
    kill_and_recover(server, client, workers[0])


def test_killed_api_server(server: Host, client: OpenAI) -> None:
    kill_and_recover(server, client, main_pid(server))


def test_reboot(server: Host, client: OpenAI) -> None:
    boot_id = server.check_output("cat /proc/sys/kernel/random/boot_id")
    server.run("systemctl reboot")
    until(lambda: server.check_output("cat /proc/sys/kernel/random/boot_id") != boot_id, 180, "the reboot")
    until(lambda: "Paris" in answer(client), 300, "an answer after the reboot")
    assert server.check_output("systemctl --failed --no-legend") == ""
    listed = subprocess.run(
        ["python3", "-m", "lab", "list"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "citadel-slice" in listed.stdout

"""What the preflight costs beside `ansible.builtin.setup`: on one host and on eight at once."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from bench.page import ROOT, Benchmark
from bench.provisioning import BIN, run, spread
from lab.paths import State

HOSTS = tuple(f"citadel-bench-{number}" for number in range(1, 9))
STATE = State.from_environment()
ROUNDS = 5
LAB = (sys.executable, "-m", "lab")
CONNECTION = {
    "ansible_user": "root",
    "ansible_ssh_private_key_file": str(STATE.key),
    "ansible_ssh_common_args": f"-o UserKnownHostsFile={STATE.known_hosts} -o StrictHostKeyChecking=yes",
}
# Something to do in every section; nothing stops, for these hosts have no GPU.
EXPECTED: dict[str, Any] = {
    "preflight_fail_on": [],
    "preflight_expected": {
        "host": {"memory": {"minimum_gb": 1}},
        "mounts": {"mounts": [{"path": "/", "min_free_gib": 1}]},
        "endpoints": {"endpoints": [{"name": "ssh", "host": "127.0.0.1", "port": 22}]},
    },
}
SETUP = [{"hosts": "all", "gather_facts": False, "become": True, "tasks": [{"ansible.builtin.setup": {}}]}]


class Cost(NamedTuple):
    """Seconds on the clock, and processor seconds of everything on the machine meanwhile."""

    wall: float
    processor: float


def _busy() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.system + times.nice + times.irq + times.softirq)


def _timed(command: list[str]) -> Cost:
    busy = _busy()
    wall, _output = run(*command)
    return Cost(wall, _busy() - busy)


def _memory(command: list[str]) -> float:
    """MiB that the controller takes at most, with its workers and their ssh; shared memory counts once."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    controller, most = psutil.Process(process.pid), 0.0
    while process.poll() is None:
        total = 0
        for one in [controller, *controller.children(recursive=True)]:
            try:
                total += one.memory_full_info().pss
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
        most = max(most, total / 2**20)
        time.sleep(0.05)
    return most


def _commands(directory: Path) -> dict[tuple[str, int], list[str]]:
    """The runs, by what is run and on how many hosts."""
    setup = directory / "setup.yml"
    setup.write_text(json.dumps(SETUP))
    addresses = {name: (STATE.host(name).directory / "ip").read_text().strip() for name in HOSTS}
    commands = {}
    for count in (1, len(HOSTS)):
        hosts = {name: {"ansible_host": addresses[name]} for name in HOSTS[:count]}
        variables = {**CONNECTION, **EXPECTED, "preflight_report_dir": str(directory / f"reports-{count}")}
        inventory = directory / f"hosts-{count}.yml"
        inventory.write_text(json.dumps({"all": {"hosts": hosts, "vars": variables}}))
        start = [str(BIN / "ansible-playbook"), "-i", str(inventory), "--forks", str(len(HOSTS))]
        commands["setup", count] = [*start, str(setup)]
        commands["preflight", count] = [*start, "playbooks/preflight.yml"]
    return commands


def _ratio(above: list[Cost], below: list[Cost]) -> str:
    return spread([one.wall / other.wall for one, other in zip(above, below, strict=True)])


def measure() -> list[str]:
    """Rows of the table. The hosts are made for it and taken down."""
    try:
        for name in HOSTS:
            run(*LAB, "up", name)
        with tempfile.TemporaryDirectory() as directory:
            commands = _commands(Path(directory))
            costs: dict[tuple[str, int], list[Cost]] = {key: [] for key in commands}
            for command in commands.values():  # once for the first login and warm caches
                run(*command)
            for _round in range(ROUNDS):
                for key, command in commands.items():
                    costs[key].append(_timed(command))
            memory = {key: _memory(command) for key, command in commands.items()}
    finally:
        run(*LAB, "down", *HOSTS)
    return _rows(costs, memory)


def _rows(costs: dict[tuple[str, int], list[Cost]], memory: dict[tuple[str, int], float]) -> list[str]:
    many = len(HOSTS)
    columns = ("1 host, s", f"{many} hosts, s", f"{many} / 1", "processor, s", "controller, MiB")
    rows = [f"| | {' | '.join(columns)} |", "|---|---|---|---|---|---|"]
    for name, title in (("setup", "`ansible.builtin.setup`"), ("preflight", "`playbooks/preflight.yml`")):
        one, all_hosts = costs[name, 1], costs[name, many]
        processor = [statistics.median(cost.processor for cost in each) for each in (one, all_hosts)]
        share = processor[1] / statistics.median(cost.wall for cost in all_hosts) / (os.cpu_count() or 1)
        cells = [
            spread([cost.wall for cost in one]),
            spread([cost.wall for cost in all_hosts]),
            _ratio(all_hosts, one),
            f"{processor[0]:.1f} and {processor[1]:.1f} ({share:.0%} of the machine)",
            f"{memory[name, 1]:.0f} and {memory[name, many]:.0f}",
        ]
        rows.append(f"| {title} | {' | '.join(cells)} |")
    ratios = [_ratio(costs["preflight", count], costs["setup", count]) for count in (1, many)]
    rows.append(f"| preflight / setup, pair by pair | {ratios[0]} | {ratios[1]} | | | |")
    return rows


BENCHMARKS = {
    "preflight": Benchmark(
        "The preflight beside `setup`",
        "Whole runs of `ansible-playbook`, its start included, eight forks. The hosts are lab hosts and\n"
        "share the controller's processors, which limits the runs on eight of them. Processor seconds are\n"
        "those of the whole machine, memory is the most that controller, workers and their ssh take\n"
        "together, each for 1 host and for 8. Targets: one host within 1.5 times `setup`, eight hosts\n"
        "within twice the time of one.",
        measure,
    ),
}

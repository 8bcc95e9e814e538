"""What provisioning costs: `make up`, the run that changes nothing, environments built by uv beside pip."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.page import ROOT, Benchmark

BIN = Path(sys.executable).parent
STACKS = ROOT / "collections/ansible_collections/citadel/llm/roles/python_env/files/stacks"
INVENTORY = "inventories/local"


def run(*argv: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None) -> tuple[float, str]:
    """Seconds and output of a command. Raises CalledProcessError."""
    started = time.monotonic()
    done = subprocess.run(
        [str(word) for word in argv],
        cwd=cwd,
        env=env,
        check=True,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return time.monotonic() - started, done.stdout


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def bring_up() -> list[str]:
    """`make up` without a host (caches filled), and with the host running."""
    run("make", "down")
    cold, _ = run("make", "up")
    warm = [run("make", "up")[0] for _ in range(2)]
    return [
        "| | seconds |",
        "|---|---|",
        f"| `make up`, no host, downloads and base image cached | {cold:.0f} |",
        f"| `make up`, host running | {spread(warm)} |",
    ]


def executed(output: str) -> int:
    """How many tasks a run executed, skipped ones left out."""
    recap = output.rpartition("PLAY RECAP")[2]
    return sum(int(word.removeprefix("ok=")) for word in recap.split() if word.startswith("ok="))


def no_change() -> list[str]:
    """site.yml on a provisioned host, in turn with as many `ping` tasks in one play."""
    playbook = [str(BIN / "ansible-playbook"), "-i", INVENTORY]
    _, output = run(*playbook, "playbooks/site.yml")
    tasks = executed(output)
    with tempfile.TemporaryDirectory() as directory:
        pings = Path(directory) / "ping.yml"
        ping = {"name": "Ping", "ansible.builtin.ping": {}}
        pings.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [ping] * tasks}]))
        site_times, ping_times = [], []
        for _ in range(3):
            site_times.append(run(*playbook, "playbooks/site.yml")[0])
            ping_times.append(run(*playbook, pings)[0])
    ratios = [site / ping for site, ping in zip(site_times, ping_times, strict=True)]
    return [
        "| run | tasks | seconds | seconds per task |",
        "|---|---|---|---|",
        row("`site.yml`, nothing to change", tasks, site_times),
        row("`ansible.builtin.ping` as often", tasks, ping_times),
        f"| ratio, pair by pair | | {spread(ratios)} | |",
    ]


def row(name: str, tasks: int, times: list[float]) -> str:
    return f"| {name} | {tasks} | {spread(times)} | {statistics.median(times) / tasks:.3f} |"


def build_times(lock: Path, rounds: int, find_links: str) -> tuple[list[float], list[float]]:
    """Seconds for uv and for pip to build the same environment, in turn, no cache, byte-compiled."""
    uv_times: list[float] = []
    pip_times: list[float] = []
    environment = {
        **os.environ,
        "PIP_FIND_LINKS": find_links,
        "UV_FIND_LINKS": find_links,
        "PIP_NO_CACHE_DIR": "1",
    }
    for _ in range(rounds):
        for times, build in ((uv_times, uv_build), (pip_times, pip_build)):
            directory = Path(tempfile.mkdtemp())
            try:
                started = time.monotonic()
                build(directory / "env", lock, environment)
                times.append(time.monotonic() - started)
            finally:
                shutil.rmtree(directory)
    return uv_times, pip_times


def uv_build(target: Path, lock: Path, environment: dict[str, str]) -> None:
    run(BIN / "uv", "venv", "--quiet", "--python", "/usr/bin/python3", target, env=environment)
    options = ["--no-cache", "--compile-bytecode", "--require-hashes", "--python", str(target / "bin/python")]
    run(BIN / "uv", "pip", "sync", *options, lock, env=environment)


def pip_build(target: Path, lock: Path, environment: dict[str, str]) -> None:
    run("/usr/bin/python3", "-m", "venv", target, env=environment)
    run(
        target / "bin/pip", "install", "--quiet", "--no-deps", "--require-hashes", "-r", lock, env=environment
    )


def environments() -> list[str]:
    cache = Path(os.environ.get("CITADEL_CACHE") or Path.home() / ".cache/citadel")
    rows = ["| environment | uv, seconds | pip, seconds | pip / uv |", "|---|---|---|---|"]
    for name, rounds in (("app", 3), ("cpu", 1)):
        uv_times, pip_times = build_times(
            STACKS / name / "requirements.txt", rounds, str(cache / "wheelhouse")
        )
        ratio = statistics.median(pip_times) / statistics.median(uv_times)
        rows.append(f"| `{name}` | {spread(uv_times)} | {spread(pip_times)} | {ratio:.1f} |")
    return rows


BENCHMARKS = {
    "up": Benchmark(
        "From nothing to an answer",
        "`make up`, the question included. Targets: 360 s cold, 60 s warm.",
        bring_up,
    ),
    "no-change": Benchmark(
        "The run that changes nothing",
        "Three rounds in turn, start-up of Ansible included. Targets: 25 s and 0.25 s per task.",
        no_change,
    ),
    "environments": Benchmark(
        "Building an environment",
        "The locks of the roles from the same index, no cache, byte-compiled, in turn on this machine.",
        environments,
    ),
}

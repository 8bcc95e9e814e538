"""Run everything that must pass, step by step, with the time of each.

First the quick ones, alone. Then steps that only read run in one lane and steps on real hosts in another,
side by side, because the second mostly waits for engines. Run as `python -m tools.run_tests [--quick]`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHON = sys.executable
PYTEST = (PYTHON, "-m", "pytest", "-q")


@dataclass(frozen=True)
class Step:
    """One command of the run."""

    name: str
    argv: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    step: Step
    passed: bool
    seconds: float


QUICK = (
    Step("format", ("ruff", "format", "--check", ".")),
    Step("lint", ("ruff", "check", ".")),
    Step("types", ("mypy",)),
    Step("yaml", ("yamllint", "--strict", ".")),
    Step("unit tests", (*PYTEST, "-m", "not lab and not engine", "-n", "2")),
)
STATIC = (
    Step("ansible-lint", ("ansible-lint", "--offline", "-q")),
    Step("ansible-test sanity", (PYTHON, "-m", "tools.ansible_test", "sanity")),
    Step("ansible-test units", (PYTHON, "-m", "tools.ansible_test", "units")),
)
HOSTS = (
    Step("base images", (PYTHON, "-m", "lab", "base", "bookworm", "trixie")),
    Step("the lab's model", (PYTHON, "-m", "tools.lab_model", "--prune")),
    Step("the lab's wheelhouse", (PYTHON, "-m", "tools.wheelhouse")),
    Step("first slice on a real host", ("molecule", "test", "-s", "default")),
    Step("preflight on real hosts", ("molecule", "test", "-s", "preflight")),
    Step("modules on a real host", ("molecule", "test", "-s", "modules")),
    Step("lab", (*PYTEST, "-m", "lab", "lab/tests")),
)

printing = threading.Lock()


def say(text: str) -> None:
    with printing:
        print(text, flush=True)


def run(step: Step) -> Result:
    """Run one step; what it prints is shown in one piece when it ends."""
    say(f"== {step.name}: started")
    started = time.monotonic()
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        step.argv, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output = wait(step, process, started)
    seconds = time.monotonic() - started
    passed = process.returncode == 0
    shown = output if not passed else "\n".join(output.splitlines()[-3:])
    say(f"{shown}\n== {step.name}: {'passed' if passed else 'FAILED'} in {seconds:.0f} s")
    return Result(step, passed, seconds)


def wait(step: Step, process: subprocess.Popen[str], started: float) -> str:
    """The step's output, with a sign of life each minute."""
    while True:
        try:
            return process.communicate(timeout=60)[0]
        except subprocess.TimeoutExpired:
            say(f"== {step.name}: running, {time.monotonic() - started:.0f} s")


def run_lane(steps: tuple[Step, ...]) -> list[Result]:
    return [run(step) for step in steps]


def main() -> None:
    started = time.monotonic()
    results = run_lane(QUICK)
    if "--quick" not in sys.argv[1:]:
        with ThreadPoolExecutor(2) as pool:
            results += [result for lane in pool.map(run_lane, (STATIC, HOSTS)) for result in lane]
    failed = [result.step.name for result in results if not result.passed]
    print("\n== Summary")
    for result in results:
        print(f"   {'passed' if result.passed else 'FAILED'}  {result.seconds:6.0f} s  {result.step.name}")
    print(f"   in all  {time.monotonic() - started:6.0f} s")
    print(f"{len(results) - len(failed)} passed, {len(failed)} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

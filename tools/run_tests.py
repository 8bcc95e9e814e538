"""Run everything that must pass, step by step, with the time of each.

Two lanes run side by side, because the first slice mostly waits for its engine. Run as
`python -m tools.run_tests [--quick]`.
"""

from __future__ import annotations

import os
import re
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
    needs: Step | None = None
    """A step of the other lane that has to end before this one begins."""


@dataclass(frozen=True)
class Result:
    step: Step
    passed: bool
    seconds: float
    output: str


LINTERS = (
    Step("format", ("ruff", "format", "--check", ".")),
    Step("lint", ("ruff", "check", ".")),
    Step("types", ("mypy",)),
    Step("yaml", ("yamllint", "--strict", ".")),
)
QUICK = (*LINTERS, Step("unit tests", (*PYTEST, "-m", "not lab and not slow", "-n", "2")))
# ansible-test runs the rest of the collection's; it has no recordings, hypothesis or jsonschema.
COLLECTION_UNITS = "collections/ansible_collections/citadel/llm/tests/unit/plugins"
NOT_IN_ANSIBLE_TEST = tuple(
    f"{COLLECTION_UNITS}/{path}.py"
    for path in ("module_utils/test_gpu_fuzz", "module_utils/test_gpu_info", "plugin_utils/test_report")
)
UNITS = ("files/app/tests", "lab/tests", "tools/tests", "tests", *NOT_IN_ANSIBLE_TEST)
BASE_IMAGES = Step("base images", (PYTHON, "-m", "lab", "base", "bookworm", "trixie"))
READING = (
    *LINTERS,
    Step("unit tests", (*PYTEST, "-m", "not lab and not slow", "-n", "2", *UNITS)),
    Step("slow unit tests", (*PYTEST, "-m", "slow and not lab", *UNITS)),
    Step("ansible-lint", ("ansible-lint", "--offline", "-q")),
    Step("ansible-test units", (PYTHON, "-m", "tools.ansible_test", "units")),
    Step("ansible-test sanity", (PYTHON, "-m", "tools.ansible_test", "sanity")),
)
SMALL_HOSTS = (
    Step("preflight on real hosts", ("molecule", "test", "-s", "preflight"), needs=BASE_IMAGES),
    Step("monitoring on real hosts", ("molecule", "test", "-s", "monitoring"), needs=BASE_IMAGES),
    Step("modules on a real host", ("molecule", "test", "-s", "modules"), needs=BASE_IMAGES),
)
SLICE = (
    BASE_IMAGES,
    Step("the lab's model", (PYTHON, "-m", "tools.lab_model", "--prune")),
    Step("the lab's wheelhouse", (PYTHON, "-m", "tools.wheelhouse")),
    Step("first slice on a real host", ("molecule", "test", "-s", "default")),
    Step("lab and tarball", (*PYTEST, "-m", "lab", "lab/tests", "tests")),
)

FAILURE = re.compile(r"^(\x1b\[[0-9;]*m|[ │])*(FAILED\b|ERROR\b|E  +\S|fatal: |\[ERROR\]|CRITICAL )")
"""Lines of pytest, Ansible and Molecule that say what failed and why."""

printing = threading.Lock()
ended = {BASE_IMAGES: threading.Event()}
"""Set when a step that another one needs has ended, well or not."""


def say(text: str) -> None:
    with printing:
        print(text, flush=True)


def run(step: Step) -> Result:
    """Run one step; what it prints is shown in one piece when it ends."""
    if step.needs is not None:
        ended[step.needs].wait()
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
    return Result(step, passed, seconds, output)


def wait(step: Step, process: subprocess.Popen[str], started: float) -> str:
    """The step's output, with a sign of life each minute."""
    while True:
        try:
            return process.communicate(timeout=60)[0]
        except subprocess.TimeoutExpired:
            say(f"== {step.name}: running, {time.monotonic() - started:.0f} s")


def run_lane(steps: tuple[Step, ...]) -> list[Result]:
    results = []
    for step in steps:
        try:
            results.append(run(step))
        finally:
            if step in ended:
                ended[step].set()
    return results


def summary(results: list[Result], seconds: float) -> str:
    """The steps with their times; what failed stands last, where a log cut to its end still shows it."""
    failed = [result for result in results if not result.passed]
    lines = ["", "== Summary"]
    lines += [
        f"   {'passed' if result.passed else 'FAILED'}  {result.seconds:6.0f} s  {result.step.name}"
        for result in results
    ]
    lines += [f"   in all  {seconds:6.0f} s", f"{len(results) - len(failed)} passed, {len(failed)} failed"]
    for result in failed:
        printed = result.output.splitlines()
        lines += ["", f"== {result.step.name} failed:"]
        lines += [line for line in printed if FAILURE.search(line)][-20:] or printed[-10:]
    return "\n".join(lines)


def main() -> None:
    started = time.monotonic()
    lanes = (QUICK,) if "--quick" in sys.argv[1:] else (READING + SMALL_HOSTS, SLICE)
    with ThreadPoolExecutor(len(lanes)) as pool:
        results = [result for lane in pool.map(run_lane, lanes) for result in lane]
    print(summary(results, time.monotonic() - started))
    sys.exit(0 if all(result.passed for result in results) else 1)


if __name__ == "__main__":
    main()

"""Run everything that must pass, step by step, with the time of each.

Run as `python -m tools.run_tests [--quick]`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHON = sys.executable
COLLECTION = "collections/ansible_collections/citadel/llm"


@dataclass(frozen=True)
class Step:
    """One command of the run; `quick` steps belong to the subset that takes less than two minutes."""

    name: str
    argv: tuple[str, ...]
    quick: bool = False


STEPS = (
    Step("format", ("ruff", "format", "--check", "."), quick=True),
    Step("lint", ("ruff", "check", "."), quick=True),
    Step("types", ("mypy",), quick=True),
    Step("yaml", ("yamllint", "--strict", "."), quick=True),
    Step("locks", (PYTHON, "requirements/lock.py", "--check"), quick=True),
    Step("role documentation", (PYTHON, "-m", "tools.role_readmes", "--check"), quick=True),
    Step("unit tests", (PYTHON, "-m", "pytest", "-q", "-m", "not lab and not engine", "-n", "2"), quick=True),
    Step("ansible-lint", ("ansible-lint", "--offline", "-q")),
    Step("ansible-test sanity", (PYTHON, "-m", "tools.ansible_test", "sanity")),
    Step("ansible-test units", (PYTHON, "-m", "tools.ansible_test", "units")),
    Step("the lab's model", (PYTHON, "-m", "tools.lab_model")),
    Step("the lab's wheelhouse", (PYTHON, "-m", "tools.wheelhouse")),
    Step("lab", (PYTHON, "-m", "pytest", "-q", "-m", "lab", "lab/tests", "files/app/tests")),
    Step("modules on a real host", ("molecule", "test", "-s", "modules")),
    Step("first slice on a real host", ("molecule", "test", "-s", "default")),
)


def run(step: Step, number: int, total: int) -> tuple[bool, float]:
    print(f"\n== [{number}/{total}] {step.name}: {' '.join(step.argv)}", flush=True)
    started = time.monotonic()
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    passed = subprocess.run(step.argv, cwd=ROOT, env=environment, check=False).returncode == 0
    seconds = time.monotonic() - started
    print(f"== {step.name}: {'passed' if passed else 'FAILED'} in {seconds:.0f} s", flush=True)
    return passed, seconds


def main() -> None:
    steps = [step for step in STEPS if step.quick or "--quick" not in sys.argv[1:]]
    results = [(step, *run(step, number, len(steps))) for number, step in enumerate(steps, 1)]
    failed = [step.name for step, passed, _ in results if not passed]
    print("\n== Summary")
    for step, passed, seconds in results:
        print(f"   {'passed' if passed else 'FAILED'}  {seconds:6.0f} s  {step.name}")
    print(f"   total    {sum(seconds for _, _, seconds in results):6.0f} s")
    print(f"{len(steps) - len(failed)} passed, {len(failed)} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

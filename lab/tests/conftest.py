"""A lab of the tests' own: other hosts on this machine are neither seen nor touched."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.paths import REPOSITORY
from lab.tests.driver import Lab


def _requirements() -> str:
    missing = subprocess.run(
        [sys.executable, "-m", "lab", "preflight"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    return "\n".join(line for line in missing.stdout.splitlines() if line.startswith("lacks"))


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    if lacks := _requirements():
        pytest.skip(f"this machine cannot run lab hosts:\n{lacks}")
    state = Path(tempfile.mkdtemp(prefix="citadel-lab-test-", dir="/var/tmp"))
    one = Lab(state, f"10.213.{random.randint(128, 254)}.0/24")
    try:
        yield one
    finally:
        one("clean")
        shutil.rmtree(state)

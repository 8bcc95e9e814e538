"""What the tests of monitoring share: both hosts, what Prometheus answers, what was received."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import testinfra
from testinfra.host import Host

ROOT = Path(__file__).resolve().parents[3]
SCENARIO = ROOT / "molecule/monitoring"
STATE = Path(os.environ.get("CITADEL_LAB_STATE", "/var/lib/citadel-lab"))
WATCHED, WATCHED_ADDRESS = "citadel-watched", "10.213.77.31"
CENTRAL, CENTRAL_ADDRESS = "citadel-central", "10.213.77.32"


@dataclass(frozen=True)
class Run:
    """A playbook's run."""

    rc: int
    output: str


def playbook(name: str, *arguments: str) -> Run:
    """Run a stage of the collection against the scenario's hosts."""
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(SCENARIO / "inventory")]
    done = subprocess.run(
        [*command, f"citadel.llm.{name}", *arguments], cwd=ROOT, text=True, capture_output=True, check=False
    )
    return Run(done.returncode, done.stdout + done.stderr)


def connect(address: str) -> Host:
    options = f"-o UserKnownHostsFile={STATE}/known_hosts -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes"
    return testinfra.get_host(
        f"ssh://root@{address}", ssh_identity_file=str(STATE / "id_ed25519"), ssh_extra_args=options
    )


@pytest.fixture(scope="session")
def watched() -> Host:
    return connect(WATCHED_ADDRESS)


@pytest.fixture(scope="session")
def central() -> Host:
    return connect(CENTRAL_ADDRESS)


def ask(central: Host, path: str) -> Any:
    """What Prometheus answers on its loopback port."""
    text = central.check_output(f"curl -sS --fail 'http://127.0.0.1:9090/api/v1/{path}'")
    return json.loads(text)["data"]


def query(central: Host, expression: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(central, f"query?query={quote(expression, safe='')}")["result"]
    return found


def received(central: Host, since: float = 0.0) -> list[dict[str, Any]]:
    """What the receiver took since a moment of this machine's clock, which the hosts share."""
    text = central.check_output("cat /srv/received.jsonl 2>/dev/null || true")
    lines = [json.loads(line) for line in text.splitlines()]
    return [line for line in lines if line["time"] >= since]


def until(condition: Callable[[], object], seconds: float, what: str) -> float:
    """Wait for a condition and return how long that took."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > seconds:
            pytest.fail(f"{what} did not happen within {seconds:.0f} s")
        time.sleep(1)
    return time.monotonic() - started

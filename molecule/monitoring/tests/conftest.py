"""What the tests of monitoring share: both hosts, what Prometheus answers, what was received."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import testinfra
from faults import AMBIENT, TOGETHER, Fault
from testinfra.host import Host

ROOT = Path(__file__).resolve().parents[3]
SCENARIO = ROOT / "molecule/monitoring"
STATE = Path(os.environ.get("CITADEL_LAB_STATE", "/var/lib/citadel-lab"))
WATCHED, WATCHED_ADDRESS = "citadel-watched", "10.213.77.31"
REQUEST = str(uuid.uuid4())
CENTRAL, CENTRAL_ADDRESS = "citadel-central", "10.213.77.32"


@dataclass(frozen=True)
class Run:
    """A playbook's run."""

    rc: int
    output: str

    @property
    def changed(self) -> int:
        """How many tasks changed something, over all hosts."""
        counts = re.findall(r"\bchanged=(\d+)", self.output.rpartition("PLAY RECAP")[2])
        assert counts, self.output[-3000:]
        return sum(map(int, counts))


@dataclass(frozen=True)
class Notice:
    """One alert in a message to the webhook: when it came, firing or resolved, and its labels."""

    time: float
    status: str
    labels: dict[str, str]


def playbook(name: str, *arguments: str, inventory: Path = SCENARIO / "inventory") -> Run:
    """Run stages of the collection, separated by spaces, against the scenario's hosts."""
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    command = [program, "-i", str(inventory), "-e", f"@{SCENARIO}/vars/faster.yml"]
    books = [f"citadel.llm.{one}" for one in name.split()]
    # Molecule forces colours on what it starts, and a coloured count is none that can be read.
    plain = {name: value for name, value in os.environ.items() if name != "ANSIBLE_FORCE_COLOR"}
    done = subprocess.run(
        [*command, *books, *arguments],
        cwd=ROOT,
        env={**plain, "ANSIBLE_NOCOLOR": "true"},
        text=True,
        capture_output=True,
        check=False,
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


def notices(central: Host, since: float) -> list[Notice]:
    """What the webhook was told since then."""
    return [
        Notice(message["time"], alert["status"], alert["labels"])
        for message in received(central, since)
        if message["kind"] == "hook"
        for alert in message["content"]["alerts"]
    ]


def until(
    condition: Callable[[], object],
    seconds: float,
    what: str,
    state: Callable[[], object] = lambda: "not yet",
) -> float:
    """Wait for a condition and return how long that took; `state` is shown when it does not come."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > seconds:
            pytest.fail(f"{what} did not happen within {seconds:.0f} s: {state()}")
        time.sleep(1)
    return time.monotonic() - started


def make(fault: Fault, watched: Host, central: Host, made: dict[str, float]) -> None:
    """Make a fault and note when."""
    made[fault.name] = time.time()
    (central if fault.on_central else watched).check_output(fault.make)


def mend(fault: Fault, watched: Host, central: Host) -> None:
    """Undo a fault."""
    (central if fault.on_central else watched).check_output(fault.mend)


def request(watched: Host, identity: str) -> str:
    """Ask the model through the edge; return the answer's body."""
    key = watched.check_output("cat /opt/citadel/secrets/keys/default.key").strip()
    body = {"model": "stand-in", "messages": [{"role": "user", "content": "What is the capital of France?"}]}
    url, kind = f"https://{WATCHED_ADDRESS}/v1/chat/completions", "Content-Type: application/json"
    answer = subprocess.run(
        ["curl", "-sk", url, "-H", kind, "-H", "@-", "-d", json.dumps(body)],
        input=f"Authorization: Bearer {key}\nX-Request-Id: {identity}\n",
        capture_output=True,
        text=True,
        check=True,
    )
    return answer.stdout


@pytest.fixture(scope="session", autouse=True)
def faults(watched: Host, central: Host) -> Iterator[dict[str, float]]:
    """Faults are made before the first test, so that their alerts are on their way while others run."""

    def all_up() -> bool:
        return all(target["health"] == "up" for target in ask(central, "targets")["activeTargets"])

    def quiet() -> bool:
        return {
            one["metric"]["alertname"] for one in query(central, 'ALERTS{alertstate="firing"}')
        } <= AMBIENT

    until(all_up, 60, "every target is up")
    until(quiet, 60, "no alert fires", lambda: query(central, "ALERTS"))
    time.sleep(5)  # what has ended is told
    assert "Paris" in request(watched, REQUEST)
    made: dict[str, float] = {}
    for fault in TOGETHER:
        make(fault, watched, central, made)
    yield made

"""A host with a real engine is watched: every query of its dashboards is answered, and its faults are told.

The rules are the same as in production with every wait and window divided by ten.
"""

from __future__ import annotations

import json
import math
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from conftest import MODEL, NAME, ROOT, answer, playbook, until
from openai import BadRequestError, OpenAI
from testinfra.host import Host

DASHBOARDS = ROOT / "collections/ansible_collections/citadel/llm/roles/grafana/files/dashboards"
HOOK = "http://127.0.0.1:9999/hook"
RIGHTLY_EMPTY = {
    "Failures of back ends",  # none has failed
    "Refused by a limit",
    "Store of limits",
    "Keys of issuers",
    "Prefix cache",  # its queries may all be older than the window
}


@pytest.fixture(scope="module", autouse=True)
def watching(server: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The host watches itself, and somebody takes its alerts."""
    directory = tmp_path_factory.mktemp("watched")
    rules = directory / "rules"
    subprocess.run(
        [sys.executable, "-m", "tools.observability", "--faster", "10", "--into", str(rules)],
        cwd=ROOT,
        check=True,
    )
    groups = {name: {"hosts": {NAME: None}} for name in ("engines", "gateways", "monitoring")}
    (directory / "groups.yml").write_text(yaml.safe_dump({"all": {"children": groups}}))
    (directory / "variables.yml").write_text(
        yaml.safe_dump(
            {
                "__monitoring_rule_files": f"{{{{ query('ansible.builtin.fileglob', '{rules}/*.yml') }}}}",
                "monitoring_scrape_interval": "2s",
                "monitoring_probe_interval": "2s",
                "monitoring_group_wait": "1s",
                "monitoring_group_interval": "2s",
                "monitoring_receivers": [{"name": "hook", "type": "webhook", "url": HOOK}],
                "monitoring_default_receivers": ["hook"],
            }
        )
    )
    receiver = (ROOT / "molecule/monitoring/files/receiver.py").read_text()
    server.check_output(f"printf %s {shlex.quote(receiver)} > /srv/receiver.py")
    server.check_output("systemd-run --quiet --unit receiver python3 -u /srv/receiver.py")
    extra = ("-i", str(directory / "groups.yml"), "-e", f"@{directory}/variables.yml")
    run = playbook("citadel.llm.monitoring", *extra, book="citadel.llm.config")
    assert run.rc == 0, run.output[-3000:]
    yield
    server.run("systemctl stop receiver")


def ask(server: Host, path: str) -> Any:
    """What Prometheus answers."""
    text = server.check_output(f"curl -sS --fail {shlex.quote(f'http://127.0.0.1:9090/api/v1/{path}')}")
    return json.loads(text)["data"]


def told(server: Host, since: float) -> set[tuple[str, str]]:
    """Alerts that the receiver was told of since then, each firing or resolved."""
    text = server.check_output("cat /srv/received.jsonl 2>/dev/null || true")
    messages = [json.loads(line) for line in text.splitlines()]
    return {
        (alert["labels"]["alertname"], alert["status"])
        for message in messages
        if message["kind"] == "hook" and message["time"] >= since
        for alert in message["content"]["alerts"]
        if alert["labels"]["alertname"] != "ClockNotSynchronised"  # the clock is the machine's below the host
    }


def queries(*boards: str) -> list[tuple[str, str]]:
    """Title and expression of every query, as Grafana sends it with everything chosen."""
    values = {"__rate_interval": "30s"}
    return [
        (panel["title"], re.sub(r"\$(\w+)", lambda match: values.get(match[1], ".+"), target["expr"]))
        for board in boards
        for panel in json.loads((DASHBOARDS / f"{board}.json").read_text())["panels"]
        for target in panel.get("targets", ())
    ]


def unanswered(server: Host, load: Callable[[], object]) -> set[str]:
    """Queries without an answer, or with one that is no number, while there is some load."""
    wrong = set()
    for title, expr in queries("citadel-engines", "citadel-gateway"):
        if title in RIGHTLY_EMPTY:
            continue
        found = ask(server, f"query?query={quote(expr, safe='')}")["result"]
        if not found or not all(math.isfinite(float(series["value"][1])) for series in found):
            wrong.add(f"{title}: {expr}")
    if wrong:
        load()
    return wrong


def test_a_real_engine_answers_every_query_of_its_dashboards(server: Host, client: OpenAI) -> None:
    def all_up() -> bool:
        targets = ask(server, "targets")["activeTargets"]
        return {target["labels"]["job"] for target in targets} >= {
            "vllm",
            "gateway",
            "node",
            "citadel",
        } and all(target["health"] == "up" for target in targets)

    until(all_up, 60, "every target is up")

    def load() -> None:
        answer(client)
        with pytest.raises(BadRequestError):
            client.chat.completions.create(model=MODEL, messages=[], max_tokens=-1)

    load()
    wrong: set[str] = set()

    def nothing_wrong() -> bool:
        nonlocal wrong
        wrong = unanswered(server, load)
        return not wrong

    try:
        until(nothing_wrong, 40, "every query is answered")
    except pytest.fail.Exception:
        pytest.fail("\n".join(sorted(wrong)))


def test_an_engine_that_hangs_is_told_by_its_probe_and_one_that_is_killed_as_down(server: Host) -> None:
    """Its API goes on answering, /health and /metrics too: only a real request shows that it hangs."""
    unit = server.check_output("systemctl list-units --plain --no-legend 'citadel-engine@*' | cut -d' ' -f1")
    engine = unit.split()[0]
    core = server.check_output(f"pgrep -f EngineCore -P $(systemctl show -P MainPID {engine})")
    since = time.time()
    server.check_output(f"kill -STOP {core.split()[0]}")
    try:
        until(lambda: ("EngineProbeFails", "firing") in told(server, since), 110, "the hung engine is told")
        time.sleep(8)
        assert {name for name, _ in told(server, since)} == {"EngineProbeFails"}
    finally:
        killed = time.time()
        server.check_output(f"systemctl kill -s KILL {engine}")
    until(lambda: ("EngineDown", "firing") in told(server, killed), 60, "the killed engine is told")
    assert {name for name, status in told(server, since) if status == "firing"} <= {
        "EngineProbeFails",
        "EngineDown",
    }

"""A host with a real engine is watched: every query of its dashboards is answered, and its faults are told.

The rules are the same as in production with every wait and window divided by ten.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
    "Refused by a limit",  # there is none
    "Store of limits",
    "Keys of issuers",
    "Time in the gateway's queue",  # nobody has to wait
    "Prefix cache",  # not every build of vLLM has one
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
                "config_gateway": {"probes": {"real_every": 3, "real_timeout_s": 5}},
            }
        )
    )
    receiver = (ROOT / "molecule/monitoring/files/receiver.py").read_text()
    server.check_output(f"printf %s {shlex.quote(receiver)} > /srv/receiver.py")
    server.check_output("systemd-run --quiet --unit receiver python3 -u /srv/receiver.py")
    extra = ("-i", str(directory / "groups.yml"), "-e", f"@{directory}/variables.yml")
    run = playbook("citadel.llm.monitoring", *extra, book="citadel.llm.config")
    assert run.rc == 0, run.output[-3000:]
    server.check_output("systemctl restart citadel-gateway")  # reads how often it probes
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


ASK = """
import json, sys, urllib.parse, urllib.request
answers = []
for expr in json.load(sys.stdin):
    url = "http://127.0.0.1:9090/api/v1/query?" + urllib.parse.urlencode({"query": expr})
    with urllib.request.urlopen(url, timeout=30) as answer:
        answers.append([one["value"][1] for one in json.load(answer)["data"]["result"]])
print(json.dumps(answers))
"""


def unanswered(server: Host) -> set[str]:
    """Queries without an answer, or with one that is no number."""
    asked = [
        (title, expr)
        for title, expr in queries("citadel-engines", "citadel-gateway")
        if title not in RIGHTLY_EMPTY and "_spans_" not in expr  # there is no collector of spans
    ]
    expressions = shlex.quote(json.dumps([expr for _, expr in asked]))
    values = json.loads(server.check_output(f"printf %s {expressions} | python3 -c {shlex.quote(ASK)}"))
    return {
        f"{title}: {expr}: {found}"
        for (title, expr), found in zip(asked, values, strict=True)
        if not found or not all(math.isfinite(float(value)) for value in found)
    }


@contextmanager
def light_load(client: OpenAI) -> Iterator[None]:
    """A request every three seconds, and one in five that is refused."""
    ended = threading.Event()

    def ask_on() -> None:
        for number in itertools.count():
            if ended.wait(3):
                return
            answer(client)
            if number % 5 == 0:
                with contextlib.suppress(BadRequestError):
                    client.chat.completions.create(model=MODEL, messages=[], max_tokens=-1)

    thread = threading.Thread(target=ask_on)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_a_real_engine_answers_every_query_of_its_dashboards(server: Host, client: OpenAI) -> None:
    def all_up() -> bool:
        targets = ask(server, "targets")["activeTargets"]
        jobs = {target["labels"]["job"] for target in targets if target["health"] == "up"}
        return jobs >= {"vllm", "gateway", "node", "citadel"} and len(targets) == sum(
            target["health"] == "up" for target in targets
        )

    def probed() -> bool:
        """By a real request; while clients are served there is none."""
        probes = quote('citadel_gateway_backend_probes_total{kind="real"}', safe="")
        return bool(ask(server, f"query?query={probes}")["result"])

    until(all_up, 60, "every target is up")
    until(probed, 60, "the engine is probed")
    wrong: set[str] = set()

    def nothing_wrong() -> bool:
        nonlocal wrong
        wrong = unanswered(server)
        return not wrong

    with light_load(client):
        try:
            until(nothing_wrong, 90, "every query is answered")
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

"""Every target is up, faults reach who has to know, logs are found centrally, and nobody else gets in."""

from __future__ import annotations

import json
import socket
import time
import uuid
from typing import Any

import pytest
from conftest import (
    CENTRAL,
    CENTRAL_ADDRESS,
    REQUEST,
    WATCHED,
    WATCHED_ADDRESS,
    ask,
    playbook,
    query,
    received,
    until,
)
from testinfra.host import Host

TARGETS = {
    ("alertmanager", CENTRAL),
    ("citadel", CENTRAL),
    ("citadel", WATCHED),
    ("gateway", WATCHED),
    ("gpu", WATCHED),
    ("node", CENTRAL),
    ("node", WATCHED),
    ("probe", f"https://{WATCHED_ADDRESS}:443/health"),
    ("prometheus", CENTRAL),
    ("probe", "127.0.0.1:7000"),
    ("vllm", WATCHED),
}


def test_every_target_is_there_and_was_up(central: Host) -> None:
    targets = ask(central, "targets")["activeTargets"]
    assert {(target["labels"]["job"], target["labels"]["instance"]) for target in targets} == TARGETS
    down = [target for target in targets if target["health"] != "up" and target["labels"]["job"] == "node"]
    assert down == []


def test_the_exporters_tell_of_gpus_units_and_space(central: Host) -> None:
    values = {
        "citadel_gpus": "2",
        "citadel_gpu_up": "1",
        'citadel_unit_active{unit="citadel-exporter.service",host="citadel-watched"}': "1",
        "count(gpu_utilization_Percentage)": "2",
    }
    for expression, value in values.items():
        # The exporter is restarted when a fault is made, and then tells of itself a little later.
        until(
            lambda: [one["value"][1] for one in query(central, expression)] == [value],  # noqa: B023
            30,
            expression,
        )
    assert len(query(central, 'citadel_space_free_bytes{host="citadel-watched"}')) == 4
    certificates = "citadel_certificate_not_after_timestamp_seconds > time() + 86400"
    expected = {(WATCHED, "edge"), (WATCHED, "peer"), (WATCHED, "spare"), (CENTRAL, "peer")}

    def found() -> set[tuple[str, str]]:
        return {(one["metric"]["host"], one["metric"]["certificate"]) for one in query(central, certificates)}

    # An exporter looks once a minute, so one that started before its host's certificate sees it later.
    until(lambda: found() == expected, 90, "certificates are watched", found)


def test_lines_are_counted_by_unit_and_level(watched: Host, central: Host) -> None:
    """A unit that first writes long after the exporter has started is counted too."""
    watched.check_output("systemd-run --quiet --wait --unit citadel-counted echo ERROR: one line")
    expression = 'citadel_log_messages_total{unit="citadel-counted.service",level="error"}'
    until(lambda: query(central, expression), 30, "the line is counted")
    assert [one["value"][1] for one in query(central, expression)] == ["1"]


def test_the_series_of_a_host_are_few(central: Host) -> None:
    (found,) = query(central, 'count({job="citadel",host="citadel-watched"})')
    assert int(found["value"][1]) < 400


@pytest.mark.parametrize("address", [WATCHED_ADDRESS, CENTRAL_ADDRESS])
def test_only_what_is_meant_to_be_reached_can_be(address: str) -> None:
    ports = {
        22,
        443,
        2525,
        3000,
        5000,
        7000,
        8080,
        8081,
        8082,
        8101,
        8102,
        9090,
        9093,
        9094,
        9100,
        9115,
        9400,
        9443,
        9999,
    }
    ports |= {19531, 19532, 19533}
    found = set()
    for port in ports:
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex((address, port)) == 0:
                found.add(port)
    assert found == ({22, 443, 9443} if address == WATCHED_ADDRESS else {22, 19532})


@pytest.mark.parametrize(
    ("address", "url"),
    [
        (WATCHED_ADDRESS, f"https://{WATCHED_ADDRESS}:9443/metrics/node"),
        (CENTRAL_ADDRESS, f"https://{CENTRAL_ADDRESS}:19532/upload"),
    ],
)
def test_no_certificate_and_a_wrong_one_are_refused(central: Host, address: str, url: str) -> None:
    status = "curl -sk -o /dev/null -w '%{http_code}'"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1"
    central.check_output(
        f"{make} -subj '/CN={CENTRAL}' -keyout /tmp/wrong.key -out /tmp/wrong.crt 2>/dev/null"
    )
    assert central.check_output(f"{status} {url}") == "400"
    assert central.check_output(f"{status} --cert /tmp/wrong.crt --key /tmp/wrong.key {url}") == "400"
    peers = "/opt/citadel/config/peers"
    known = central.check_output(f"{status} --cert {peers}/host.crt --key {peers}/host.key {url}")
    assert (
        known != "400" if address == WATCHED_ADDRESS else known == "400"
    )  # its own authority is not a sender's


def test_a_request_is_found_by_its_id_with_the_engines_line(central: Host) -> None:
    command = f"citadel logs --host {WATCHED} --request-id {REQUEST} --since=-10min --json"
    until(lambda: len(central.run(command).stdout.splitlines()) >= 2, 30, "both lines arrive")
    lines = [json.loads(line) for line in central.check_output(command).splitlines()]
    assert {line["unit"] for line in lines} == {"citadel-engine@stand-in.service", "citadel-gateway.service"}
    assert {line["host"] for line in lines} == {WATCHED}
    (access,) = [line for line in lines if line["unit"] == "citadel-gateway.service"]
    assert access["fields"]["status"] == 200
    assert access["fields"]["model"] == "stand-in"


def test_an_outage_of_the_central_host_loses_nothing(watched: Host, central: Host) -> None:
    mark = f"line-{uuid.uuid4()}"

    def write(first: int, last: int) -> None:
        lines = f"seq -f '{mark} %.0f' {first} {last}"
        watched.check_output(f"systemd-run --quiet --wait --unit citadel-test {lines}")

    receivers = "citadel-listener@logs.service systemd-journal-remote.socket systemd-journal-remote.service"
    write(1, 300)
    central.check_output(f"systemctl stop {receivers}")
    write(301, 600)
    time.sleep(5)
    central.check_output("systemctl start systemd-journal-remote.socket citadel-listener@logs.service")
    write(601, 700)
    show = f"citadel logs --host {WATCHED} --unit citadel-test --grep '^{mark}' --since=-10min --json"
    until(lambda: f'"{mark} 700"' in central.run(show).stdout, 60, "the last line arrives")
    lines = [json.loads(line)["message"] for line in central.check_output(show).splitlines()]
    assert lines == [f"{mark} {number}" for number in range(1, 701)]


def test_a_broken_rule_is_refused_before_it_replaces_anything(central: Host) -> None:
    digest = "find /opt/citadel/config/monitoring -type f -exec sha256sum {} + | sort"
    before = central.check_output(digest)
    broken = {"broken": {"groups": [{"name": "one", "rules": [{"alert": "Never", "expr": "sum(up"}]}]}}
    run = playbook("monitoring", "-e", json.dumps({"monitoring_rules": broken}), "--limit", CENTRAL)
    assert run.rc != 0
    assert "site-broken.yml" in run.output
    assert "unclosed left parenthesis" in run.output
    assert central.check_output(digest) == before


def test_a_second_run_changes_nothing() -> None:
    run = playbook("config monitoring logs")
    assert run.rc == 0, run.output[-3000:]
    assert run.changed == 0, run.output[-3000:]


def test_silences_are_made_listed_and_ended(central: Host) -> None:
    identity = central.check_output(
        "citadel silence add --host elsewhere --for 10m --comment 'disk exchange'"
    )
    assert identity in central.check_output("citadel silence list")
    central.check_output(f"citadel silence expire {identity}")
    assert identity not in central.check_output("citadel silence list")


def test_the_dead_mans_switch_is_heard(central: Host) -> None:
    messages = [message["content"] for message in received(central) if message["kind"] == "watchdog"]
    assert {alert["labels"]["alertname"] for message in messages for alert in message["alerts"]} == {
        "Watchdog"
    }


def test_secrets_of_receivers_are_in_no_file_that_others_read(central: Host) -> None:
    assert central.run("grep -r 9999/chat /opt/citadel/config").rc == 1
    assert central.file("/opt/citadel/secrets/receivers/chat.url").mode == 0o600


def test_grafana_can_be_checked_on_a_host_that_does_not_have_it(central: Host, tmp_path: Any) -> None:
    inventory = tmp_path / "grafana.yml"
    inventory.write_text(f"grafana: {{hosts: {{{CENTRAL}: }}}}\n")
    key = tmp_path / "key.asc"
    key.write_text("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmade up\n-----END PGP PUBLIC KEY BLOCK-----\n")
    run = playbook(
        "grafana", "-i", str(inventory), "--check", "--diff", "-e", f"grafana_repository_key={key}"
    )
    assert run.rc == 0, run.output[-3000:]
    assert "url: http://127.0.0.1:9090" in run.output
    assert "citadel-overview.json" in run.output

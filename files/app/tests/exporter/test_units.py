"""Units and what they write, and the whole exporter as a process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from citadel_llm.cli.main import run
from citadel_llm.exporter import units
from citadel_llm.exporter.samples import Sample
from files.app.tests.fixtures.journalctl import FakeJournal
from files.app.tests.fixtures.systemd import FakeSystemd, Unit


def test_the_state_of_units(fake_systemd: FakeSystemd) -> None:
    fake_systemd.units = {
        "citadel-gateway.service": Unit(restarts=3),
        "citadel-engine@a.service": Unit("failed", "failed", restarts=5),
        "citadel-engine@b.service": Unit("activating", "auto-restart"),
        "ssh.service": Unit(),
    }
    found = units.read(["citadel-*.service"], fake_systemd.address)
    values = {(sample.metric, *sample.labels): sample.value for sample in found}
    assert values["citadel_unit_active", "citadel-gateway.service"] == 1
    assert values["citadel_unit_restarts", "citadel-gateway.service"] == 3
    assert values["citadel_unit_start_time_seconds", "citadel-gateway.service"] == 1_700_000_000
    assert values["citadel_unit_failed", "citadel-engine@a.service"] == 1
    assert values["citadel_unit_failed", "citadel-engine@b.service"] == 1
    assert ("citadel_unit_start_time_seconds", "citadel-engine@a.service") not in values
    assert not [labels for _metric, *labels in values if "ssh" in labels[0]]


def test_lines_are_counted_by_unit_and_level(fake_journal: FakeJournal) -> None:
    fake_journal.add(json.dumps({"event": "request", "level": "info"}))
    fake_journal.add("ERROR 01-31 12:00:00 [core.py:1] out of memory", unit="citadel-engine@a.service")
    fake_journal.add("Stopped", UNIT="citadel-engine@a.service", unit="init.scope", priority=4)
    counter = units.LogCounter(["citadel-*.service"])
    counter.start()
    wanted = {("citadel-engine@a.service", "error"): 1, ("citadel-engine@a.service", "warning"): 1}
    deadline = time.monotonic() + 20
    while len(found := {s.labels: s.value for s in counter.read() if s.value}) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert found == {**wanted, ("citadel-gateway.service", "info"): 1}
    assert Sample("citadel_log_messages", 0, ("citadel-gateway.service", "error")) in counter.read()
    assert "--output-fields" in fake_journal.argv


def test_the_process_serves_until_it_is_told_to_end(config_dir: Path, fake_journal: FakeJournal) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (config_dir / "global/monitoring.yaml").write_text(f"monitoring: {{exporter: {{port: {port}}}}}\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "citadel_llm.cli.main", "exporter", "run"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
    )
    try:
        text = scrape(port)
        assert "citadel_build_info" in text
        assert 'citadel_exporter_collector_up{collector="configuration"} 1.0' in text
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()


def scrape(port: int) -> str:
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                text = str(answer.read().decode())
            if "citadel_build_info" in text:
                return text
        except OSError:
            pass
        assert time.monotonic() < deadline, "the exporter does not answer"
        time.sleep(0.05)


def test_without_its_settings_it_says_who_writes_them(
    config_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["exporter", "run"]) == 1
    assert "the role monitoring writes it" in capsys.readouterr().err

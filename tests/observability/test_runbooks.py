"""Runbooks: every alert has its page, and what a page says can be typed in."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.observability.conftest import END
from tools.observability.catalogue import series_names
from tools.observability.prometheus import Prometheus
from tools.observability.promql import metric_names
from tools.observability.rules import alerts, records

pytestmark = pytest.mark.slow

PAGES = sorted((Path(__file__).resolve().parents[2] / "docs/runbooks").glob("*.md"))
PROGRAMS = {
    "amtool",
    "ansible-playbook",
    "apt-mark",
    "cat",
    "citadel",
    "df",
    "dpkg",
    "du",
    "findmnt",
    "free",
    "journalctl",
    "lspci",
    "nc",
    "nvidia-smi",
    "openssl",
    "ping",
    "promtool",
    "ps",
    "sensors",
    "ss",
    "ssh",
    "systemctl",
    "timedatectl",
    "uname",
}
HARMLESS = {"df", "findmnt", "free", "ps", "ss", "uname"}
"""These are run here, as they stand; they only read."""


def blocks(page: Path, kind: str) -> list[str]:
    found = re.findall(rf"```{kind}\n(.*?)```", page.read_text(), re.DOTALL)
    return [line for block in found for line in block.splitlines() if line.strip()]


def test_each_page_is_for_alerts_that_exist() -> None:
    of_alerts: dict[str, set[str]] = {}
    for alert in alerts():
        of_alerts.setdefault(alert.runbook, set()).add(alert.name)
    assert set(of_alerts) == {page.stem for page in PAGES}
    for page in PAGES:
        line = re.search(r"^Alerts?: (.*)$", page.read_text(), re.MULTILINE)
        assert line is not None, page.name
        assert set(re.findall(r"`(\w+)`", line[1])) == of_alerts[page.stem], page.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_says_cause_view_and_remedy(page: Path) -> None:
    text = page.read_text()
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Cause", "How to see it", "What to do"]
    assert blocks(page, "console") or blocks(page, "promql")


def test_commands_are_known() -> None:
    used = {line.split()[0] for page in PAGES for line in blocks(page, "console")}
    assert used <= PROGRAMS


def test_harmless_commands_run() -> None:
    lines = {line for page in PAGES for line in blocks(page, "console") if line.split()[0] in HARMLESS}
    assert lines
    for line in lines:
        if shutil.which(line.split()[0]):
            subprocess.run(line.split(), check=True, capture_output=True)


def test_queries_are_accepted_and_read_what_exists(history: Prometheus) -> None:
    known = {*series_names(), *(rule.name for rule in records())}
    for page in PAGES:
        for expr in blocks(page, "promql"):
            history.query(expr, END)
            assert metric_names(expr) <= known, f"{page.name}: {expr}"

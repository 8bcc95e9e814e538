"""What the role grafana refuses before it replaces a dashboard."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLE = Path(__file__).resolve().parents[1] / "collections/ansible_collections/citadel/llm/roles/grafana"
CHECK = yaml.safe_load((ROLE / "vars/main.yml").read_text())["__grafana_check"]
GOOD = {"uid": "mine", "title": "Mine", "panels": [{"type": "stat"}]}


def check(directory: Path, boards: dict[str, Any]) -> str:
    """What the check says of these dashboards beside the project's own; empty when it accepts them."""
    (directory / "dashboards/citadel").mkdir(parents=True)
    (directory / "dashboards/site").mkdir()
    for path in (ROLE / "files/dashboards").glob("*.json"):
        (directory / "dashboards/citadel" / path.name).write_text(path.read_text())
    for name, board in boards.items():
        text = board if isinstance(board, str) else json.dumps(board)
        (directory / f"dashboards/site/{name}.json").write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", CHECK, str(directory)], text=True, capture_output=True, check=False
    )
    assert (done.returncode == 0) == (done.stderr == "")
    return done.stderr.strip()


def test_the_projects_own_dashboards_and_a_good_one_pass(tmp_path: Path) -> None:
    assert check(tmp_path, {"mine": GOOD}) == ""


@pytest.mark.parametrize(
    ("board", "reason"),
    [
        ("{", "is no dashboard"),
        ([], "is no dashboard"),
        ({"uid": "a", "title": "A"}, "KeyError('panels')"),
        ({**GOOD, "panels": ["text"]}, "must be a list of panels"),
        ({**GOOD, "uid": "citadel-overview"}, "have the same uid citadel-overview"),
    ],
)
def test_a_broken_dashboard_is_named(tmp_path: Path, board: Any, reason: str) -> None:
    found = check(tmp_path, {"mine": board})
    assert "dashboards/site/mine.json" in found
    assert reason in found

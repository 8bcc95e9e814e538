"""`python -m tools.observability.pictures [NAME ...]`: pictures of dashboards, into docs/images/dashboards.

Simulated hosts in a real Prometheus, drawn by Grafana's components in Chromium. Needs node, npm and chromium;
the components are installed below .cache on the first run.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tools.observability.__main__ import DASHBOARDS, ROOT
from tools.observability.dashboards import BOARDS, VARIABLES
from tools.observability.prometheus import Prometheus, simulated
from tools.observability.simulation import Host

SOURCE = Path(__file__).parent / "render"
PICTURES = ROOT / "docs/images/dashboards"
WORKSHOP = ROOT / ".cache/render"
FIXTURES = ROOT / "tests/observability/fixtures"
END = 1767225600
SPAN = 3 * 3600
FLEETS: dict[str, tuple[Host, ...]] = {
    "": (Host("gpu-01"), Host("gpu-02", "vllm-0.9.2")),
    "1-gpu": (Host("gpu-01", gpus=1, engines=(("chat-a", "chat"),)),),
    "8-gpus": (Host("gpu-01", gpus=8),),
    "16-gpus": (Host("gpu-01", gpus=16),),
}
"""Hosts of each set of pictures. The first set shows every dashboard, the others that of GPUs."""


def install() -> None:
    """Bring the components, unless these versions are there."""
    WORKSHOP.mkdir(parents=True, exist_ok=True)
    wanted = (SOURCE / "package.json").read_text()
    marker = WORKSHOP / ".installed"
    for path in SOURCE.iterdir():
        shutil.copy(path, WORKSHOP)
    if not marker.is_file() or marker.read_text() != wanted:
        subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"],
            cwd=WORKSHOP,
            check=True,
        )
        subprocess.run(["node", "node_modules/esbuild/install.js"], cwd=WORKSHOP, check=True)
        marker.write_text(wanted)


def answers(server: Prometheus, document: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """What each panel's queries answer over the span, by panel and query."""
    found: dict[int, dict[str, Any]] = {}
    values = {"__rate_interval": "4m"} | dict.fromkeys(VARIABLES, ".+")
    for panel in document["panels"]:
        for target in panel.get("targets") or []:
            expr = re.sub(r"\$(\w+)", lambda match: values[match[1]], target["expr"])
            start = END - 60 if target.get("instant") else END - SPAN
            answer = server.get("query_range", query=expr, start=start, end=END, step=60)
            found.setdefault(panel["id"], {})[target["refId"]] = answer["result"]
    return found


def draw(fleet: str, names: list[str]) -> None:
    """The pictures of one set of hosts."""
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        jobs: list[str] = []
        with simulated(directory, FIXTURES, FLEETS[fleet], END - SPAN - 600, END + 60, 60) as server:
            for name in names:
                document = json.loads((DASHBOARDS / f"{name}.json").read_text())
                given = {"dashboard": document, "answers": answers(server, document)}
                path = directory / f"{name}.json"
                path.write_text(json.dumps({**given, "from": (END - SPAN) * 1000, "to": END * 1000}))
                picture = "-".join(filter(None, (name.removeprefix("citadel-"), fleet)))
                jobs += [str(path), str(PICTURES / f"{picture}.png")]
        subprocess.run(
            ["node", "draw.mjs", *jobs], cwd=WORKSHOP, check=True, env={**os.environ, "NODE_NO_WARNINGS": "1"}
        )


def main() -> None:
    """Draw every picture, or those of the named dashboards."""
    names = sys.argv[1:] or [board.uid for board in BOARDS]
    install()
    PICTURES.mkdir(parents=True, exist_ok=True)
    for fleet in FLEETS:
        shown = [name for name in names if not fleet or name == "citadel-gpu"]
        if shown:
            draw(fleet, shown)


if __name__ == "__main__":
    main()

"""What the dashboards' queries cost over 30 days, beside those of dashboards that vLLM publishes."""

from __future__ import annotations

import json
import math
import re
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from bench.page import ROOT, Benchmark
from tools.observability.__main__ import DASHBOARDS
from tools.observability.dashboards import VARIABLES
from tools.observability.prometheus import Prometheus, promtool, simulated
from tools.observability.rules import records
from tools.observability.simulation import Host, series

FIXTURES = ROOT / "tests/observability/fixtures"
DAYS = 30
SAMPLE_S = 300
STEP_S = 1800
"""What Grafana takes for 30 days on a panel of half a screen's width."""
END = 1767225600
START = END - DAYS * 86400
ROUNDS = 3
SHAPES = 8
_VALUES = {
    **dict.fromkeys(VARIABLES, ".+"),
    "__rate_interval": f"{STEP_S + 15}s",
    "__range": f"{DAYS}d",
    "model_name": "chat",
}

# Single expressions of vLLM's examples/observability: prometheus_grafana/grafana.json, and for the last two
# dashboards/grafana/performance_statistics.json; beside each the panel here that answers the same.
_P = 'histogram_quantile({}, sum by(le) (rate(vllm:{}_bucket{{model_name="$model_name"}}[$__rate_interval])))'
BESIDE = (
    ("Whole request, p99", "citadel-overview", "Whole request", "p99",
     _P.format(0.99, "e2e_request_latency_seconds")),
    ("Between tokens, p95", "citadel-overview", "Time between tokens", "p95",
     _P.format(0.95, "inter_token_latency_seconds")),
    ("First token, p99", "citadel-overview", "Time to the first token", "p99",
     _P.format(0.99, "time_to_first_token_seconds")),
    ("Tokens generated", "citadel-engines", "Tokens per second", "",
     'rate(vllm:generation_tokens_total{model_name="$model_name"}[$__rate_interval])'),
    ("First token, p99, as its single figures ask", "citadel-overview", "Time to the first token", "p99",
     "histogram_quantile(0.99, sum by(le) (rate(vllm:time_to_first_token_seconds_bucket[$__range])))"),
)  # fmt: skip


class Timed(NamedTuple):
    """One query of one panel, its median time in milliseconds and how many series it answers with."""

    board: str
    panel: str
    legend: str
    ms: float
    series: int


def _filled(expr: str) -> str:
    return re.sub(r"\$\{?(\w+)\}?", lambda match: _VALUES[match[1]], expr)


def _time(server: Prometheus, expr: str, instant: bool) -> tuple[float, int]:
    times, answer = [], []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        if instant:
            answer = server.query(_filled(expr), END)
        else:
            answer = server.get("query_range", query=_filled(expr), start=START, end=END, step=STEP_S)[
                "result"
            ]
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times), len(answer)


def _targets() -> list[tuple[str, str, dict[str, Any]]]:
    found = []
    for path in sorted(DASHBOARDS.glob("*.json")):
        document = json.loads(path.read_text())
        for panel in document["panels"]:
            found += [(document["uid"], panel["title"], target) for target in panel.get("targets", ())]
    return found


def _boards(timed: list[Timed]) -> list[str]:
    lines = [
        "| dashboard | queries | all of them, one after another | the slowest | its panel |",
        "|---|--:|--:|--:|---|",
    ]
    for board in dict.fromkeys(one.board for one in timed):
        own = [one for one in timed if one.board == board]
        worst = max(own, key=lambda one: one.ms)
        total = sum(one.ms for one in own)
        lines.append(f"| {board} | {len(own)} | {total:.0f} ms | {worst.ms:.0f} ms | {worst.panel} |")
    return lines


def _beside(server: Prometheus, timed: list[Timed]) -> list[str]:
    lines = ["| the same question | here | vLLM's example |", "|---|--:|--:|"]
    for question, board, panel, legend, expr in BESIDE:
        own = [one for one in timed if (one.board, one.panel) == (board, panel) and legend in one.legend]
        if not own:
            raise LookupError(f"{board} has no panel {panel!r} with {legend!r}")
        theirs, series = _time(server, expr, instant=False)
        if not series:
            raise LookupError(f"no answer to {expr}")
        lines.append(f"| {question} | {own[0].ms:.0f} ms | {theirs:.0f} ms |")
    return lines


def _series(directory: Path, host: Host) -> list[tuple[str, dict[str, str]]]:
    """Names and labels of every series of a host, and of those that rules record: these are found by half an
    hour of simulation, for computing them over 30 days takes longer than anything measured here."""
    found = [(one.name, one.labels) for one in series(FIXTURES, [host])]
    with simulated(directory, FIXTURES, (host,), END - 1800, END + 60, 60) as server:
        for name in sorted({rule.name for rule in records()}):
            for one in server.query(name, END):
                labels = {label: value for label, value in one["metric"].items() if label != "__name__"}
                found.append((name, labels))
    return found


def _label_text(labels: dict[str, str]) -> str:
    return ",".join(f"{name}={json.dumps(value)}" for name, value in labels.items())


def _backfill(directory: Path, host: Host) -> Prometheus:
    """A server, not yet started, with 30 days of these series: counters that climb, and gauges that swing."""
    server = Prometheus(directory / "long")
    exposition = directory / "exposition.txt"
    times = range(START, END, SAMPLE_S)
    climbing = [[f" {(3 + shape) * (now - START)} {now}\n" for now in times] for shape in range(SHAPES)]
    swinging = [
        [f" {0.5 + 0.4 * math.sin(now / (3100 + 97 * shape)):.4f} {now}\n" for now in times]
        for shape in range(SHAPES)
    ]
    with exposition.open("w") as file:
        for number, (name, labels) in enumerate(_series(directory / "short", host)):
            shapes = climbing if name.endswith(("_total", "_bucket", "_sum", "_count")) else swinging
            head = f"{name}{{{_label_text(labels)}}}"
            file.writelines(head + tail for tail in shapes[number % SHAPES])
        file.write("# EOF\n")
    # Each block reads the whole exposition again: large ones, as a server that is 30 days old has.
    large = f"--max-block-duration={DAYS * 24}h"
    promtool("tsdb", "create-blocks-from", large, "openmetrics", exposition, server.data)
    exposition.unlink()
    return server


def measure() -> list[str]:
    """Lines of the page."""
    host = Host("bench", engines=(("chat-a", "chat"),))
    with tempfile.TemporaryDirectory(prefix="citadel-bench-") as directory:
        server = _backfill(Path(directory), host)
        size = sum(path.stat().st_size for path in server.data.rglob("*") if path.is_file()) / 2**20
        with server:
            timed = []
            for board, panel, target in _targets():
                cost = _time(server, target["expr"], bool(target.get("instant")))
                timed.append(Timed(board, panel, target.get("legendFormat") or "", *cost))
            rows = [*_boards(timed), "", *_beside(server, timed)]
    return [*rows, "", f"{size:.0f} MiB of blocks, recorded rules included."]


BENCHMARKS = {
    "dashboards": Benchmark(
        "The dashboards over 30 days",
        "A real Prometheus over 30 days of a simulated host with one engine and two GPUs, a sample every "
        "five minutes (in production: every 15 seconds, twenty times as many). Each query of each panel as "
        "Grafana sends it: over the whole time in steps of half an hour, or at one moment for tables. Below, "
        "five questions that the dashboards among vLLM's examples ask too, with their expressions.",
        measure,
    ),
}

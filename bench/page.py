"""The page of figures: a part for each benchmark, replaced one at a time."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/benchmarks.md"
PART = re.compile(r"<!-- bench (?P<name>[\w-]+) -->\n(?P<text>.*?)<!-- end -->\n", re.DOTALL)
INTRO = """# Benchmarks

Each part is written by the command that it names. Figures are the median and, in parentheses, the range;
what is compared took turns in one run. The machines are virtual and noisy: ratios say more than seconds.
"""


@dataclass(frozen=True)
class Benchmark:
    """What is measured and how its part of the page begins. `measure` returns lines of Markdown."""

    title: str
    introduction: str
    measure: Callable[[], list[str]]


def machine() -> str:
    """What the figures were taken on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = platform.freedesktop_os_release()["PRETTY_NAME"]
    python = platform.python_version()
    return f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB of memory, {system}, Python {python}"


def write(name: str, benchmark: Benchmark, order: tuple[str, ...]) -> None:
    """Measure one benchmark and replace its part of the page; the other parts stay."""
    print(f"== {benchmark.title}", flush=True)
    rows = "\n".join(benchmark.measure())
    print(rows, flush=True)
    made = f"`python -m bench {name}`, {datetime.now(UTC):%Y-%m-%d}: {machine()}."
    parts = {match["name"]: match["text"] for match in PART.finditer(PAGE.read_text())}
    parts[name] = f"## {benchmark.title}\n\n{benchmark.introduction}\n\n{rows}\n\n{made}\n"
    ordered = sorted(parts, key=lambda part: order.index(part) if part in order else len(order))
    text = "\n".join(f"<!-- bench {part} -->\n{parts[part]}<!-- end -->\n" for part in ordered)
    PAGE.write_text(f"{INTRO}\n{text}")

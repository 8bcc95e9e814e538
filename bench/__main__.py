"""Measure, and write docs/benchmarks.md. Run as `python -m bench` (or `make bench`)."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

from bench.provisioning import ROOT, SECTIONS

PAGE = ROOT / "docs/benchmarks.md"


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = platform.freedesktop_os_release()["PRETTY_NAME"]
    python = platform.python_version()
    return f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB of memory, {system}, Python {python}"


def main() -> None:
    intro = (
        f"Made by `make bench` on {datetime.now(UTC):%Y-%m-%d}: {machine()}.\n"
        "Figures are the median and, in parentheses, the range; runs that are compared took turns.\n"
        "The machine is virtual and noisy: the ratios say more than the seconds."
    )
    parts = ["# Benchmarks", intro]
    for title, (text, measure) in SECTIONS.items():
        print(f"== {title}", flush=True)
        rows = measure()
        print("\n".join(rows), flush=True)
        parts += [f"## {title}", text, "\n".join(rows)]
    PAGE.write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()

"""Measure, and write docs/benchmarks.md. Run as `python -m bench` (or `make bench`)."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

from bench.provisioning import ROOT, SECTIONS

PAGE = ROOT / "docs/benchmarks.md"


def machine() -> str:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = platform.freedesktop_os_release()["PRETTY_NAME"]
    return f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB of memory, {system}, Python {platform.python_version()}"


def main() -> None:
    parts = [
        "# Benchmarks",
        f"Made by `make bench` on {datetime.now(UTC):%Y-%m-%d}: {machine()}. Figures are the median and, in parentheses, the range; "
        "runs that are compared took turns. The machine is virtual and noisy: the ratios say more than the seconds.",
    ]
    for title, (text, measure) in SECTIONS.items():
        print(f"== {title}", flush=True)
        rows = measure()
        print("\n".join(rows), flush=True)
        parts += [f"## {title}", text, "\n".join(rows)]
    PAGE.write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()

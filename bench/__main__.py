"""Measure, and write docs/benchmarks.md. Run as `python -m bench [NAME ...]` (or `make bench`)."""

from __future__ import annotations

import argparse

from bench import dashboards, faults, page, policies, preflight, provisioning, swaps
from bench.gateway import slow, soak, suite
from bench.prefix import measuring as prefix

BENCHMARKS = {
    **provisioning.BENCHMARKS,
    **preflight.BENCHMARKS,
    **faults.BENCHMARKS,
    **swaps.BENCHMARKS,
    **policies.BENCHMARKS,
    **prefix.BENCHMARKS,
    **dashboards.BENCHMARKS,
    **suite.BENCHMARKS,
    **slow.BENCHMARKS,
    **soak.benchmarks(minutes=20),
}

LONG = "gateway-soak"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure, and write docs/benchmarks.md.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)} (default: all but {LONG})"
    )
    parser.add_argument("--minutes", type=float, default=20, help="how long gateway-soak lasts (default: 20)")
    arguments = parser.parse_args()
    names = arguments.names or [name for name in BENCHMARKS if name != LONG]
    BENCHMARKS.update(soak.benchmarks(arguments.minutes))
    if unknown := set(names) - set(BENCHMARKS):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))} (known: {', '.join(BENCHMARKS)})")
    for name in names:
        page.write(name, BENCHMARKS[name], tuple(BENCHMARKS))


if __name__ == "__main__":
    main()

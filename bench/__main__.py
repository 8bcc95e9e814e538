"""Measure, and write docs/benchmarks.md. Run as `python -m bench [NAME ...]` (or `make bench`)."""

from __future__ import annotations

import argparse

from bench import faults, page, policies, preflight, provisioning, swaps
from bench.gateway import soak, suite

BENCHMARKS = {
    **provisioning.BENCHMARKS,
    **preflight.BENCHMARKS,
    **faults.BENCHMARKS,
    **swaps.BENCHMARKS,
    **policies.BENCHMARKS,
    **suite.BENCHMARKS,
    **soak.benchmarks(minutes=20),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure, and write docs/benchmarks.md.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--minutes", type=float, default=20, help="how long gateway-soak lasts (default: 20)")
    arguments = parser.parse_args()
    names = arguments.names or list(BENCHMARKS)
    BENCHMARKS.update(soak.benchmarks(arguments.minutes))
    if unknown := set(names) - set(BENCHMARKS):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))} (known: {', '.join(BENCHMARKS)})")
    for name in names:
        page.write(name, BENCHMARKS[name], tuple(BENCHMARKS))


if __name__ == "__main__":
    main()

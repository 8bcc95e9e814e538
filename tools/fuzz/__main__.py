"""Fuzz the gateway for a time: `python -m tools.fuzz --seconds 600`. It ends with 1 if it found something."""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

from tools.fuzz.campaign import Report, campaign, replay


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long (default: 60)")
    parser.add_argument("--seed", type=int, help="repeat the inputs of another run (default: a new one)")
    parser.add_argument(
        "--failures", type=Path, default=Path("reports/fuzz"), help="where inputs that fail are kept"
    )
    parser.add_argument("--replay", type=Path, metavar="FILE", help="try one kept input again")
    arguments = parser.parse_args()
    if arguments.replay is not None:
        report = replay(arguments.replay)
    else:
        seed = arguments.seed if arguments.seed is not None else random.randrange(10**9)  # noqa: S311 (no secret)
        print(f"seed {seed}", flush=True)
        report = campaign(seed, arguments.seconds, arguments.failures)
    tell(report)
    return 1 if report.findings else 0


def tell(report: Report) -> None:
    for name, found in report.findings:
        print(f"{name}:")
        for line in found:
            print(f"    {line}")
    print(f"inputs: {report.cases.total():,} ({_list(report.cases)}), {report.requests:,} requests")
    print(f"answers: {_list(report.answers)}")
    print(
        f"the client that behaves: {report.served:,} requests, the longest {report.longest_s * 1000:.0f} ms"
    )
    print(f"findings: {len(report.findings)} (seed {report.seed})")


def _list(counted: dict[str, int] | dict[int, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in sorted(counted.items(), key=str))


if __name__ == "__main__":
    sys.exit(main())

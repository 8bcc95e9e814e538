"""`python -m tools.observability` writes rules and dashboards; `--check` fails when a file differs.

`--faster N --into DIRECTORY` writes the rules with every wait and window divided by N, for tests.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import yaml

from tools.observability.dashboards import BOARDS, encode, panel_ids
from tools.observability.faster import faster
from tools.observability.rules import FILES
from tools.observability.rules.model import write

ROOT = Path(__file__).resolve().parents[2]
ROLES = ROOT / "collections/ansible_collections/citadel/llm/roles"
RULES = ROLES / "monitoring/files/rules"
DASHBOARDS = ROLES / "grafana/files/dashboards"


def generated() -> dict[Path, str]:
    """Every file and its text."""
    ids = panel_ids()
    files = {RULES / name: write(groups, ids) for name, groups in FILES.items()}
    return files | {DASHBOARDS / f"{board.uid}.json": encode(board) for board in BOARDS}


def differences() -> list[str]:
    """Files that are missing, differ from their source, or have none."""
    files = generated()
    wrong = [
        f"{path.relative_to(ROOT)} differs from its source"
        for path, text in files.items()
        if not path.is_file() or path.read_text() != text
    ]
    present = [*RULES.glob("*.yml"), *DASHBOARDS.glob("*.json")]
    return wrong + [f"{path.relative_to(ROOT)} has no source" for path in present if path not in files]


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
        os.fchmod(file.fileno(), 0o644)
    Path(temporary).replace(path)


def main() -> None:
    """Write or check."""
    parser = argparse.ArgumentParser(prog="python -m tools.observability", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file differs")
    parser.add_argument("--faster", type=float, metavar="N", help="divide every wait and window by N")
    parser.add_argument("--into", type=Path, metavar="DIRECTORY", help="where the faster rules go")
    arguments = parser.parse_args()
    if (arguments.faster is None) != (arguments.into is None):
        parser.error("--faster and --into belong together")
    if arguments.faster is not None:
        for path in sorted(RULES.glob("*.yml")):
            rules = faster(yaml.safe_load(path.read_text()), arguments.faster)
            _replace(arguments.into / path.name, yaml.safe_dump(rules, sort_keys=False, allow_unicode=True))
        return
    if arguments.check:
        wrong = differences()
        if wrong:
            sys.exit("\n".join([*wrong, "Write them with: python -m tools.observability"]))
        return
    for path, text in generated().items():
        _replace(path, text)
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()

"""Render docs/compatibility.md from the collection's compatibility table and its rules.

Usage: python tools/render_compatibility.py [--check]. With --check nothing is written: exit status 1 says
that the page is not current.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "compatibility.md"
sys.path.insert(0, str(ROOT / "collections"))

from ansible_collections.citadel.llm.plugins.module_utils import (  # noqa: E402
    _compatibility as compatibility,
)
from ansible_collections.citadel.llm.plugins.module_utils import (  # noqa: E402
    _compatibility_table as table,
)
from ansible_collections.citadel.llm.plugins.module_utils import (  # noqa: E402
    _gpu_rules as rules,
)
from ansible_collections.citadel.llm.plugins.module_utils import (  # noqa: E402
    _gpu_xid as xid,
)

INTRODUCTION = """# Compatibility of GPU, driver, CUDA, torch and vLLM

Rendered by `tools/render_compatibility.py` from the table that `citadel.llm.gpu_check` and
`citadel.llm.driver_check` ask; change the table, not this page. Sources have short names, explained at the
end.

Three questions decide whether a stack runs:

1. **Has the torch build kernels for the GPU?** A binary kernel runs on its own compute capability and on
   higher ones of the same major number; PTX (`compute_NN`) runs on every higher one, compiled by the driver
   at the first start. Without either, every start ends with `no kernel image is available for execution on
   the device`.
2. **Does the driver run the build's CUDA?** Within a major number of CUDA its first driver is enough.
3. **Does the driver support the GPU**, and is its kernel module of the flavour that the GPU works with?
"""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _code(names: Sequence[str]) -> str:
    return ", ".join(names)


def _stacks() -> str:
    rows = []
    for stack in table.STACKS:
        build = compatibility.stack_wheel(stack)
        cuda = compatibility.cuda_row(stack.cuda) if stack.cuda else None
        listed = compatibility.kernels(build)
        kernels = _code(compatibility.split(listed)) if listed else "none"
        rows.append(
            (f"`{stack.name}`", stack.vllm, str(build), kernels, cuda.minimum if cuda else "none needed")
        )
    return _table(("stack", "vLLM", "torch build", "kernels", "driver, at least"), rows)


def _vllm() -> str:
    rows = []
    for release in reversed(table.VLLM):
        build = compatibility.Wheel(release.torch, release.cuda)
        releases = release.first if release.first == release.last else f"{release.first} to {release.last}"
        row = compatibility.cuda_row(release.cuda)
        rows.append((releases, str(build), row.minimum if row else "", _code(release.sources)))
    return _table(("vLLM from PyPI", "torch build", "driver, at least", "source"), rows)


def _torch() -> str:
    rows = []
    for build in table.TORCH:
        releases = build.first if build.first == build.last else f"{build.first} to {build.last}"
        kernels = _code(compatibility.split(build.kernels))
        rows.append((releases, build.cuda, build.machine, kernels, _code(build.sources)))
    return _table(("torch", "CUDA", "machine", "kernels", "source"), rows)


def _cuda() -> str:
    rows = [(row.version, row.minimum, row.own, _code(row.sources)) for row in table.CUDA]
    return _table(("CUDA", "driver, at least", "driver that compiles its PTX", "source"), rows)


def _drivers() -> str:
    rows = []
    for row in table.DRIVERS:
        branches = (
            f"{row.driver_min} or newer"
            if row.driver_max is None
            else f"{row.driver_min} to {row.driver_max}"
        )
        rows.append((row.capability, row.name, branches, row.flavour or "either", _code(row.sources)))
    return _table(
        ("compute capability from", "architecture", "driver branch", "kernel module", "source"), rows
    )


def _rules() -> str:
    rows = [(f"`{name}`", rule.severity, rule.meaning) for name, rule in rules.RULES.items()]
    return _table(("finding", "when broken", "what has to be"), rows)


def _xid() -> str:
    rows = [
        (str(number), "blocking" if told.hardware else "deviation", told.text, told.remedy)
        for number, told in sorted(xid.MEANINGS.items())
    ]
    return _table(("Xid", "severity", "meaning", "remedy"), rows)


def render() -> str:
    """The page."""
    parts = (
        (None, INTRODUCTION),
        ("Stacks", _stacks()),
        (
            "vLLM releases",
            _vllm() + f"\nvLLM needs compute capability {table.VLLM_LEAST_CAPABILITY} or higher (vllm).\n",
        ),
        ("torch builds", _torch()),
        ("CUDA and drivers", _cuda()),
        ("GPUs and drivers", _drivers() + "\nGrace Hopper needs the open kernel module, too (open).\n"),
        ("Findings and how grave they are", _rules()),
        ("Xid events", _xid() + "\nAfter NVIDIA's catalogue of Xid errors.\n"),
        ("Sources", "\n".join(f"- **{name}**: {title}" for name, title in table.SOURCES.items()) + "\n"),
    )
    return "\n".join(text if title is None else f"## {title}\n\n{text}" for title, text in parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page, or only compare. Exit status 1 when it was not current and --check is given."""
    parser = argparse.ArgumentParser(description="Render docs/compatibility.md from the compatibility table.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 when not current")
    options = parser.parse_args(arguments)
    page = render()
    current = PAGE.exists() and PAGE.read_text(encoding="utf-8") == page
    if options.check:
        if not current:
            sys.stderr.write(
                f"{PAGE.relative_to(ROOT)} is not current: run python tools/render_compatibility.py\n"
            )
        return 0 if current else 1
    if not current:
        PAGE.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Environments of what is measured: each of its own, built once from a lock with hashes.

A lock is made anew from its input by
``uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate NAME.in -o
NAME.txt``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from bench.page import ROOT

HERE = Path(__file__).resolve().parent
PYTHON = "/usr/bin/python3"  # as on servers
LOCKS = {
    "app": ROOT
    / "collections/ansible_collections/citadel/llm/roles/python_env/files/stacks/app/requirements.txt",
    "litellm": HERE / "requirements-litellm.txt",
    "minimal": HERE / "requirements-minimal.txt",
    "router": HERE / "requirements-router.txt",
}


def environment(name: str) -> Path:
    """The folder of an environment's programs; it is built when there is none of this lock."""
    lock = LOCKS[name]
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("CITADEL_CACHE") or Path.home() / ".cache/citadel")
    target = cache / "venvs" / f"bench-{name}-{digest}"
    if not target.is_dir():
        building = target.with_suffix(".new")
        shutil.rmtree(building, ignore_errors=True)
        uv = str(Path(sys.executable).parent / "uv")
        python = str(building / "bin/python")
        _run(uv, "venv", "--quiet", "--relocatable", "--python", PYTHON, str(building))
        _run(
            uv,
            "pip",
            "sync",
            "--quiet",
            "--compile-bytecode",
            "--require-hashes",
            "--python",
            python,
            str(lock),
        )
        building.rename(target)
    return target / "bin"


def program(name: str) -> str:
    """The path of a program of the system. Raises SystemExit with the remedy."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        raise SystemExit(f"bench-gateway needs {name!r}: install it with 'apt-get install {name}'")
    return found


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True)

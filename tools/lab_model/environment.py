"""The conversion environment: the packages of requirements/model.lock, made by uv in the cache."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from requirements.lock import LockError, find_uv, pip_setting

# Where PyTorch publishes the builds that PyPI does not have.
PYTORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PYTHON = "3.11"  # the CPU build of torch in the lock is for this one only


class LabModelError(Exception):
    """The model cannot be prepared; the message says why and what to do."""


def find_links() -> list[str]:
    """The find-links places of pip on this machine: its environment variable, else its configuration."""
    return pip_setting("find-links")


def package_sources(places: Sequence[str]) -> list[str]:
    """uv's options for where packages come from, besides its own configuration.

    PyTorch's index is added only where no find-links place can have the CPU build: every file is checked
    against the lock's hashes, so a second index can add a package but not replace one.
    """
    options = [word for place in places for word in ("--find-links", place)]
    remote = any(urlsplit(place).scheme not in ("", "file") for place in places)
    local = (Path(urlsplit(place).path) for place in places)
    if remote or any(folder.is_dir() and any(folder.glob("torch-*+cpu-*.whl")) for folder in local):
        return options
    return [*options, "--index", PYTORCH_CPU_INDEX, "--index-strategy", "unsafe-best-match"]


def run_uv(*arguments: str, stdin: str | None = None) -> None:
    """Run uv at low priority. Raises LabModelError with uv's own words."""
    try:
        argv = ["nice", "-n", "10", find_uv(), *arguments]
    except LockError as error:
        raise LabModelError(str(error)) from error
    run = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise LabModelError(f"'uv {' '.join(arguments[:2])}' failed: {run.stderr.strip()[-2000:]}")


def make_environment(path: Path, lock: Path) -> Path:
    """The Python interpreter of the environment at `path`, made from `lock` if it is not there yet.

    It is made beside `path` and renamed when it is complete. Raises LabModelError.
    """
    interpreter = path / "bin/python"
    if interpreter.exists():
        return interpreter
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        dir=path.parent, prefix=f".{path.name}-", ignore_cleanup_errors=True
    ) as work:
        made = Path(work) / "env"
        try:
            run_uv("venv", "--quiet", "--relocatable", "--python", PYTHON, str(made))
        except LabModelError as error:
            raise LabModelError(
                f"the conversion needs CPython {PYTHON}: the lock's CPU build of torch is for no other; "
                f"install python{PYTHON}, or let uv do it ('uv python install {PYTHON}')\n{error}"
            ) from error
        options = ["--quiet", "--no-deps", "--require-hashes", *package_sources(find_links())]
        run_uv("pip", "install", *options, "--python", str(made / "bin/python"), "--requirements", str(lock))
        made.rename(path)
    return interpreter

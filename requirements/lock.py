#!/usr/bin/env python3
"""Compile every requirements.in of the project into a lock with hashes.

``python requirements/lock.py [NAME ...]`` compiles the named locks (stacks, ``dev``, ``model``; all of them
without a name), ``--check`` compiles nothing and fails when a lock was made from other inputs than today's,
``--upgrade`` takes the newest versions that the inputs allow instead of keeping the locked ones.

A stack says in its ``requirements.in`` what it is locked for, such as
``# lock: python=3.11 platform=x86_64-manylinux_2_28``; without a platform the lock is universal. Where
packages come from is the machine's own choice (pip's index and find-links), and a lock names none of it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STACKS = ROOT / "collections/ansible_collections/citadel/llm/roles/python_env/files/stacks"
DEFAULT_PYTHON = "3.11"
SETTINGS = re.compile(r"^# lock:(?P<settings>( \w+=\S+)+)\s*$", re.MULTILINE)
DIGEST = re.compile(r"^# inputs: sha256:(?P<digest>[0-9a-f]{64})$", re.MULTILINE)
FOREIGN = re.compile(r"://|^\s*-(?!-hash)|^\s*--(?!hash)|(?:^|\s)/", re.MULTILINE)


class LockError(Exception):
    """A lock cannot be made; the message names the lock and the reason."""


@dataclass(frozen=True)
class Target:
    """One lock: its name, its input, its optional overrides and its output."""

    name: str
    source: Path
    output: Path

    @property
    def overrides(self) -> Path | None:
        path = self.source.parent / "overrides.txt"
        return path if self.source.name == "requirements.in" and path.is_file() else None

    def settings(self) -> dict[str, str]:
        """What the ``# lock:`` line says: ``python`` and optionally ``platform``."""
        match = SETTINGS.search(self.source.read_text())
        pairs = match["settings"].split() if match else []
        settings = dict(pair.split("=", 1) for pair in pairs)
        if unknown := set(settings) - {"python", "platform"}:
            raise LockError(
                f"{self.source}: unknown settings on the '# lock:' line: {', '.join(sorted(unknown))}"
            )
        return {"python": DEFAULT_PYTHON} | settings

    def digest(self) -> str:
        """sha256 over what the lock depends on; comments and order do not count."""
        parts = [f"{key}={value}" for key, value in sorted(self.settings().items())]
        for path in (self.source, self.overrides):
            if path is not None:
                lines = (line.split(" #")[0].strip() for line in path.read_text().splitlines())
                parts += [path.name, *sorted(line for line in lines if line and not line.startswith("#"))]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def is_current(self) -> bool:
        if not self.output.is_file():
            return False
        match = DIGEST.search(self.output.read_text())
        return match is not None and match["digest"] == self.digest()


def targets(root: Path = ROOT, stacks: Path = STACKS) -> dict[str, Target]:
    """Every lock that the project has, by name."""
    found = [
        Target(source.parent.name, source, source.parent / "requirements.txt")
        for source in sorted(stacks.glob("*/requirements.in"))
    ]
    found += [
        Target(name, root / f"requirements/{name}.in", root / f"requirements/{name}.lock")
        for name in ("dev", "model")
        if (root / f"requirements/{name}.in").is_file()
    ]
    return {target.name: target for target in found}


def find_uv() -> str:
    beside = Path(sys.executable).parent / "uv"
    uv = str(beside) if beside.is_file() else shutil.which("uv")
    if uv is None:
        raise LockError("uv was not found: run this with the project's .venv, or install uv")
    return uv


def pip_setting(name: str) -> list[str]:
    """The values of one of pip's settings on this machine, the environment before its files."""
    if value := os.environ.get(f"PIP_{name.upper().replace('-', '_')}"):
        return value.split()
    pip = shutil.which("pip3") or shutil.which("pip")
    if pip is None:
        return []
    listed = subprocess.run([pip, "config", "list"], capture_output=True, text=True, check=False).stdout
    values = re.findall(rf"^(?:global|user|site|install)\.{re.escape(name)}='(.*)'$", listed, re.MULTILINE)
    return list(dict.fromkeys(word for value in values for word in value.replace("\\n", " ").split()))


def compile_lock(target: Target, uv: str, *, upgrade: bool) -> bool:
    """Write the target's lock and say whether its text changed. Raises LockError with uv's own words."""
    settings = target.settings()
    before = target.output.read_text() if target.output.is_file() else ""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "requirements.txt"
        output.write_text(before)
        argv = [uv, "pip", "compile", "--quiet", "--generate-hashes", "--no-header", "--no-annotate"]
        argv += ["--python-version", settings["python"], "--output-file", str(output)]
        argv += ["--python-platform", settings["platform"]] if "platform" in settings else ["--universal"]
        argv += ["--override", str(target.overrides)] if target.overrides else []
        argv += ["--upgrade"] if upgrade else []
        for place in pip_setting("find-links"):
            argv += ["--find-links", place]
        environment = dict(os.environ)
        if index := pip_setting("index-url"):
            environment.setdefault("UV_DEFAULT_INDEX", index[0])
        run = subprocess.run(
            [*argv, str(target.source)], capture_output=True, text=True, check=False, env=environment
        )
        if run.returncode != 0:
            raise LockError(f"{target.name}: uv could not lock {target.source}:\n{run.stderr.strip()}")
        body = output.read_text()
    body = DIGEST.sub("", body).lstrip("\n")
    if match := FOREIGN.search(body):
        line = body.splitlines()[body.count("\n", 0, match.end())]
        raise LockError(f"{target.name}: the lock would name an index, an option or a path: {line}")
    text = f"# inputs: sha256:{target.digest()}\n{body}"
    if text == before:
        return False
    temporary = target.output.with_name(f".{target.output.name}.new")
    temporary.write_text(text)
    temporary.replace(target.output)
    return True


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Compile requirements into locks with hashes.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a stack, dev or model (default: all)")
    parser.add_argument(
        "--check", action="store_true", help="compile nothing, fail when a lock is out of date"
    )
    parser.add_argument("--upgrade", action="store_true", help="take newer versions than the locked ones")
    arguments = parser.parse_args(argv)
    known = targets()
    if unknown := [name for name in arguments.names if name not in known]:
        parser.error(f"no such lock: {', '.join(unknown)} (known: {', '.join(known)})")
    chosen = [known[name] for name in arguments.names or known]
    try:
        if arguments.check:
            stale = [target for target in chosen if not target.is_current()]
            for target in stale:
                sys.stderr.write(f"{target.output} is out of date: run requirements/lock.py {target.name}\n")
            return 1 if stale else 0
        uv = find_uv()
        for target in chosen:
            changed = compile_lock(target, uv, upgrade=arguments.upgrade)
            sys.stdout.write(f"{target.name}: {'written' if changed else 'unchanged'}\n")
            sys.stdout.flush()
    except LockError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

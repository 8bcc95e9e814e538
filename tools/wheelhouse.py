"""Fill the lab's wheelhouse with the wheels that PyPI does not have: the local versions (`+cpu`) of a lock.

They come from the find-links places of this machine's pip configuration, else from PyTorch's own CPU index.
Every file is checked against the lock's hashes. Run as `python -m tools.wheelhouse [DIRECTORY]`.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tools.lab_model.environment import PYTORCH_CPU_INDEX, find_links

ROLE = Path(__file__).resolve().parents[1] / "collections/ansible_collections/citadel/llm/roles/python_env"
LOCK = ROLE / "files/stacks/cpu/requirements.txt"


def local_versions(lock: str) -> dict[str, set[str]]:
    """Requirements such as `torch==2.13.0+cpu` with their SHA-256 digests."""
    found: dict[str, set[str]] = {}
    for entry in re.split(r"(?<!\\)\n", lock):
        if match := re.match(r"([\w.-]+==[\w.]+\+\w+)", entry):
            found[match[1]] = set(re.findall(r"sha256:([0-9a-f]{64})", entry))
    return found


def digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def copy_from_machine(requirement: str, hashes: set[str], target: Path) -> bool:
    """Take the wheel from a find-links folder, if one of them has it."""
    name, version = requirement.split("==")
    for place in find_links():
        folder = Path(unquote(urlsplit(place).path))
        for wheel in sorted(folder.glob(f"{name}-*.whl")):
            if f"-{version}-" in wheel.name and digest(wheel) in hashes:
                partial = target / f".{wheel.name}.part"
                shutil.copyfile(wheel, partial)
                partial.rename(target / wheel.name)
                return True
    return False


def download(requirement: str, hashes: set[str], target: Path) -> None:
    wanted = target / ".wanted.txt"
    wanted.write_text(requirement + "".join(f" --hash=sha256:{value}" for value in sorted(hashes)) + "\n")
    argv = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary=:all:"]
    argv += [
        "--python-version=3.11",
        "--index-url",
        PYTORCH_CPU_INDEX,
        "--dest",
        str(target),
        "-r",
        str(wanted),
    ]
    run = subprocess.run(argv, check=False)
    wanted.unlink()
    if run.returncode:
        sys.exit(f"wheelhouse: {requirement} is in no find-links folder of pip and could not be downloaded.")


def main() -> None:
    cache = Path(os.environ.get("CITADEL_CACHE") or Path.home() / ".cache/citadel")
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else cache / "wheelhouse"
    target.mkdir(parents=True, exist_ok=True)
    wanted = local_versions(LOCK.read_text())
    keep = set()
    for requirement, hashes in wanted.items():
        name, version = requirement.split("==")
        present = [wheel for wheel in target.glob(f"{name}-*.whl") if f"-{version}-" in wheel.name]
        if not any(digest(wheel) in hashes for wheel in present) and not copy_from_machine(
            requirement, hashes, target
        ):
            download(requirement, hashes, target)
        keep |= {wheel for wheel in target.glob(f"{name}-*.whl") if f"-{version}-" in wheel.name}
    for wheel in target.glob("*.whl"):
        if wheel not in keep:
            wheel.unlink()


if __name__ == "__main__":
    main()

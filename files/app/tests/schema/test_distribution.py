"""What the distribution says of itself, and the set of packages that servers get."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import citadel_llm

APP = Path(__file__).parents[2]
STACK = APP.parents[1] / "collections/ansible_collections/citadel/llm/roles/python_env/files/stacks/app"
PROJECT = tomllib.loads((APP / "pyproject.toml").read_text())["project"]


def requirements(name: str) -> list[str]:
    lines = (STACK / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith(("#", " "))]


def test_code_and_metadata_have_the_same_version() -> None:
    assert PROJECT["version"] == citadel_llm.__version__


def test_servers_get_what_the_distribution_asks_for() -> None:
    assert sorted(requirements("requirements.in"), key=str.lower) == sorted(
        PROJECT["dependencies"], key=str.lower
    )
    locked = {re.split("[=;]", line)[0].strip().lower() for line in requirements("requirements.txt")}
    assert {re.split("[>=[]", line)[0].lower() for line in PROJECT["dependencies"]} <= locked


@pytest.mark.parametrize("line", requirements("requirements.txt"))
def test_each_package_has_one_version_and_hashes(line: str) -> None:
    assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*==[^ ;]+( ; .+)? \\", line), "no index, no range"
    text = (STACK / "requirements.txt").read_text()
    block = text.split(line, 1)[1].split("\n", 2)[1]
    assert re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", block)

"""What the documentation names exists: links, make targets, playbooks and commands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from citadel_llm.cli.main import cli as citadel

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def commands() -> list[tuple[str, str]]:
    """Page and command of each line in a console block."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL):
            lines = [line.split("  #")[0].strip() for line in block.splitlines()]
            found += [
                (page.name, line.removeprefix("$ ")) for line in lines if line and not line.startswith("#")
            ]
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    used = {match for _, line in commands() for match in re.findall(r"^make ([\w-]+)", line)}
    used |= {match for page in PAGES for match in re.findall(r"`make ([\w-]+)", page.read_text())}
    assert used
    for target in used:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"


def test_playbooks_exist() -> None:
    collection = ROOT / "collections/ansible_collections/citadel/llm/playbooks"
    used = [
        (page, words) for page, line in commands() if (words := line.split()) and "ansible-playbook" in words
    ]
    assert used
    for page, words in used:
        books = [word for word in words if word.endswith(".yml") or word.startswith("citadel.llm.")]
        assert books, f"{page}: {' '.join(words)}"
        for book in books:
            path = collection / f"{book.removeprefix('citadel.llm.')}.yml" if "/" not in book else ROOT / book
            assert path.is_file(), f"{page}: {book}"
        if "-i" in words and not (inventory := words[words.index("-i") + 1].strip("'")).endswith(","):
            assert (ROOT / inventory).exists(), f"{page}: {inventory}"


def test_lab_commands_exist() -> None:
    usage = subprocess.run(
        [sys.executable, "-m", "lab", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    used = {match for _, line in commands() for match in re.findall(r"python3 -m lab (\w+)", line)}
    assert used
    for command in used:
        assert re.search(rf"\b{command}\b", usage.stdout), f"lab {command}"


def test_commands_of_the_application_exist() -> None:
    used = {tuple(line.split()[1:]) for _, line in commands() if line.startswith("citadel ")}
    assert used
    for words in used:
        command: click.Command | None = citadel
        context = click.Context(citadel)
        for word in words:
            if not isinstance(command, click.Group) or word.startswith("-"):
                break
            command = command.get_command(context, word)
            assert command is not None, f"citadel {' '.join(words)}"

"""The integration targets run in one play, where a registered name outranks another target's variables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

TARGETS = Path(__file__).parents[1] / "collections/ansible_collections/citadel/llm/tests/integration/targets"


class Loader(yaml.SafeLoader):
    """Reads Ansible's tags as nothing."""


Loader.add_multi_constructor("!", lambda _loader, _suffix, _node: None)


def nodes(document: Any) -> Iterator[dict[str, Any]]:
    """Every mapping of a document."""
    if isinstance(document, dict):
        yield document
        document = list(document.values())
    if isinstance(document, list):
        for part in document:
            yield from nodes(part)


def tasks(target: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(target.glob("tasks/*.yml")):
        yield from nodes(yaml.load(path.read_text(), Loader))


def test_no_target_registers_what_another_one_sets() -> None:
    targets = sorted(TARGETS.iterdir())
    registered = {
        (target.name, task["register"]) for target in targets for task in tasks(target) if "register" in task
    }
    assert registered
    clashes = {
        f"{target.name} sets {name}, {other} registers it"
        for target in targets
        for task in tasks(target)
        for name in (task["vars"] if "name" in task and isinstance(task.get("vars"), dict) else ())
        for other, found in registered
        if found == name and other != target.name
    }
    assert not clashes

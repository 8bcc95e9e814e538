"""Each role's argument specs, defaults and README agree, and its stage can be run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.role_readmes import readme

COLLECTION = Path(__file__).resolve().parents[1] / "collections/ansible_collections/citadel/llm"
ROLES = sorted(path.parent.parent for path in COLLECTION.glob("roles/*/meta/argument_specs.yml"))


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_specs_and_defaults_agree(role: Path) -> None:
    options = load(role / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    defaults = load(role / "defaults/main.yml")
    assert {name: option["default"] for name, option in options.items() if "default" in option} == defaults


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_the_variables_can_be_validated_before_anything_changes(role: Path) -> None:
    specs = load(role / "meta/argument_specs.yml")["argument_specs"]
    assert specs["validate"] == specs["main"]
    tasks = load(COLLECTION / "playbooks/validate.yml")[0]["tasks"]
    stages = [stage for task in tasks for stage in task.get("loop", [])]
    assert role.name in stages


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_readme_is_made_from_the_specs(role: Path) -> None:
    assert (role / "README.md").read_text() == readme(role)


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_variables_carry_the_name_of_their_role(role: Path) -> None:
    for name in load(role / "defaults/main.yml"):
        assert name.startswith(f"{role.name}_")


def test_no_fact_is_written_twice() -> None:
    """Paths below the project's root are derived from it, so that moving it moves everything."""
    for path in COLLECTION.glob("roles/*/**/*"):
        if path.suffix in {".yml", ".j2"} and path.parent.parent.name != "citadel":
            literal = re.findall(r"(?<![\w.])/opt/citadel\S*", path.read_text())
            assert not literal, f"{path.relative_to(COLLECTION)}: {literal}"


def test_site_imports_each_stage_once() -> None:
    imported = [play["ansible.builtin.import_playbook"] for play in load(COLLECTION / "playbooks/site.yml")]
    assert len(imported) == len(set(imported))
    for name in imported:
        assert (COLLECTION / f"playbooks/{name.removeprefix('citadel.llm.')}.yml").is_file()

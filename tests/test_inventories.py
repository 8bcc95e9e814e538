"""The inventories parse, name what the roles know, and hold no secret."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
INVENTORIES = sorted(path for path in (ROOT / "inventories").iterdir() if path.is_dir())
ROLES = ROOT / "collections/ansible_collections/citadel/llm/roles"
CONNECTION = re.compile(r"^(ansible_|__|vault_)")


def known_variables() -> set[str]:
    specs = (yaml.safe_load(path.read_text()) for path in ROLES.glob("*/meta/argument_specs.yml"))
    return {name for spec in specs for name in spec["argument_specs"]["main"]["options"]}


def variables(inventory: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in [*inventory.glob("group_vars/**/*.yml"), *inventory.glob("host_vars/**/*.yml")]:
        found |= yaml.safe_load(path.read_text()) or {}
    return found


@pytest.mark.parametrize("inventory", INVENTORIES, ids=lambda path: path.name)
def test_every_variable_is_one_that_a_role_reads(inventory: Path) -> None:
    own = {name for name in variables(inventory) if not CONNECTION.match(name)}
    assert own <= known_variables(), own - known_variables()


@pytest.mark.parametrize("inventory", INVENTORIES, ids=lambda path: path.name)
def test_no_secret_is_written_down(inventory: Path) -> None:
    for path in inventory.rglob("*.yml"):
        text = path.read_text()
        assert not re.search(r"sk-citadel-\w{8}|BEGIN [A-Z ]*PRIVATE KEY", text), path
        for name, value in re.findall(r"^\s*\w*(password|secret|token)\w*:\s*(\S+)", text, re.MULTILINE):
            assert value.startswith(("'{{", '"{{', "{{")), f"{path}: {name}"


def test_the_first_server_is_described() -> None:
    facts = variables(ROOT / "inventories/production")
    assert facts["citadel_model_store"].startswith("/mnt/nvme0n1/")
    assert facts["citadel_log_dir"].startswith("/mnt/sda/")
    assert {
        "imp-v1-3b",
        "Nous-Hermes-2-Mixtral-8x7B-DPO",
        "phi-3-mini-4k-instruct",
        "Qwen-Coder-DeepSeek-R1-14B",
    } == set(facts["layout_model_names"])
    neighbours = {check["host"] for check in facts["config_health"]["checks"]}
    assert {"192.168.10.35", "192.168.10.30", "192.168.10.37", "192.168.10.38"} <= neighbours

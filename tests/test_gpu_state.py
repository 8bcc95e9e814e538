"""What monitored hosts read their GPUs with is the collection's own reader, complete and without Ansible."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import yaml

COLLECTION = Path(__file__).resolve().parents[1] / "collections/ansible_collections/citadel/llm"
MODULES = COLLECTION / "plugins/module_utils"
ROLE = COLLECTION / "roles/monitoring"
PACKAGE = "ansible_collections.citadel.llm.plugins.module_utils"
RECORDING = COLLECTION / "tests/unit/plugins/module_utils/fixtures/gpu/rtx-5060-ti-x2-580.xml"


def imported(module: str) -> set[str]:
    """The modules of the collection that one needs."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((MODULES / f"{module}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == PACKAGE:
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{PACKAGE}."):
            found.add(str(node.module).removeprefix(f"{PACKAGE}."))
    return found


def handed_over() -> list[str]:
    modules: list[str] = yaml.safe_load((ROLE / "vars/main.yml").read_text())["__monitoring_gpu_modules"]
    return modules


def test_every_module_that_is_needed_is_handed_over() -> None:
    needed, new = {"_gpu_info"}, {"_gpu_info"}
    while new:
        new = {name for module in new for name in imported(module)} - needed
        needed |= new
    assert handed_over() == sorted(needed)


def test_it_runs_alone_and_prints_json(tmp_path: Path) -> None:
    package = tmp_path / PACKAGE.replace(".", "/")
    package.mkdir(parents=True)
    for module in handed_over():
        (package / f"{module}.py").write_text((MODULES / f"{module}.py").read_text())
    (tmp_path / "gpu-state").write_text((ROLE / "files/gpu-state.py").read_text())
    command = tmp_path / "nvidia-smi"
    command.write_text(f"#!/bin/sh\nexec cat {RECORDING}\n")
    command.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(tmp_path / "gpu-state")],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        check=True,
        timeout=60,
    )
    state = json.loads(done.stdout)
    assert [gpu["name"] for gpu in state["gpus"]] == ["NVIDIA GeForce RTX 5060 Ti"] * 2

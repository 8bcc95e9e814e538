# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every check in one call: nothing is lost when one of them breaks, hangs or is asked for nonsense."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Dict

import pytest
import yaml

from ansible_collections.citadel.llm.plugins.module_utils import _preflight as preflight
from ansible_collections.citadel.llm.plugins.module_utils import _preflight_sections as sections
from ansible_collections.citadel.llm.plugins.module_utils._findings import ok
from ansible_collections.citadel.llm.plugins.module_utils._preflight_expected import expectations, joined
from ansible_collections.citadel.llm.plugins.modules.preflight import DOCUMENTATION
from ansible_collections.citadel.llm.tests.unit.plugins.module_utils.probe_testing import hang

FIXTURES = Path(__file__).parent / "fixtures" / "gpu"
ROLES = Path(__file__).resolve().parents[4] / "roles"


def good(_given: Dict[str, Any], _deadline: float) -> sections.Part:
    return sections.Part([ok("host.os", "operating system")], {"host": {"pid": os.getpid()}})


def broken(_given: Dict[str, Any], _deadline: float) -> sections.Part:
    raise KeyError("total_mib")


def hanging(_given: Dict[str, Any], _deadline: float) -> sections.Part:
    time.sleep(600)
    return sections.Part([], {})


def test_one_look_at_the_gpus_serves_two_sections() -> None:
    look = {"source": str(FIXTURES / "rtx-5060-ti-x2-575.xml")}
    stack = {"name": "vllm-0.9.2"}
    result = preflight.check(
        {"gpus": dict(look, count=2, stack=stack, machine="x86_64"), "driver": {"stack": stack}}, 20
    )
    assert result["verdict"] == "blocked"
    assert {one["id"] for one in result["findings"]} >= {"gpu.count", "stack.architecture", "driver.cuda"}
    assert len(result["facts"]["gpu"]["gpus"]) == 2
    assert list(result["seconds"]) == ["gpu"]


def test_models_have_to_fit_on_the_gpus_that_are_there() -> None:
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "num_attention_heads": 64,
        "num_hidden_layers": 80,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 8192,
        "torch_dtype": "bfloat16",
    }
    large = {"name": "large", "config": config, "weight_bytes": 141107412992, "tensor_parallel_size": 2}
    look = {"source": str(FIXTURES / "rtx-5060-ti-x2-575.xml")}
    result = preflight.check({"gpus": look, "models": {"models": [large]}}, 20)
    assert result["verdict"] == "blocked"
    assert [one["name"] for one in result["facts"]["models"]] == ["large"]
    elsewhere = dict(large, gpu_memory_mib=[143771, 143771])
    result = preflight.check({"gpus": look, "models": {"models": [elsewhere]}}, 20)
    assert result["verdict"] == "ready"


def test_what_breaks_or_hangs_takes_nothing_else_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    runners = {
        "host": (("host",), good),
        "gpu": (("gpus", "driver"), broken),
        "account": (("account",), hanging),
    }
    monkeypatch.setattr(preflight, "RUNNERS", runners)
    hang(monkeypatch, 1)
    result = preflight.check({"host": {}, "gpus": {}, "driver": {}, "account": {}}, 1.5)
    told = {(one["id"], one["subject"]): one for one in result["findings"]}
    assert set(told) == {
        ("host.os", "operating system"),
        ("preflight.failed", "gpus"),
        ("preflight.failed", "driver"),
        ("preflight.unfinished", "account"),
    }
    assert "KeyError: 'total_mib'" in told["preflight.failed", "gpus"]["why"]
    assert told["preflight.unfinished", "account"]["unknown"] is True
    assert result["verdict"] == "unknown"
    assert result["facts"]["host"]["pid"] != os.getpid()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"host": {"memory": {"minimum_gb": "much"}}}, "host: .*minimum_gb"),
        ({"host": {"memroy": {}}}, "host: .*memroy"),
        ({"gpus": {"stack": {"name": "no-such"}}}, "gpus: .*no-such"),
        ({"models": {"models": [{"name": "a"}]}}, r"models: models\[0\]: one of path and config"),
        ({"mounts": {"mounts": [{"path": "srv"}]}}, "mounts: .*'srv' is not absolute"),
        ({"account": {"user": "root", "directories": [{"path": "/", "mode": "rwx"}]}}, "account: .*'rwx'"),
        ({"endpoints": {"endpoints": [{"host": "a", "port": 70000}]}}, "endpoints: .*70000"),
    ],
)
def test_bad_options_name_the_section_and_the_value(given: Dict[str, Any], told: str) -> None:
    with pytest.raises(preflight.InvalidError, match=told):
        preflight.check(given, 20)


def test_entries_for_one_thing_are_joined_and_null_takes_back() -> None:
    mounts = {
        "mounts": [
            {"path": "/srv", "device": "/dev/sda", "in_fstab": True},
            {"path": "/data"},
            {"path": "/srv/", "role": "models", "in_fstab": None},
        ],
        "timeout": None,
    }
    assert joined("mounts", mounts) == {
        "mounts": [{"path": "/srv/", "device": "/dev/sda", "role": "models"}, {"path": "/data"}]
    }
    endpoints = {
        "endpoints": [{"name": "db", "port": 1}, {"host": "b", "port": 2}, {"name": "db", "port": 3}]
    }
    assert joined("endpoints", endpoints)["endpoints"] == [
        {"name": "db", "port": 3},
        {"host": "b", "port": 2},
    ]
    assert joined("account", {"sudo": None, "uid": 1}) == {"uid": 1}


KNOWN: Dict[str, Any] = {
    "stack": "cuda",
    "gpu_count": 2,
    "deployments": [
        {"name": "a", "model": "m", "accelerator": "cpu"},
        {"name": "b", "model": "m", "arguments": {"tensor-parallel-size": 2}},
    ],
    "model_store": "/srv/models",
    "mounts": [{"path": "/srv", "device": "/dev/sda", "fstype": "ext4", "format": True}],
    "checks": [
        {"name": "db", "kind": "tcp", "host": "192.0.2.5", "port": 5432, "critical": False},
        {"name": "own", "kind": "tcp", "host": "127.0.0.1", "port": 1},
        {"name": "disk", "kind": "disk"},
    ],
    "account": {"user": "citadel", "uid": 1001, "sudo": "scoped"},
    "allowed_processes": ["/opt/citadel"],
    "os": ["debian 12"],
    "before_provisioning": True,
}


def test_expectations_follow_from_the_other_roles() -> None:
    found = expectations(KNOWN, {}, preflight.SECTIONS)
    assert found == {
        "host": {"os": ["debian 12"]},
        "gpus": {
            "stack": {"name": "cuda"},
            "count": 2,
            "tensor_parallel": [[0, 1]],
            "allowed_processes": ["/opt/citadel"],
        },
        "driver": {"stack": {"name": "cuda"}},
        "models": {
            "models": [
                {
                    "name": "b",
                    "path": "/srv/models/m/current",
                    "tensor_parallel_size": 2,
                    "before_provisioning": True,
                }
            ]
        },
        "mounts": {
            "mounts": [{"path": "/srv", "device": "/dev/sda", "in_fstab": True}],
            "before_provisioning": True,
        },
        "account": {"user": "citadel", "uid": 1001, "sudo": "scoped", "before_provisioning": True},
        "endpoints": {
            "endpoints": [{"name": "db", "host": "192.0.2.5", "port": 5432, "severity": "deviation"}]
        },
    }


def test_what_is_told_lies_above_what_follows() -> None:
    told = {
        "host": {"os": ["ubuntu 24.04"]},
        "gpus": {"count": 4, "stack": {"name": None, "torch": "2.10.0+cu128"}},
        "mounts": {"mounts": [{"path": "/srv", "role": "models"}], "timeout": 1},
        "account": {"sudo": None},
    }
    found = expectations(KNOWN, told, ["host", "gpus", "mounts", "account"])
    assert list(found) == ["host", "gpus", "mounts", "account"]
    assert found["host"] == {"os": ["ubuntu 24.04"]}
    assert (found["gpus"]["count"], found["gpus"]["stack"]) == (4, {"torch": "2.10.0+cu128"})
    assert found["mounts"]["mounts"] == [
        {"path": "/srv", "device": "/dev/sda", "in_fstab": True, "role": "models"}
    ]
    assert "sudo" not in found["account"]


def test_a_lock_of_ones_own_tells_the_torch_build() -> None:
    lock = "numpy==2.0\ntorch==2.7.0+cu126 \\\n    --hash=sha256:00\n"
    assert expectations(dict(KNOWN, lock=lock), {}, ["driver"])["driver"]["stack"]["torch"] == "2.7.0+cu126"
    assert expectations(dict(KNOWN, lock="numpy==2.0\n"), {}, ["driver"])["driver"] == {}


@pytest.mark.parametrize("stack", ["cpu", "none"])
def test_without_a_stack_that_needs_gpus_none_are_looked_for_unless_told(stack: str) -> None:
    known = dict(KNOWN, stack=stack)
    assert set(expectations(known, {}, ["host", "gpus", "driver"])) == {"host"}
    asked = expectations(known, {"gpus": {"count": 1}}, ["host", "gpus", "driver"])
    assert set(asked) == {"host", "gpus", "driver"}
    assert "stack" not in asked["gpus"]


def test_every_section_is_documented_and_in_the_role() -> None:
    options = yaml.safe_load(DOCUMENTATION)["options"]
    assert set(preflight.SECTIONS) <= set(options)
    assert {name for names, _run in sections.RUNNERS.values() for name in names} == set(preflight.SECTIONS)
    defaults = yaml.safe_load((ROLES / "preflight/defaults/main.yml").read_text())
    assert defaults["preflight_sections"] == list(preflight.SECTIONS)


@pytest.mark.parametrize(
    ("role", "variable", "used"),
    [
        ("python_env", "python_env_stack", "default('cuda')"),
        ("python_env", "python_env_gpu_count", "default(-1)"),
        ("layout", "layout_mounts", "default([])"),
        ("account", "account_groups", "default(['systemd-journal'])"),
        ("account", "account_shell", "default('/bin/bash')"),
        ("account", "account_sudo", "default('scoped')"),
        ("account", "account_home", "default('/home/' ~ citadel_user)"),
    ],
)
def test_expectations_start_from_the_other_roles_defaults(role: str, variable: str, used: str) -> None:
    default = yaml.safe_load((ROLES / role / "defaults/main.yml").read_text())[variable]
    text = (ROLES / "preflight/vars/main.yml").read_text()
    assert f"{variable} | {used}" in text
    shown = str(default).replace("{{ citadel_user }}", "' ~ citadel_user")
    assert shown.strip("'") in used, f"roles/preflight/vars/main.yml has another default for {variable}"

# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deployments say which models have to fit on which GPUs."""

from __future__ import annotations

import json
import pathlib
from typing import Any, Dict

import pytest

from ansible_collections.citadel.llm.plugins.module_utils import _preflight as preflight
from ansible_collections.citadel.llm.plugins.module_utils._preflight_expected import expectations
from ansible_collections.citadel.llm.plugins.module_utils._preflight_models import deployed, read
from ansible_collections.citadel.llm.tests.unit.plugins.module_utils import model_fit_testing as testing

FIXTURES = pathlib.Path(__file__).parent / "fixtures/gpu"
LOOK = {"source": str(FIXTURES / "rtx-5060-ti-x2-575.xml")}
LLAMA = testing.config(vocab_size=128256)


def known(**given: Any) -> Dict[str, Any]:
    return {"stack": "cuda", "model_store": "/srv/models", "before_provisioning": True, **given}


def of(**deployment: Any) -> Any:
    """What one deployment expects, without what every one has."""
    (entry,) = deployed(known(deployments=[{"name": "a", "model": "m", **deployment}]))
    assert entry.pop("name") == "a"
    assert entry.pop("before_provisioning") is True
    return entry


def test_arguments_of_the_engine_become_options() -> None:
    arguments = {
        "tensor-parallel-size": 2,
        "max_model_len": "16k",
        "--gpu-memory-utilization": "0.85",
        "dtype": "half",
        "quantization": "awq_marlin",
        "enforce-eager": True,
        "no-enable-prefix-caching": True,
        "async-scheduling": False,
        "served-model-name": "b",
    }
    assert of(arguments=arguments) == {
        "path": "/srv/models/m/current",
        "tensor_parallel_size": 2,
        "max_model_len": 16000,
        "gpu_memory_utilization": 0.85,
        "dtype": "float16",
        "quantization": "awq",
        "enforce_eager": True,
        "prefix_caching": False,
        "async_scheduling": False,
    }


@pytest.mark.parametrize("arguments", [{"max-model-len": "auto"}, {"max-model-len": -1}, {"dtype": "other"}])
def test_what_cannot_be_said_of_memory_is_left_to_the_engine(arguments: Dict[str, Any]) -> None:
    assert of(arguments=arguments) == {"path": "/srv/models/m/current"}


@pytest.mark.parametrize(
    ("value", "gpus"), [("1", [1]), (0, [0]), ("0, 3", [0, 3]), ("GPU-1f", None), ("", None), (None, None)]
)
def test_the_gpus_that_an_engine_sees(value: Any, gpus: Any) -> None:
    assert of(environment={"CUDA_VISIBLE_DEVICES": value}).get("gpus") == gpus


def test_only_engines_that_generate_on_a_gpu() -> None:
    others = [
        {"name": "a", "model": "m", "accelerator": "cpu"},
        {"name": "b", "model": "m", "task": "embed"},
    ]
    assert deployed(known(deployments=others)) == []
    assert "models" not in expectations(known(deployments=others), {}, preflight.SECTIONS)


def test_arguments_of_the_role_lie_below_those_of_a_deployment() -> None:
    deployments = [{"name": "a", "model": "m", "arguments": {"max-model-len": 1024}}]
    (entry,) = deployed(
        known(deployments=deployments, engine_arguments={"max-model-len": 2048, "max-num-seqs": 8})
    )
    assert (entry["max_model_len"], entry["max_num_seqs"]) == (1024, 8)


def test_where_the_model_lies() -> None:
    deployments = [{"name": "a", "model": "m"}]
    (entry,) = deployed(known(deployments=deployments, directories={"m": "/data/m"}))
    assert entry["path"] == "/data/m"
    told = {"config": LLAMA, "weight_bytes": 16060522496}
    (entry,) = deployed(known(deployments=deployments, directories={"m": "/data/m"}, configs={"m": told}))
    assert "path" not in entry
    assert (entry["config"], entry["weight_bytes"]) == (LLAMA, 16060522496)


def test_a_directory_on_the_controller_is_read(tmp_path: pathlib.Path) -> None:
    assert read(str(tmp_path)) is None
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    assert read(str(tmp_path)) is None
    size = testing.write_weights(str(tmp_path / "model.safetensors"), testing.TENSORS)
    assert read(str(tmp_path)) == {"config": LLAMA, "weight_bytes": size}


def test_what_is_told_takes_the_place_of_the_deployments() -> None:
    told = {"models": {"models": [{"name": "other", "path": "/srv/other"}]}}
    given = known(deployments=[{"name": "a", "model": "m"}])
    assert expectations(given, told, ["models"])["models"] == told["models"]
    assert "models" not in expectations(given, {"models": {"models": []}}, ["models"])
    (entry,) = expectations(given, {}, ["models"])["models"]["models"]
    assert entry["path"] == "/srv/models/m/current"


def test_a_deployment_that_does_not_fit_blocks_and_one_that_fits_does_not() -> None:
    model = {"config": LLAMA, "weight_bytes": 16060522496}
    deployments = [
        {"name": "alone", "model": "m", "environment": {"CUDA_VISIBLE_DEVICES": "1"}},
        {"name": "both", "model": "m", "arguments": {"tensor-parallel-size": 2}},
    ]
    given = known(deployments=deployments, configs={"m": model})
    models = expectations(given, {}, ["models"])["models"]
    result = preflight.check({"gpus": LOOK, "models": models}, 20)
    bad = {
        (one["id"], one["subject"]): one["severity"] for one in result["findings"] if one["severity"] != "ok"
    }
    assert bad == {("model.memory", "alone"): "blocking"}
    assert [one["fits"] for one in result["facts"]["models"]] == [False, True]


def test_a_model_that_is_not_there_yet_is_unknown_and_later_its_loss_blocks(tmp_path: pathlib.Path) -> None:
    def severity(before: bool) -> Any:
        given = known(deployments=[{"name": "a", "model": "m"}], model_store=str(tmp_path))
        given["before_provisioning"] = before
        models = expectations(given, {}, ["models"])["models"]
        found = preflight.check({"gpus": LOOK, "models": models}, 20)["findings"]
        (one,) = [one for one in found if one["id"] == "model.config"]
        assert one["unknown"] is True
        return one["severity"]

    assert severity(True) == "deviation"
    assert severity(False) == "blocking"

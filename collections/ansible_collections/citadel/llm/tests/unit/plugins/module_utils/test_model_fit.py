# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.citadel.llm.plugins.module_utils._findings import verdict
from ansible_collections.citadel.llm.plugins.module_utils._model_fit_arguments import model_fit_problem
from ansible_collections.citadel.llm.tests.unit.plugins.module_utils.model_fit_testing import (
    GIB,
    MIB,
    TENSORS,
    checked,
    config,
    options,
    published,
    write_weights,
)

PUBLISHED = published()
TWO_GPUS = [16311, 16311]


def mission(name: str, **given: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    model = PUBLISHED[name]
    given = {"gpu_memory_mib": TWO_GPUS, **given}
    return checked(name=name, config=model["config"], weight_bytes=model["weight_bytes"], **given)


@pytest.mark.parametrize(
    ("name", "token", "architecture"),
    [
        ("phi-3-mini-4k-instruct", 2 * 32 * 32 * 96 * 2, "ok"),
        ("Nous-Hermes-2-Mixtral-8x7B-DPO", 2 * 32 * 8 * 128 * 2, "ok"),
        ("Qwen-Coder-DeepSeek-R1-14B", 2 * 48 * 8 * 128 * 2, "ok"),
        ("imp-v1-3b", 2 * 32 * 32 * 80 * 2, "deviation"),
    ],
)
def test_published_models(name: str, token: int, architecture: str) -> None:
    findings, numbers = mission(name)
    assert numbers["kv_bytes_per_token"] == token
    assert numbers["weight_bytes"] == PUBLISHED[name]["weight_bytes"]
    assert findings["model.architecture"].severity == architecture
    assert PUBLISHED[name]["source"]


@pytest.mark.parametrize(
    ("name", "tensor_parallel", "change"),
    [
        ("phi-3-mini-4k-instruct", 1, None),
        ("phi-3-mini-4k-instruct", 2, None),
        ("imp-v1-3b", 1, None),
        ("Qwen-Coder-DeepSeek-R1-14B", 1, ["tensor_parallel_size", "quantization", "max_model_len"]),
        ("Qwen-Coder-DeepSeek-R1-14B", 2, ["quantization", "max_model_len"]),
    ],
)
def test_published_models_on_two_gpus(name: str, tensor_parallel: int, change: list[str] | None) -> None:
    findings, numbers = mission(name, tensor_parallel_size=tensor_parallel)
    assert numbers["fits"] is (change is None)
    assert findings["model.memory"].severity == ("ok" if change is None else "blocking")
    if change is None:
        assert numbers["change"] is None and numbers["changes"] == []
        return
    assert list(numbers["change"]) == change and numbers["change"]["quantization"] == "fp8"
    again = mission(name, **{"tensor_parallel_size": tensor_parallel, **numbers["change"]})[1]
    assert again["fits"] is True and again["max_concurrency"] >= 1


def test_mixtral_needs_four_bits() -> None:
    """93 GB on two GPUs of 16 GB need four bits a weight; a long context a checkpoint that has them."""
    name = "Nous-Hermes-2-Mixtral-8x7B-DPO"
    numbers = mission(name)[1]
    assert numbers["fits"] is False and numbers["changes"] == []
    assert numbers["change"]["quantization"] == "bitsandbytes"
    assert numbers["change"]["tensor_parallel_size"] == 2
    assert mission(name, **numbers["change"])[1]["fits"] is True
    asked, numbers = mission(name, tensor_parallel_size=2, max_model_len=16384)
    assert numbers["change"] == {"quantization": "awq"}
    assert "AWQ or GPTQ checkpoint" in asked["model.memory"].remedy
    after = checked(
        config=dict(PUBLISHED[name]["config"], quantization_config={"quant_method": "awq"}),
        weight_bytes=24_700_000_000,
        gpu_memory_mib=TWO_GPUS,
        tensor_parallel_size=2,
        max_model_len=16384,
    )
    assert after[1]["fits"] is True


def test_a_change_is_the_least_that_helps() -> None:
    """One step less of what is proposed does not fit."""
    given: dict[str, Any] = {"config": config(), "weight_bytes": 14 * GIB, "gpu_memory_mib": [17000]}
    findings, numbers = checked(max_model_len=4096, **given)
    share = numbers["change"]["gpu_memory_utilization"]
    assert numbers["fits"] is False and list(numbers["change"]) == ["gpu_memory_utilization"]
    assert "gpu_memory_utilization" in findings["model.memory"].remedy
    for step, fits in ((0.0, True), (-0.01, False)):
        assert checked(max_model_len=4096, gpu_memory_utilization=share + step, **given)[1]["fits"] is fits


def test_a_shorter_context_is_as_long_as_it_may_be() -> None:
    given: dict[str, Any] = {"config": config(), "weight_bytes": GIB, "kv_cache_memory_bytes": 768 * MIB}
    findings, numbers = checked(max_model_len=8192, **given)
    assert numbers["fits"] is False and numbers["max_context"] == 6144 - 16
    assert numbers["change"] == {"max_model_len": 5888}  # the multiple of 256 below
    assert "max_model_len 5888" in findings["model.memory"].remedy
    assert checked(max_model_len=5888, **given)[1]["fits"] is True


def test_idle_gpus_come_before_quantisation() -> None:
    numbers = checked(
        config=config(), weight_bytes=16 * GIB, gpu_memory_mib=[16311], count=2, max_model_len=8192
    )[1]
    assert numbers["change"] == {"tensor_parallel_size": 2}
    assert {tuple(one["options"]) for one in numbers["changes"]} >= {
        ("tensor_parallel_size",),
        ("quantization",),
    }


def test_nothing_helps() -> None:
    findings, numbers = checked(config=config(), weight_bytes=400 * GIB, gpu_memory_mib=[8192])
    assert numbers["change"] is None and numbers["changes"] == []
    assert "No change of settings makes it fit on 1 GPUs" in findings["model.memory"].remedy
    assert "No available memory for the cache blocks" in findings["model.memory"].why
    assert str(numbers["needed_mib_per_gpu"]) in findings["model.memory"].remedy
    enough = checked(config=config(), weight_bytes=400 * GIB, gpu_memory_mib=[numbers["needed_mib_per_gpu"]])
    assert enough[1]["fits"] is True


def test_a_cache_of_a_set_size() -> None:
    """2048 tokens of 128 KiB are 256 MiB, and the engine holds one block back."""
    exact = 2048 * 131072
    short, numbers = checked(
        config=config(), weight_bytes=GIB, kv_cache_memory_bytes=exact, max_model_len=2048
    )
    assert numbers["fits"] is False and numbers["kv_tokens"] == 2048 and numbers["max_context"] == 2032
    assert "To serve at least one request" in short["model.memory"].why
    more = checked(
        config=config(), weight_bytes=GIB, kv_cache_memory_bytes=exact + 16 * 131072, max_model_len=2048
    )
    assert more[1]["fits"] is True and more[1]["max_context"] == 2048
    over, numbers = checked(
        config=config(), weight_bytes=14 * GIB, kv_cache_memory_bytes=4 * GIB, gpu_memory_mib=[16311]
    )
    assert numbers["fits"] is False and "CUDA out of memory" in over["model.memory"].why


@pytest.mark.parametrize(
    ("heads", "kv_heads", "size", "said"),
    [
        (32, 8, 3, r"attention heads \(32\) must be divisible by tensor parallel size \(3\)"),
        (12, 8, 3, r"KV heads \(8\) can be neither divided nor repeated"),
        (32, 8, 2, ""),
        (32, 2, 4, ""),
    ],
)
def test_heads_have_to_be_divisible(heads: int, kv_heads: int, size: int, said: str) -> None:
    shape = config(num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=128)
    findings, numbers = checked(
        config=shape, weight_bytes=GIB, gpu_memory_mib=[16311] * 4, tensor_parallel_size=size
    )
    parallel = findings["model.parallel"]
    if not said:
        assert parallel.severity == "ok" and numbers["fits"] is True
        return
    assert parallel.severity == "blocking" and numbers["fits"] is False
    assert re.search(said, parallel.why)
    assert "Set tensor_parallel_size to 4" in parallel.remedy


def test_more_gpus_than_there_are() -> None:
    findings, numbers = checked(
        config=config(), weight_bytes=GIB, gpu_memory_mib=[16311], tensor_parallel_size=2, count=1
    )
    assert findings["model.parallel"].severity == "blocking" and numbers["fits"] is False
    assert "needs 2 GPUs, and there are 1" in findings["model.parallel"].why
    findings, _numbers = checked(
        config=config(), weight_bytes=GIB, gpu_memory_mib=[16311] * 64, pipeline_parallel_size=64
    )
    assert "the model has 32" in findings["model.parallel"].why


def test_context_beyond_the_model() -> None:
    findings, numbers = checked(config=config(), weight_bytes=GIB, gpu_memory_mib=[65536], max_model_len=8193)
    assert findings["model.context"].severity == "blocking" and numbers["fits"] is False
    assert (
        "greater than the derived max_model_len (max_position_embeddings=8192)"
        in findings["model.context"].why
    )
    nameless = config()
    del nameless["max_position_embeddings"]
    findings, numbers = checked(config=nameless, weight_bytes=GIB, gpu_memory_mib=[65536])
    assert findings["model.context"].unknown and numbers["max_model_len"] == 2048


@pytest.mark.parametrize(
    ("method", "wanted", "severity"),
    [
        (None, "awq", "blocking"),
        (None, "gptq", "blocking"),
        (None, "fp8", "ok"),
        (None, "bitsandbytes", "ok"),
        ("awq", "awq", "ok"),
        ("awq", "fp8", "blocking"),
    ],
)
def test_quantisation_and_checkpoint(method: str | None, wanted: str, severity: str) -> None:
    shape = config(quantization_config={"quant_method": method}) if method else config()
    findings, numbers = checked(
        config=shape, weight_bytes=4 * GIB, gpu_memory_mib=[65536], quantization=wanted
    )
    assert findings["model.quantization"].severity == severity
    assert numbers["fits"] is (severity == "ok")


@pytest.mark.parametrize(
    ("wanted", "share"), [("none", 1.0), ("fp8", 0.5), ("bitsandbytes", 0.28), ("awq", 0.26)]
)
def test_quantised_weights(wanted: str, share: float) -> None:
    """Embedding and output stay as they are, every other weight takes its share."""
    numbers = checked(config=config(), weight_bytes=16 * GIB, quantization=wanted)[1]
    fixed = 2 * 32000 * 4096 * 2
    assert numbers["weight_bytes_per_gpu"] == pytest.approx(fixed + (16 * GIB - fixed) * share, rel=0.01)
    assert numbers["weight_bytes"] == 16 * GIB


def test_memory_that_is_not_given() -> None:
    findings, numbers = checked(config=config(), weight_bytes=GIB)
    assert findings["model.memory"].unknown and numbers["fits"] is None
    assert numbers["kv_tokens"] is None and numbers["kv_bytes_per_token"] == 131072
    assert verdict(findings.values()) == "deviations"


def test_share_that_leaves_no_room_for_the_context() -> None:
    given: dict[str, Any] = {"config": config(), "weight_bytes": GIB, "gpu_memory_mib": [16311]}
    findings, _numbers = checked(gpu_memory_utilization=0.99, **given)
    share = findings["model.utilization"]
    assert share.severity == "deviation" and share.remedy == "Lower gpu_memory_utilization to 0.97."
    assert "model.utilization" not in checked(gpu_memory_utilization=0.97, **given)[0]


def test_the_smallest_gpu_counts() -> None:
    given: dict[str, Any] = {"config": config(), "weight_bytes": 4 * GIB, "tensor_parallel_size": 2}
    mixed = checked(gpu_memory_mib=[24576, 12288], **given)[1]
    assert mixed["kv_tokens"] == checked(gpu_memory_mib=[12288, 12288], **given)[1]["kv_tokens"]


def test_wanted_concurrency() -> None:
    given: dict[str, Any] = {
        "config": config(),
        "weight_bytes": 4 * GIB,
        "gpu_memory_mib": [16311],
        "max_model_len": 8192,
    }
    enough = checked(concurrency=2, **given)[0]["model.concurrency"]
    less = checked(concurrency=500, **given)[0]["model.concurrency"]
    assert enough.severity == "ok" and less.severity == "deviation"
    assert "max_model_len" in less.remedy


def test_estimated_weights_are_told() -> None:
    findings, numbers = checked(config=config(), gpu_memory_mib=[65536])
    assert findings["model.weights"].unknown and numbers["weights_known"] is False
    assert numbers["model"]["parameters"] == pytest.approx(7.24e9, rel=0.01)
    phi = PUBLISHED["phi-3-mini-4k-instruct"]
    assert checked(config=phi["config"])[1]["weight_bytes"] == phi["weight_bytes"]
    mixtral = PUBLISHED["Nous-Hermes-2-Mixtral-8x7B-DPO"]
    assert checked(config=mixtral["config"])[1]["weight_bytes"] == mixtral["weight_bytes"]


def test_reserve_can_be_given() -> None:
    given: dict[str, Any] = {"config": config(), "weight_bytes": 4 * GIB, "gpu_memory_mib": [16384]}
    numbers = checked(activation_mib=100, overhead_mib=200, gpu_memory_utilization=0.5, **given)[1]
    assert numbers["kv_cache_bytes_per_gpu"] == 8 * GIB - 4 * GIB - 300 * MIB
    eager = checked(enforce_eager=True, **given)[1]
    assert checked(**given)[1]["overhead_bytes"] - eager["overhead_bytes"] == 512 * MIB


def test_model_in_a_directory(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps(config(vocab_size=512, hidden_size=256, num_hidden_layers=2, num_attention_heads=4))
    )
    stored = write_weights(str(tmp_path / "model.safetensors"), TENSORS)
    findings, numbers = checked(path=str(tmp_path), gpu_memory_mib=[1024])
    assert numbers["weight_bytes"] == stored and numbers["weights_known"] is True
    assert findings["model.weights"].subject == tmp_path.name
    assert f"{len(TENSORS)} tensors in 1 files" in str(findings["model.weights"].found)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot read"),
        ("{", "is no JSON"),
        ("[]", "holds no object"),
        ('{"model_type": "bert-ish"}', "no hidden_size"),
        ('{"hidden_size": "large"}', "hidden_size: 'large' is no whole number"),
        ('{"hidden_size": 0}', "hidden_size: 0 is not above 0"),
    ],
)
def test_configuration_that_is_none(tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    findings, numbers = checked(path=str(tmp_path), gpu_memory_mib=[1024])
    told = findings["model.config"]
    assert told.unknown and told.severity == "blocking" and said in str(told.found)
    assert numbers["fits"] is None and numbers["weight_bytes"] is None
    assert verdict(findings.values()) == "unknown"


def test_any_configuration_is_answered() -> None:
    """Whatever stands in the configuration, there are findings and no exception."""
    chance = random.Random(20260101)
    strange = [None, 0, -1, 1, 3, 7.5, 10**12, "x", "", [], [0], ["mamba"], {}, {"factor": None}, True]
    every = {
        "layer_types",
        "sliding_window",
        "head_dim",
        "rope_scaling",
        "quantization_config",
        "kv_lora_rank",
    }
    every |= {"text_config", "attn_layer_indices", "linear_num_value_heads", "n_routed_experts"}
    every |= set(config())
    types = ["llama", "gemma3", "qwen2", "deepseek_v2", "llama4", "bamba", "mistral", "falcon"]
    for _round in range(2000):
        shape = config(model_type=chance.choice(types))
        for key in chance.sample(sorted(every), 3):
            shape[key] = chance.choice(strange)
        findings, numbers = checked(config=shape, gpu_memory_mib=[16311, 16311], weight_bytes=GIB)
        assert findings and (numbers["fits"] is not None or any(one.unknown for one in findings.values()))


def test_weights_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config()))
    findings, numbers = checked(path=str(tmp_path), gpu_memory_mib=[1024])
    assert findings["model.weights"].unknown and "has no safetensors file" in str(
        findings["model.weights"].found
    )
    assert numbers["fits"] is None and numbers["model"]["heads"] == 32
    assert checked(path=str(tmp_path), weight_bytes=GIB, gpu_memory_mib=[65536])[1]["fits"] is True


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "one of path and config"),
        ({"path": "/m", "config": {}}, "one of path and config"),
        ({"path": "/m", "tensor_parallel_size": 0}, "tensor_parallel_size: 0 is not above 0"),
        ({"path": "/m", "max_model_len": -1}, "max_model_len: -1"),
        ({"path": "/m", "gpu_memory_utilization": 1.2}, "gpu_memory_utilization: 1.2"),
        ({"path": "/m", "gpu_memory_mib": [1, 2], "count": 3}, "2 values for count 3"),
        ({"path": "/m", "gpu_memory_mib": [0]}, "gpu_memory_mib"),
        ({"path": "/m", "overhead_mib": -5}, "overhead_mib: -5 is below 0"),
        ({"path": "/m", "gpu_memory_mib": [1], "count": 2}, ""),
    ],
)
def test_options_that_cannot_be(given: dict[str, Any], said: str) -> None:
    problem = model_fit_problem(options(**given))
    assert said in problem if said else problem == ""

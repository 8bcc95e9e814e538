"""The KV cache that `model_fit` works out is the one that the real engine makes.

First the engine that serves, then tiny models with random weights, one start of an engine for each, in the
environment that the host has anyway.
"""

from __future__ import annotations

import base64
import json
import re
import struct
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from conftest import CACHE, INVENTORY, MODEL, ROOT
from testinfra.host import Host

from ansible_collections.citadel.llm.plugins.module_utils import _model_fit, _model_fit_arguments
from ansible_collections.citadel.llm.plugins.module_utils._preflight_models import deployed, read
from ansible_collections.citadel.llm.plugins.module_utils._preflight_sections import MODEL_HERE

DRIVER = ROOT / "molecule/default/files/engine_models.py"
MIB = 1024 * 1024
TOLERANCE = 0.03
PRINTED = re.compile(r"KV cache size: ([\d,]+) tokens, Maximum concurrency[^:]*: ([\d.]+)x")
BASE = {
    "vocab_size": 512,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 4096,
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": True,
}


class Case(NamedTuple):
    """A model, and settings that differ from the usual."""

    config: dict[str, Any]
    engine: dict[str, Any] = {}  # noqa: RUF012
    block_size: int = 128


CASES = {
    "llama-gqa": Case({"model_type": "llama"}),
    "llama-mha-float32": Case(
        {"model_type": "llama", "num_key_value_heads": 4}, {"dtype": "float32", "max_model_len": 1000}
    ),
    "qwen3": Case({"model_type": "qwen3", "num_key_value_heads": 1, "num_hidden_layers": 3}),
    "mixtral-moe": Case({"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}),
    "mistral-sliding": Case({"model_type": "mistral", "sliding_window": 512}),
    "gemma3-mixed": Case(
        {
            "model_type": "gemma3_text",
            "num_hidden_layers": 8,
            "sliding_window": 256,
            "query_pre_attn_scalar": 64,
        },
        {"max_num_batched_tokens": 512},
    ),
    "deepseek-v2-latent": Case(
        {
            "model_type": "deepseek_v2",
            "num_key_value_heads": 4,
            "kv_lora_rank": 512,
            "q_lora_rank": None,
            "qk_rope_head_dim": 64,
            "qk_nope_head_dim": 128,
            "v_head_dim": 128,
            "head_dim": 64,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "n_shared_experts": 1,
            "moe_intermediate_size": 128,
            "first_k_dense_replace": 1,
            "n_group": 1,
            "topk_group": 1,
            "topk_method": "greedy",
        },
        block_size=16,
    ),
    "qwen3-next-states": Case(
        {
            "model_type": "qwen3_next",
            "num_hidden_layers": 8,
            "linear_num_value_heads": 8,
            "linear_num_key_heads": 4,
            "linear_key_head_dim": 128,
            "linear_value_head_dim": 128,
            "linear_conv_kernel_dim": 4,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 128,
            "shared_expert_intermediate_size": 128,
        },
        {"kv_cache_memory_bytes": 256 * MIB},
    ),
}


VARIABLES = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "0",
    "VLLM_HOST_IP": "127.0.0.1",
    "HOME": "/tmp",
    "OMP_NUM_THREADS": "1",  # a child of a process with threads would wait for them
}
# Less than one request of the context takes.
TOO_LITTLE = {"max_model_len": 4096, "kv_cache_memory_bytes": 5 * MIB}


def settings(case: Case) -> dict[str, Any]:
    """The engine's settings."""
    usual = {
        "kv_cache_memory_bytes": 64 * MIB,
        "max_model_len": 2048,
        "max_num_batched_tokens": 1024,
        "max_num_seqs": 16,
    }
    return {**usual, **case.engine}


def requests() -> list[dict[str, Any]]:
    """What the driver is asked: every case, and one that cannot be."""
    cases = [
        {"name": name, "config": {**BASE, **case.config}, "engine": settings(case)}
        for name, case in CASES.items()
    ]
    refused = {"name": "refused", "engine": {**cases[0]["engine"], **TOO_LITTLE}}
    return [*cases, {**cases[0], **refused}]


def fit(**given: Any) -> dict[str, Any]:
    """What model_fit says of a CPU's engine."""
    specs = {**_model_fit_arguments.MODEL_FIT, **MODEL_HERE}
    options = {name: spec.get("default") for name, spec in specs.items()}
    options.update({"block_size": 128, "async_scheduling": False, **given})
    assert not _model_fit_arguments.model_fit_problem(options)
    return _model_fit.check(options)[1]


def number(text: str) -> int:
    return int(text.replace(",", ""))


@pytest.fixture(scope="module")
def answers(server: Host) -> dict[str, dict[str, Any]]:
    """What each engine printed, and the model that it was started with."""
    variables = " ".join(f"{name}={value}" for name, value in VARIABLES.items())
    driver = base64.b64encode(DRIVER.read_bytes()).decode()
    asked = base64.b64encode(json.dumps(requests()).encode()).decode()
    output = server.check_output(
        f"cd /tmp && echo {driver} | base64 -d > engine_models.py && echo {asked} | base64 -d | "
        f"env {variables} /opt/citadel/env/bin/python engine_models.py 2>/dev/null; rm engine_models.py"
    )
    told = [json.loads(line) for line in output.splitlines() if line.startswith('{"name"')]
    return {one["name"]: one for one in told}


def model(told: dict[str, Any], folder: Path) -> str:
    """The model's configuration and the head of its weights, without the weights."""
    head = base64.b64decode(told["head"])
    entries = json.loads(head[8 : 8 + struct.unpack("<Q", head[:8])[0]])
    content = max(one["data_offsets"][1] for name, one in entries.items() if name != "__metadata__")
    (folder / "config.json").write_text(told["config"])
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(head)
        stream.truncate(len(head) + content)
    return str(folder)


def test_the_engine_that_serves(server: Host) -> None:
    variables = yaml.safe_load((INVENTORY / "group_vars/all.yml").read_text())
    (deployment,) = variables["citadel_deployments"]
    journal = server.check_output("journalctl -u 'citadel-engine@*' -o cat --no-pager | grep 'KV cache size'")
    tokens, concurrency = PRINTED.findall(journal)[-1]
    known = {
        "deployments": [{**deployment, "accelerator": "cuda"}],
        "configs": {MODEL: read(str(CACHE / "models" / MODEL))},
    }
    (options,) = deployed(known)
    numbers = fit(**options)
    assert numbers["kv_tokens"] == pytest.approx(number(tokens), rel=TOLERANCE)
    assert numbers["max_concurrency"] == pytest.approx(float(concurrency), rel=TOLERANCE)


@pytest.mark.parametrize("name", CASES)
def test_tokens_in_the_cache(name: str, answers: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    told, case = answers[name], CASES[name]
    assert told["status"] == 0, told["output"][-4000:]
    printed = PRINTED.search(told["output"])
    weights = re.search(r"^weights: (\d+)$", told["output"], re.MULTILINE)
    assert printed and weights, told["output"][-4000:]
    numbers = fit(path=model(told, tmp_path), block_size=case.block_size, **settings(case))
    assert numbers["kv_tokens"] == pytest.approx(number(printed.group(1)), rel=TOLERANCE)
    assert numbers["max_concurrency"] == pytest.approx(float(printed.group(2)), rel=TOLERANCE)
    assert numbers["weight_bytes"] == int(weights.group(1))
    assert numbers["fits"] is True


def test_longest_context(answers: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    """What does not fit is refused, and the longest context that the engine names is the one worked out."""
    told = answers["refused"]
    assert told["status"] != 0
    named = re.search(r"estimated maximum model length is (\d+)", told["output"])
    assert named, told["output"][-4000:]
    numbers = fit(path=model(told, tmp_path), **{**settings(CASES["llama-gqa"]), **TOO_LITTLE})
    assert numbers["fits"] is False
    assert numbers["max_context"] == pytest.approx(int(named.group(1)), rel=TOLERANCE)

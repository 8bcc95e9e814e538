"""The KV cache that `model_fit` works out is the one that a real engine makes, and its page says so.

Tiny models with random weights, one start of the engine for each. `CITADEL_ENGINE_ENV` names a virtual
environment with vLLM's CPU build.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ansible_collections.citadel.llm.plugins.module_utils import _model_fit, _model_fit_arguments

ROOT = Path(__file__).resolve().parents[1]
FIXTURES = (
    ROOT / "collections/ansible_collections/citadel/llm/tests/unit/plugins/module_utils/fixtures/model_fit"
)
MIB = 1024 * 1024
GIB = 1024 * MIB
TOLERANCE = 0.03
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

# Runs in the engine's environment: makes the model, starts an engine in this process, ends with it.
DRIVER = """
import json, sys
from transformers import AutoConfig, AutoModelForCausalLM
from vllm import LLM

request = json.loads(sys.argv[1])
config = AutoConfig.for_model(**request["config"])
model = AutoModelForCausalLM.from_config(config).to(config.dtype)
model.save_pretrained(request["path"])
print("weights:", sum(one.numel() * one.element_size() for one in model.parameters()), flush=True)
del model
LLM(request["path"], skip_tokenizer_init=True, enforce_eager=True, **request["engine"])
"""


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


def start(tmp_path: Path, case: Case, **engine: Any) -> tuple[subprocess.CompletedProcess[str], Path]:
    """Make the model and start the engine; what it printed, and where the model lies."""
    environment = os.environ.get("CITADEL_ENGINE_ENV")
    if not environment:
        pytest.skip("CITADEL_ENGINE_ENV names no virtual environment with vLLM")
    model = tmp_path / "model"
    request = {"config": {**BASE, **case.config}, "path": str(model), "engine": engine}
    variables = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_OMP_THREADS_BIND": "0",
        "VLLM_HOST_IP": "127.0.0.1",
    }
    command = [f"{environment}/bin/python", "-c", DRIVER, json.dumps(request)]
    done = subprocess.run(
        command, env=variables, capture_output=True, text=True, check=False, timeout=300, cwd=tmp_path
    )
    return done, model


def settings(case: Case) -> dict[str, Any]:
    """The engine's settings."""
    usual = {
        "kv_cache_memory_bytes": 64 * MIB,
        "max_model_len": 2048,
        "max_num_batched_tokens": 1024,
        "max_num_seqs": 16,
    }
    return {**usual, **case.engine}


def answer(**given: Any) -> dict[str, Any]:
    """What model_fit says."""
    options = {name: spec.get("default") for name, spec in _model_fit_arguments.MODEL_FIT.items()}
    options.update(given)
    assert not _model_fit_arguments.model_fit_problem(options)
    return _model_fit.check(options)[1]


def worked_out(model: Path, case: Case, **engine: Any) -> dict[str, Any]:
    """What model_fit says for the engine's settings."""
    return answer(path=str(model), block_size=case.block_size, async_scheduling=False, **engine)


def row(name: str, model: dict[str, Any], gpus: int) -> str:
    """A line of the page's table of worked examples."""
    given = {
        "config": model["config"],
        "weight_bytes": model["weight_bytes"],
        "gpu_memory_mib": [16311, 16311],
    }
    numbers = answer(tensor_parallel_size=gpus, **given)
    cells = [
        name,
        str(gpus),
        f"{numbers['weight_bytes_per_gpu'] / GIB:.2f} GiB",
        f"{numbers['kv_bytes_per_token'] // 1024} KiB",
        f"{numbers['max_model_len']}",
    ]
    if numbers["fits"]:
        cells += ["yes", f"{numbers['kv_tokens']}", f"{numbers['max_concurrency']:.1f}", ""]
    else:
        change = ", ".join(f"`{option}` {value}" for option, value in numbers["change"].items())
        cells += ["no", "", "", change]
    return "| " + " | ".join(cells) + " |"


def test_worked_examples_of_the_page() -> None:
    page = (ROOT / "docs/model-fit.md").read_text()
    for name, model in json.loads((FIXTURES / "models.json").read_text()).items():
        for gpus in (1, 2):
            assert row(name, model, gpus) in page.splitlines()


@pytest.mark.engine
@pytest.mark.parametrize("name", CASES)
def test_tokens_in_the_cache(
    name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    case = CASES[name]
    engine = settings(case)
    done, model = start(tmp_path, case, **engine)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-4000:]
    printed = re.search(r"KV cache size: ([\d,]+) tokens, Maximum concurrency[^:]*: ([\d.]+)x", output)
    weights = re.search(r"^weights: (\d+)$", output, re.MULTILINE)
    assert printed and weights, output[-4000:]
    numbers = worked_out(model, case, **engine)
    tokens = int(printed.group(1).replace(",", ""))
    record_property("tokens", {"engine": tokens, "worked out": numbers["kv_tokens"]})
    assert numbers["kv_tokens"] == pytest.approx(tokens, rel=TOLERANCE)
    assert numbers["max_concurrency"] == pytest.approx(float(printed.group(2)), rel=TOLERANCE)
    assert numbers["weight_bytes"] == int(weights.group(1))
    assert numbers["fits"] is True


@pytest.mark.engine
def test_longest_context(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """What does not fit is refused, and the longest context that the engine names is the one worked out."""
    case = CASES["llama-gqa"]
    engine = {**settings(case), "max_model_len": 4096, "kv_cache_memory_bytes": 5 * MIB}
    done, model = start(tmp_path, case, **engine)
    assert done.returncode != 0
    named = re.search(r"estimated maximum model length is (\d+)", done.stdout + done.stderr)
    assert named, (done.stdout + done.stderr)[-4000:]
    numbers = worked_out(model, case, **engine)
    record_property("context", {"engine": int(named.group(1)), "worked out": numbers["max_context"]})
    assert numbers["fits"] is False
    assert numbers["max_context"] == pytest.approx(int(named.group(1)), rel=TOLERANCE)

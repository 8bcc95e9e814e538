# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.citadel.llm.plugins.module_utils import _model_fit_config as configuration
from ansible_collections.citadel.llm.plugins.module_utils import _model_fit_kv as kv
from ansible_collections.citadel.llm.plugins.module_utils._model_fit_layers import (
    CHUNKED,
    FULL,
    NONE,
    SLIDING,
    STATE,
)
from ansible_collections.citadel.llm.tests.unit.plugins.module_utils.model_fit_testing import checked, config

CACHE = kv.Cache(
    tensor_parallel=1,
    element=2,
    model_element=2,
    block_size=16,
    in_flight=2048,
    state_blocks=2,
    latent=False,
)


def kinds(**changed: Any) -> list[str]:
    return [layer.kind for layer in configuration.read(config(**changed)).layers]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, [FULL] * 4),
        ({"model_type": "mistral", "sliding_window": 4096}, [SLIDING] * 4),
        ({"model_type": "mistral"}, [SLIDING] * 4),
        ({"model_type": "mistral", "sliding_window": None}, [FULL] * 4),
        ({"model_type": "phi3", "sliding_window": 2047}, [SLIDING] * 4),
        ({"model_type": "gemma2"}, [SLIDING, FULL] * 2),
        ({"model_type": "gemma3_text", "sliding_window_pattern": 4}, [SLIDING] * 3 + [FULL]),
        ({"model_type": "cohere2"}, [SLIDING] * 3 + [FULL]),
        ({"model_type": "gpt_oss"}, [SLIDING, FULL] * 2),
        ({"model_type": "qwen2", "sliding_window": 4096}, [FULL] * 4),
        (
            {
                "model_type": "qwen2",
                "sliding_window": 4096,
                "use_sliding_window": True,
                "max_window_layers": 2,
            },
            [FULL] * 2 + [SLIDING] * 2,
        ),
        ({"model_type": "llama4_text", "attention_chunk_size": 8192}, [CHUNKED] * 3 + [FULL]),
        (
            {"layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": 128},
            [SLIDING, FULL] * 2,
        ),
        ({"model_type": "bamba", "attn_layer_indices": [2]}, [STATE, STATE, FULL, STATE]),
        ({"model_type": "nemotron_h", "hybrid_override_pattern": "M-*E"}, [STATE, NONE, FULL, NONE]),
        ({"model_type": "qwen3_next", "linear_num_value_heads": 32}, [STATE] * 3 + [FULL]),
        ({"layers_block_type": ["mamba", "attention"] * 2}, [STATE, FULL] * 2),
    ],
)
def test_kinds_of_layers(changed: dict[str, Any], expected: list[str]) -> None:
    assert kinds(num_hidden_layers=4, **changed) == expected


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, 2 * 32 * 8 * 128 * 2),
        ({"num_key_value_heads": None}, 2 * 32 * 32 * 128 * 2),
        ({"head_dim": 64}, 2 * 32 * 8 * 64 * 2),
        ({"multi_query": True}, 2 * 32 * 128 * 2),
        ({"attn_config": {"kv_n_heads": 4}}, 2 * 32 * 4 * 128 * 2),
        ({"num_local_experts": 8, "num_experts_per_tok": 2}, 2 * 32 * 8 * 128 * 2),
        (
            {"model_type": "deepseek_v3", "kv_lora_rank": 512, "qk_rope_head_dim": 64},
            32 * 576 * 2,
        ),
        ({"torch_dtype": "float16"}, 2 * 32 * 8 * 128 * 2),
    ],
)
def test_bytes_of_a_token(changed: dict[str, Any], expected: int) -> None:
    numbers = checked(config=config(**changed), weight_bytes=10**9)[1]
    assert numbers["kv_bytes_per_token"] == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"dtype": "float32"}, 2.0),
        ({"kv_cache_dtype": "fp8"}, 0.5),
        ({"dtype": "float32", "kv_cache_dtype": "bfloat16"}, 1.0),
        ({"tensor_parallel_size": 2}, 0.5),
        ({"tensor_parallel_size": 16}, 0.125),
        ({"pipeline_parallel_size": 2}, 0.5),
        ({"pipeline_parallel_size": 3}, 11 / 32),
    ],
)
def test_bytes_of_a_token_on_a_gpu(given: dict[str, Any], expected: float) -> None:
    numbers = checked(config=config(), weight_bytes=10**9, count=16, **given)[1]
    assert numbers["kv_bytes_per_token_per_gpu"] == 131072 * expected


def test_latent_attention_is_not_divided() -> None:
    shape = config(model_type="deepseek_v2", kv_lora_rank=512, qk_rope_head_dim=64)
    numbers = checked(config=shape, weight_bytes=10**9, tensor_parallel_size=4)[1]
    assert numbers["kv_bytes_per_token_per_gpu"] == numbers["kv_bytes_per_token"]


def test_an_eight_bit_cache_that_the_checkpoint_asks_for() -> None:
    shape = config(quantization_config={"quant_method": "modelopt", "kv_cache_quant_algo": "FP8"})
    assert checked(config=shape, weight_bytes=10**9)[1]["kv_bytes_per_token"] == 65536


def test_groups_of_equally_many_layers() -> None:
    """Six layers with a window and two without: four groups of two layers share the blocks."""
    shape = config(
        model_type="gemma3_text", num_hidden_layers=8, sliding_window_pattern=4, sliding_window=512
    )
    found = kv.groups(configuration.read(shape).layers, CACHE)
    assert [len(group.layers) for group in found] == [2, 2, 2, 2]
    assert kv.bytes_per_block(found, range(8)) == 2 * 16 * 2 * 8 * 128 * 2
    window = -(-(512 - 1 + 2048) // 16) + 1
    assert kv.request_blocks(found, 8192, CACHE) == 3 * window + 8192 // 16


@pytest.mark.parametrize(
    ("full", "sliding", "expected"), [(3, 4, [3, 4]), (2, 4, [2, 2, 2]), (2, 5, [2, 2, 2, 1])]
)
def test_size_of_the_groups(full: int, sliding: int, expected: list[int]) -> None:
    """As many layers as the rarest kind has, or the commonest where it is less than half as many again."""
    shape = config(num_hidden_layers=full + sliding, sliding_window=512)
    shape["layer_types"] = ["full_attention"] * full + ["sliding_attention"] * sliding
    found = kv.groups(configuration.read(shape).layers, CACHE)
    assert [len(group.layers) for group in found] == expected


def test_a_window_alone_costs_one_block_more() -> None:
    shape = config(model_type="mistral", sliding_window=1024)
    found = kv.groups(configuration.read(shape).layers, CACHE._replace(in_flight=64))
    assert len(found) == 1
    assert kv.request_blocks(found, 100000, CACHE._replace(in_flight=64)) == -(-(1023 + 64) // 16) + 1
    assert kv.longest(found, 1000, 100000, CACHE._replace(in_flight=64)) == 100000
    assert kv.longest(found, 10, 100000, CACHE._replace(in_flight=64)) == 9 * 16
    assert kv.longest(found, 1, 100000, CACHE) == 0


def test_heads_of_two_sizes_share_one_group() -> None:
    layers = configuration.read(config(num_hidden_layers=4)).layers
    mixed = [layers[0], layers[1]._replace(width=512), layers[2], layers[3]]
    found = kv.groups(mixed, CACHE)
    assert len(found) == 1 and kv.bytes_per_block(found, range(4)) == 16 * 8 * 2 * (3 * 256 + 512)


def test_layers_with_states() -> None:
    """A page of attention grows until a state fits into it; states cost two blocks for each group."""
    shape = config(
        model_type="qwen3_next",
        num_hidden_layers=8,
        num_key_value_heads=2,
        head_dim=256,
        linear_num_value_heads=32,
        linear_num_key_heads=16,
        linear_key_head_dim=128,
        linear_value_head_dim=128,
        linear_conv_kernel_dim=4,
    )
    model = configuration.read(shape)
    state = (2 * 16 * 128 + 32 * 128) * 3 * 2 + 32 * 128 * 128 * 2
    assert kv.state_bytes(model.layers[0], CACHE) == state and not model.unknown
    found = kv.groups(model.layers, CACHE)
    block = next(group.spec.block_size for group in found if group.spec.kind == FULL)
    token = 2 * 2 * 256 * 2
    assert block % 16 == 0 and block * token >= state > (block - 16) * token
    assert len(found) == 4 and kv.request_blocks(found, block * 3, CACHE) == 3 + 3 * 2
    wide = configuration.read(dict(shape, mamba_ssm_dtype="float32"))
    assert kv.state_bytes(wide.layers[0], CACHE) == state + 32 * 128 * 128 * 2
    numbers = checked(config=shape, weight_bytes=10**9)[1]
    assert numbers["state_bytes_per_request"] == 2 * 6 * state
    assert numbers["kv_bytes_per_token"] == 2 * token


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"model_type": "jamba"}, "states are not counted"),
        ({"model_type": "bamba", "attn_layer_indices": [0]}, "size of the layers' states is not known"),
        ({"model_type": "deepseek_v32", "index_head_dim": 128}, "index of its own"),
        ({"layer_types": ["quantum"] * 32}, "quantum"),
        ({"is_encoder_decoder": True}, "cross attention"),
    ],
)
def test_what_is_not_understood_is_told(changed: dict[str, Any], said: str) -> None:
    findings, _numbers = checked(config=config(**changed), weight_bytes=10**9, gpu_memory_mib=[65536])
    told = findings["model.architecture"]
    assert told.unknown and told.severity == "deviation" and said in told.found


@pytest.mark.parametrize(
    ("count", "stages", "expected"),
    [(32, 1, [32]), (32, 2, [16, 16]), (33, 2, [17, 16]), (33, 4, [8, 8, 9, 8]), (35, 4, [9, 9, 9, 8])],
)
def test_layers_of_a_pipeline(count: int, stages: int, expected: list[int]) -> None:
    found = kv.stages(count, stages)
    assert [len(one) for one in found] == expected
    assert [number for one in found for number in one] == list(range(count))


@pytest.mark.parametrize(
    ("changed", "length", "default"),
    [
        ({}, 8192, 8192),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, 32768, 32768),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 8192, 8192),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, 8192, 8192),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, 16384, 16384),
        (
            {"rope_scaling": {"type": "longrope"}, "original_max_position_embeddings": 4096},
            8192,
            4096,
        ),
        ({"seq_length": 2048}, 2048, 2048),
    ],
)
def test_longest_context(changed: dict[str, Any], length: int, default: int) -> None:
    model = configuration.read(config(**changed))
    assert (model.max_length, model.default_length) == (length, default)


def test_a_model_nested_in_another() -> None:
    outer = {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "dtype": "bfloat16"}
    inner = config(model_type="gemma3_text")
    del inner["architectures"], inner["torch_dtype"]
    model = configuration.read(dict(outer, text_config=inner))
    assert model.model_type == "gemma3_text" and model.dtype == "bfloat16"
    assert model.architectures == ("Gemma3ForConditionalGeneration",)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"model_type": "phi", "num_key_value_heads": 32}, 32 * (4 + 2 * 3.5)),
        ({"num_key_value_heads": 32, "tie_word_embeddings": True}, None),
    ],
)
def test_number_of_weights(changed: dict[str, Any], expected: float | None) -> None:
    shape = config(**changed)
    model = configuration.read(shape)
    matrices = 2 * 32000 * 4096 if expected else 32000 * 4096
    per_layer = (expected / 32 if expected else 4 + 3 * 3.5) * 4096 * 4096
    assert model.parameters == pytest.approx(matrices + 32 * per_layer, rel=0.001)

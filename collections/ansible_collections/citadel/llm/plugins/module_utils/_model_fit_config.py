# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a model's config.json says of its shape: layers, attention, length, numbers of weights."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from ansible_collections.citadel.llm.plugins.module_utils import _model_fit_layers as layer_kinds
from ansible_collections.citadel.llm.plugins.module_utils._model_fit_layers import Layer

Config = Dict[str, Any]

ELEMENT_BYTES = {"float16": 2, "half": 2, "bfloat16": 2, "float32": 4, "float": 4, "float64": 8}

# Model types whose attention keeps one compressed vector per token (multi-head latent attention) when
# kv_lora_rank is set.
_LATENT = frozenset(
    """
    axk1 deepseek_v2 deepseek_v3 deepseek_v32 dots3_note glm4_moe_lite glm_moe_dsa kimi_k2 kimi_linear
    longcat_flash pangu_ultra_moe
    """.split()
)
_NESTED = ("text_config", "llm_config", "language_config", "thinker_config")
_LENGTHS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
# Kinds of position scaling whose max_position_embeddings is the scaled length already.
_SCALED = ("default", "su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling", "mrope")
_UNGATED = frozenset("phi phi-msft imp gpt2 gpt_neox opt falcon bloom mpt starcoder2 gpt_bigcode".split())


_MOST_LAYERS = 10_000


class ConfigError(Exception):
    """The configuration lacks something or says something impossible. The message names the key."""


class Model(NamedTuple):
    """A model's shape. Heads are those of the whole model, lengths are tokens."""

    architectures: Tuple[str, ...]
    model_type: str
    hidden: int
    vocabulary: int
    heads: int
    kv_heads: int
    head_size: int
    intermediate: int
    experts: int
    experts_per_token: int
    latent: bool
    layers: Tuple[Layer, ...]
    max_length: Optional[int]
    length_key: str
    default_length: Optional[int]
    dtype: Optional[str]
    quantization: Optional[str]
    kv_scheme: bool
    tied: bool
    parameters: Optional[int]
    unknown: Tuple[str, ...]


def text_of(config: Config) -> Config:
    """The part that describes the language model: the whole, or what a multimodal model nests."""
    for key in _NESTED:
        nested = config.get(key)
        if isinstance(nested, dict):
            outer = {name: value for name, value in config.items() if name in ("dtype", "torch_dtype")}
            return {**outer, **text_of(nested)}
    return config


def read(config: Config) -> Model:
    """The model's shape. Raises ConfigError."""
    try:
        return _read(config, text_of(config))
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError) as error:
        raise ConfigError("the configuration has a value of the wrong kind: %s" % error) from error


def _read(config: Config, text: Config) -> Model:
    hidden = _whole(text, "hidden_size", "n_embd", "d_model")
    heads = _whole(text, "num_attention_heads", "n_head", "n_heads", "num_heads")
    count = _whole(text, "num_hidden_layers", "n_layer", "n_layers", "num_layers")
    if count > _MOST_LAYERS:
        raise ConfigError("num_hidden_layers: %d is more than any model has" % count)
    model_type = str(text.get("model_type") or config.get("model_type") or "")
    latent = model_type in _LATENT and text.get("kv_lora_rank") is not None
    kv_heads = _kv_heads(text, heads)
    head_size = _optional(text, "head_dim", "hidden_size_per_head", "kv_channels") or hidden // heads
    if min(kv_heads, head_size) <= 0:
        raise ConfigError("%d KV heads of size %d cannot be" % (kv_heads, head_size))
    unknown: List[str] = []
    layers = layer_kinds.read(text, model_type, count, _attention(text, latent, kv_heads, head_size), unknown)
    length, key = _length(text)
    model = Model(
        architectures=tuple(str(name) for name in config.get("architectures") or ()),
        model_type=model_type,
        hidden=hidden,
        vocabulary=_optional(text, "vocab_size") or _optional(config, "vocab_size") or 0,
        heads=heads,
        kv_heads=kv_heads,
        head_size=head_size,
        intermediate=_intermediate(text, hidden),
        experts=_optional(text, "num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts")
        or 0,
        experts_per_token=_optional(text, "num_experts_per_tok", "top_k_experts", "moe_topk") or 0,
        latent=latent,
        layers=tuple(layers),
        max_length=length,
        length_key=key,
        default_length=_default_length(text, length),
        dtype=_dtype(text, config),
        quantization=_quantization(config, text),
        kv_scheme=_has_kv_scheme(config, text),
        tied=bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", False))),
        parameters=None,
        unknown=tuple(unknown),
    )
    return model._replace(parameters=_parameters(text, model))


def _whole(text: Config, *names: str) -> int:
    value = _optional(text, *names)
    if value is None:
        raise ConfigError("the configuration has no %s" % names[0])
    if value <= 0:
        raise ConfigError("%s: %s is not above 0" % (names[0], value))
    return value


def _optional(text: Config, *names: str) -> Optional[int]:
    """The first of these keys that is set. Raises ConfigError for what is no whole number."""
    for name in names:
        value = text.get(name)
        if isinstance(value, list) and value:
            value = value[0]
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value):
            raise ConfigError("%s: %r is no whole number" % (name, value))
        return int(value)
    return None


def _kv_heads(text: Config, heads: int) -> int:
    nested = text.get("attn_config")
    if isinstance(nested, dict) and nested.get("kv_n_heads"):
        return int(nested["kv_n_heads"])
    if text.get("multi_query") and not text.get("new_decoder_architecture"):
        return 1
    named = (
        "n_head_kv",
        "num_kv_heads",
        "num_key_value_heads",
        "multi_query_group_num",
        "num_attention_groups",
    )
    return _optional(text, *named) or heads


def _attention(text: Config, latent: bool, kv_heads: int, head_size: int) -> Layer:
    """A layer of full attention."""
    if latent:
        width = _whole(text, "kv_lora_rank") + (_optional(text, "qk_rope_head_dim") or 0)
        return Layer(layer_kinds.FULL, kv_heads=1, width=width)
    value = _optional(text, "v_head_dim") or head_size
    return Layer(layer_kinds.FULL, kv_heads=kv_heads, width=head_size + value)


def _length(text: Config) -> Tuple[Optional[int], str]:
    """The longest context that the configuration allows, and the key that says so."""
    found = [(value, name) for name in _LENGTHS if (value := _optional(text, name)) is not None]
    if not found:
        return None, ""
    length, key = min(found)
    scaling = text.get("rope_scaling") or text.get("rope_parameters")
    if not isinstance(scaling, dict) or "gemma3" in str(text.get("model_type")):
        return length, key
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    factor = scaling.get("factor")
    if kind in _SCALED or not isinstance(factor, (int, float)) or isinstance(factor, bool):
        return length, key
    return int(length * factor), key


def _default_length(text: Config, length: Optional[int]) -> Optional[int]:
    """What the engine takes without max_model_len."""
    scaling = text.get("rope_scaling") or text.get("rope_parameters")
    if isinstance(scaling, dict) and (scaling.get("rope_type") or scaling.get("type")) in ("longrope", "su"):
        return _optional(text, "original_max_position_embeddings") or length
    return length


def _dtype(text: Config, config: Config) -> Optional[str]:
    for source in (config, text):
        for key in ("dtype", "torch_dtype"):
            if isinstance(source.get(key), str):
                return str(source[key]).replace("torch.", "")
    return None


def _quantization(config: Config, text: Config) -> Optional[str]:
    found = config.get("quantization_config") or text.get("quantization_config")
    found = found or config.get("compression_config")
    if not isinstance(found, dict):
        return None
    method = str(found.get("quant_method") or "").lower().replace("compressed_tensors", "compressed-tensors")
    return method or "unnamed"


def _has_kv_scheme(config: Config, text: Config) -> bool:
    """Whether the checkpoint itself asks for an 8-bit KV cache, which the engine follows for modelopt."""
    found = config.get("quantization_config") or text.get("quantization_config")
    if not isinstance(found, dict) or not str(found.get("quant_method", "")).startswith("modelopt"):
        return False
    inner = found.get("quantization")
    sources = (inner if isinstance(inner, dict) else found, found)
    return any(one.get("kv_cache_scheme") or one.get("kv_cache_quant_algo") for one in sources)


def _intermediate(text: Config, hidden: int) -> int:
    names = ("intermediate_size", "n_inner", "ffn_hidden_size", "ffn_dim", "moe_intermediate_size")
    return _optional(text, *names) or 4 * hidden


def _parameters(text: Config, model: Model) -> Optional[int]:
    """The number of weights by the usual formulas, None for layers that have others."""
    if not model.vocabulary or any(layer.kind == layer_kinds.STATE for layer in model.layers):
        return None
    attention = _attention_parameters(text, model)
    total = model.vocabulary * model.hidden * (1 if model.tied else 2)
    for number in range(len(model.layers)):
        total += attention + _mlp_parameters(text, model, number) + 2 * model.hidden
    return total + model.hidden


def _attention_parameters(text: Config, model: Model) -> int:
    hidden, heads = model.hidden, model.heads
    if not model.latent:
        return hidden * model.head_size * (2 * heads + 2 * model.kv_heads)
    rope, rank = _optional(text, "qk_rope_head_dim") or 0, _whole(text, "kv_lora_rank")
    content = _optional(text, "qk_nope_head_dim") or model.head_size
    value = _optional(text, "v_head_dim") or model.head_size
    query_rank = _optional(text, "q_lora_rank")
    query = heads * (content + rope)
    total = hidden * query_rank + query_rank * query if query_rank else hidden * query
    return total + hidden * (rank + rope) + rank * heads * (content + value) + heads * value * hidden


def _mlp_parameters(text: Config, model: Model, number: int) -> int:
    matrices = 2 if model.model_type in _UNGATED else 3
    dense = number < (_optional(text, "first_k_dense_replace") or 0)
    if not model.experts or dense or number in (text.get("mlp_only_layers") or ()):
        return matrices * model.hidden * model.intermediate
    width = _optional(text, "moe_intermediate_size") or model.intermediate
    shared = (_optional(text, "n_shared_experts") or 0) * width
    shared += _optional(text, "shared_expert_intermediate_size") or 0
    return 3 * model.hidden * (model.experts * width + shared) + model.experts * model.hidden

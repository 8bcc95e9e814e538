# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which layers of a model keep what for a token: full attention, a sliding window, a chunk, or a state."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

Config = Dict[str, Any]

FULL = "full"
SLIDING = "sliding"
CHUNKED = "chunked"
STATE = "state"
NONE = "none"

_KINDS = {
    "full_attention": FULL,
    "attention": FULL,
    "sliding_attention": SLIDING,
    "chunked_attention": CHUNKED,
    "linear_attention": STATE,
    "mamba": STATE,
    "mamba2": STATE,
    "mlp": NONE,
    "moe": NONE,
}
_PATTERN = {"*": "attention", "M": "mamba", "-": "mlp", "E": "moe"}  # Nemotron-H


class State(NamedTuple):
    """What a layer keeps for a request whatever its length, in elements: of the engine's dtype, and of
    ``dtype`` (None: the engine's)."""

    convolution: int
    recurrent: int
    dtype: Optional[str]


class Layer(NamedTuple):
    """What a decoder layer keeps. ``width`` is key and value of one head, in elements."""

    kind: str
    kv_heads: int = 0
    width: int = 0
    window: int = 0
    state: Optional[State] = None


def read(text: Config, model_type: str, count: int, full: Layer, unknown: List[str]) -> List[Layer]:
    """One entry for each layer. What cannot be told is appended to ``unknown``."""
    if text.get("compress_ratios") is not None or text.get("index_head_dim") is not None:
        unknown.append("sparse attention keeps an index of its own, which is not counted")
    if text.get("is_encoder_decoder"):
        unknown.append("the cache for cross attention is not counted")
    if model_type in ("falcon_h1", "jamba", "zamba2", "lfm2", "lfm2_moe", "mamba"):
        unknown.append("%s has layers whose states are not counted" % model_type)
    return [_layer(kind, text, full, unknown) for kind in _kinds(text, model_type, count, unknown)]


def _kinds(text: Config, model_type: str, count: int, unknown: List[str]) -> List[str]:
    named = text.get("layer_types") or text.get("layers_block_type") or _hybrid(text, count)
    if named:
        strange = sorted({str(name) for name in named} - set(_KINDS))
        if strange:
            unknown.append("layers of the kind %s are taken for full attention" % ", ".join(strange))
        return [_KINDS.get(str(name), FULL) for name in named[:count]]
    return _by_model(text, model_type, count)


def _hybrid(text: Config, count: int) -> List[str]:
    """The kinds of layers of models that say them in their own way."""
    pattern = text.get("hybrid_override_pattern")
    if isinstance(pattern, str):
        return [_PATTERN.get(letter, letter) for letter in pattern]
    attention = text.get("attn_layer_indices")
    if isinstance(attention, list):
        return ["attention" if number in attention else "mamba" for number in range(count)]
    if text.get("linear_num_value_heads"):
        interval = int(text.get("full_attention_interval") or 4)
        return [
            "linear_attention" if (number + 1) % interval else "full_attention" for number in range(count)
        ]
    return []


def _by_model(text: Config, model_type: str, count: int) -> List[str]:
    """The kinds of layers where the configuration leaves them to the model's own defaults."""
    numbers = range(count)
    every = _interval(text, model_type)
    if every:
        return [SLIDING if (number + 1) % every else FULL for number in numbers]
    if model_type.startswith("llama4"):
        without = text.get("no_rope_layers") or []
        full = [not without[number] if number < len(without) else (number + 1) % 4 == 0 for number in numbers]
        return [FULL if one or not text.get("attention_chunk_size") else CHUNKED for one in full]
    if "use_sliding_window" in text or model_type.startswith(("qwen2", "qwen3")):
        if not text.get("use_sliding_window"):
            return [FULL] * count
        first = int(text.get("max_window_layers", 28))
        return [SLIDING if number >= first else FULL for number in numbers]
    return [SLIDING if window(text, model_type) else FULL] * count


def _interval(text: Config, model_type: str) -> int:
    """Every how many layers one has full attention, 0 for models without such a pattern."""
    if model_type in ("gemma2", "gpt_oss"):
        return 2
    if model_type in ("gemma3", "gemma3_text"):
        return int(text.get("sliding_window_pattern") or 6)
    if model_type == "cohere2":
        return int(text.get("sliding_window_pattern") or 4)
    return 0


def window(text: Config, model_type: str) -> int:
    """The sliding window in tokens, 0 for none."""
    if "sliding_window" in text:
        return int(text["sliding_window"] or 0)
    if model_type in ("gemma2", "gemma3", "gemma3_text", "mistral", "cohere2"):
        return 4096
    return 128 if model_type == "gpt_oss" else 0


def _layer(kind: str, text: Config, full: Layer, unknown: List[str]) -> Layer:
    if kind == SLIDING:
        size = window(text, str(text.get("model_type")))
        return full._replace(kind=SLIDING, window=size) if size else full
    if kind == CHUNKED:
        size = int(text.get("attention_chunk_size") or 0)
        return full._replace(kind=CHUNKED, window=size) if size else full
    if kind == NONE:
        return Layer(NONE)
    if kind == STATE:
        state = _state(text)
        if state is None and "the size of the layers' states is not known" not in unknown:
            unknown.append("the size of the layers' states is not known")
        return Layer(STATE, state=state or State(0, 0, None))
    return full


def _state(text: Config) -> Optional[State]:
    """The state of a gated delta net (Qwen3-Next) or of Mamba 2 (Bamba, Granite 4, Nemotron-H)."""
    dtype = text.get("mamba_ssm_dtype") or text.get("mamba_ssm_cache_dtype")
    if text.get("linear_num_value_heads"):
        keys, values, key, value, kernel = _numbers(
            text,
            "linear_num_key_heads",
            "linear_num_value_heads",
            "linear_key_head_dim",
            "linear_value_head_dim",
            "linear_conv_kernel_dim",
        )
        return State((2 * keys * key + values * value) * (kernel - 1), values * value * key, dtype)
    for names in (
        ("mamba_n_heads", "mamba_d_head", "mamba_d_state", "mamba_n_groups", "mamba_d_conv"),
        ("mamba_num_heads", "mamba_head_dim", "ssm_state_size", "n_groups", "conv_kernel"),
    ):
        if all(isinstance(text.get(name), int) for name in names):
            heads, head, size, groups, kernel = _numbers(text, *names)
            return State((heads * head + 2 * groups * size) * (kernel - 1), heads * head * size, dtype)
    return None


def _numbers(text: Config, *names: str) -> Tuple[int, ...]:
    return tuple(int(text.get(name) or 0) for name in names)

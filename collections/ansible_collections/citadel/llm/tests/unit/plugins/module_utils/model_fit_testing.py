# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configurations and weight files for the tests of model_fit."""

from __future__ import annotations

import json
import os
import struct
from typing import Any

from ansible_collections.citadel.llm.plugins.module_utils import _model_fit
from ansible_collections.citadel.llm.plugins.module_utils._findings import Finding
from ansible_collections.citadel.llm.plugins.module_utils._model_fit_arguments import (
    MODEL_FIT,
    model_fit_problem,
)

MIB = 1024 * 1024
GIB = 1024 * MIB
TENSORS = {
    "model.embed_tokens.weight": ("BF16", [512, 256]),
    "model.layers.0.self_attn.q_proj.weight": ("BF16", [256, 256]),
    "model.layers.0.self_attn.k_proj.weight": ("BF16", [128, 256]),
    "model.layers.0.input_layernorm.weight": ("BF16", [256]),
    "model.layers.1.mlp.gate_proj.weight": ("BF16", [512, 256]),
    "model.norm.weight": ("BF16", [256]),
    "lm_head.weight": ("BF16", [512, 256]),
}


def published() -> dict[str, Any]:
    """The published configurations of the four models, with `source`, `weight_bytes` and `config`."""
    path = os.path.join(os.path.dirname(__file__), "fixtures", "model_fit", "models.json")
    with open(path, encoding="utf-8") as stream:
        models: dict[str, Any] = json.load(stream)
    return models


def options(**given: Any) -> dict[str, Any]:
    """The module's options as AnsibleModule would make them."""
    return {**{name: option.get("default") for name, option in MODEL_FIT.items()}, **given}


def checked(**given: Any) -> tuple[dict[str, Finding], dict[str, Any]]:
    """Findings by id, and the numbers."""
    every = options(**given)
    assert not model_fit_problem(every)
    findings, numbers = _model_fit.check(every)
    assert len({finding.id for finding in findings}) == len(findings)
    return {finding.id: finding for finding in findings}, numbers


def config(**changed: Any) -> dict[str, Any]:
    """A small Llama."""
    usual = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 8192,
        "torch_dtype": "bfloat16",
    }
    return {**usual, **changed}


def header(tensors: dict[str, tuple[str, list[int]]]) -> bytes:
    """The head of a safetensors file, and nothing of its content."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, (dtype, shape) in tensors.items():
        size = 1
        for length in shape:
            size *= length
        size *= {"BF16": 2, "F32": 4, "I32": 4, "U8": 1}.get(dtype, 1)
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text


def write_weights(path: str, tensors: dict[str, tuple[str, list[int]]]) -> int:
    """A sparse safetensors file; returns the bytes of its tensors."""
    head = header(tensors)
    length = struct.unpack("<Q", head[:8])[0]
    entries = json.loads(head[8 : 8 + length])
    content = max(
        (entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"), default=0
    )
    with open(path, "wb") as stream:
        stream.write(head)
        stream.truncate(len(head) + content)
    return int(content)

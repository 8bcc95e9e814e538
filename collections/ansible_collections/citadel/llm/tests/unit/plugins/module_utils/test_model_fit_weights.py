# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from ansible_collections.citadel.llm.plugins.module_utils import _model_fit_weights as weights
from ansible_collections.citadel.llm.tests.unit.plugins.module_utils.model_fit_testing import (
    TENSORS,
    checked,
    config,
    header,
    write_weights,
)

SMALL = config(vocab_size=512, hidden_size=256, num_hidden_layers=2, num_attention_heads=4)


def test_headers_alone_are_read(tmp_path: Path) -> None:
    """A file of 1 TiB that holds nothing but its header takes no time and no memory."""
    shape = [1024 * 1024, 512 * 1024]
    stored = write_weights(str(tmp_path / "model.safetensors"), {"model.layers.0.w.weight": ("BF16", shape)})
    tensors, files = weights.read_directory(str(tmp_path))
    assert weights.total(tensors) == stored == 2**40 and files == ["model.safetensors"]


@pytest.mark.parametrize(
    ("name", "dtype", "shape", "expected"),
    [
        ("model.embed_tokens.weight", "BF16", [512, 256], (weights.FIRST, False, True, True)),
        ("lm_head.weight", "F32", [512, 256], (weights.LAST, False, True, True)),
        ("model.norm.weight", "BF16", [256], (weights.LAST, False, True, False)),
        ("model.layers.7.mlp.up_proj.weight", "BF16", [8, 8], (7, True, True, True)),
        ("model.layers.7.input_layernorm.weight", "BF16", [8], (7, False, True, False)),
        ("transformer.h.3.attn.c_attn.weight", "F16", [8, 8], (3, True, True, True)),
        ("transformer.wte.weight", "F16", [8, 8], (weights.FIRST, False, True, True)),
        ("model.layers.2.mlp.down_proj.qweight", "I32", [8, 8], (2, True, False, True)),
        ("vision_tower.encoder.layers.5.mlp.fc1.weight", "F16", [8, 8], (weights.FIRST, False, True, True)),
    ],
)
def test_where_a_tensor_lies(
    name: str, dtype: str, shape: list[int], expected: tuple[int, bool, bool, bool]
) -> None:
    one = weights.classify(name, dtype, shape)
    assert (one.layer, one.linear, one.floating, one.sharded) == expected


def test_weights_on_each_gpu(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(dict(SMALL, num_key_value_heads=2)))
    stored = write_weights(str(tmp_path / "model.safetensors"), TENSORS)
    norms = 2 * 256 * 2
    for parallel, expected in ((1, stored), (2, (stored - norms) // 2 + norms)):
        numbers = checked(path=str(tmp_path), tensor_parallel_size=parallel)[1]
        assert numbers["weight_bytes_per_gpu"] == expected
    # Two KV heads on four GPUs are there twice.
    four = checked(path=str(tmp_path), tensor_parallel_size=4)[1]["weight_bytes_per_gpu"]
    key = 128 * 256 * 2
    assert four == (stored - norms - key) // 4 + key // 2 + norms


def test_weights_on_each_stage(tmp_path: Path) -> None:
    """The last stage has the second layer, the norm and the output; with tied weights the embedding too."""
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    write_weights(str(tmp_path / "model.safetensors"), TENSORS)
    last = checked(path=str(tmp_path), pipeline_parallel_size=2)[1]["weight_bytes_per_gpu"]
    assert last == 512 * 256 * 2 * 2 + 256 * 2
    tied = {name: tensor for name, tensor in TENSORS.items() if name != "lm_head.weight"}
    write_weights(str(tmp_path / "model.safetensors"), tied)
    (tmp_path / "config.json").write_text(json.dumps(dict(SMALL, tie_word_embeddings=True)))
    assert checked(path=str(tmp_path), pipeline_parallel_size=2)[1]["weight_bytes_per_gpu"] == last


def test_the_engines_type(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(dict(SMALL, torch_dtype="float32")))
    floats = {name: ("F32", shape) for name, (_dtype, shape) in TENSORS.items()}
    stored = write_weights(str(tmp_path / "model.safetensors"), floats)
    assert checked(path=str(tmp_path))[1]["weight_bytes_per_gpu"] == stored // 2
    assert checked(path=str(tmp_path), dtype="float32")[1]["weight_bytes_per_gpu"] == stored
    quantised = dict(SMALL, quantization_config={"quant_method": "awq"})
    (tmp_path / "config.json").write_text(json.dumps(quantised))
    assert checked(path=str(tmp_path))[1]["weight_bytes_per_gpu"] == stored


def test_files_of_an_index(tmp_path: Path) -> None:
    write_weights(str(tmp_path / "a.safetensors"), dict(list(TENSORS.items())[:3]))
    write_weights(str(tmp_path / "b.safetensors"), dict(list(TENSORS.items())[3:]))
    write_weights(str(tmp_path / "consolidated.safetensors"), TENSORS)
    assert weights.read_directory(str(tmp_path))[1] == ["a.safetensors", "b.safetensors"]
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "b.safetensors"}}))
    assert weights.read_directory(str(tmp_path))[1] == ["b.safetensors"]
    index.write_text(json.dumps({"weight_map": {"x": "b.safetensors", "y": "c.safetensors"}}))
    with pytest.raises(weights.WeightsError, match=r"names c\.safetensors, which is not there \(1 of 2"):
        weights.read_directory(str(tmp_path))
    index.write_text("[]")
    with pytest.raises(weights.WeightsError, match="is no index"):
        weights.read_directory(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "pointer of Git LFS"),
        (b"", "is no whole safetensors file"),
        (struct.pack("<Q", 2**40), "is no whole safetensors file"),
        (struct.pack("<Q", 2) + b"{]", "is no whole safetensors file"),
        (header(TENSORS), "is no whole safetensors file"),
        (struct.pack("<Q", 2) + b"[]", "has a header that is none"),
        (struct.pack("<Q", 8) + b'{"a": 1}', "has a header that is none"),
        (header({"a": ("Q9", [1])}) + bytes(8), "unknown type Q9"),
    ],
)
def test_files_that_are_none(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    with pytest.raises(weights.WeightsError, match=said):
        weights.read_directory(str(tmp_path))
    findings, numbers = checked(path=str(tmp_path), gpu_memory_mib=[1024])
    assert findings["model.weights"].unknown and numbers["fits"] is None

# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the headers of a model's safetensors files say of its weights. The weights themselves are not read."""

from __future__ import annotations

import json
import os
import re
import struct
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

FIRST = -1  # with the embedding, on the first pipeline stage
LAST = -2  # with the output, on the last pipeline stage

_LARGEST_HEADER = 100_000_000  # the limit of the safetensors format
_BITS = {
    "F64": 64,
    "I64": 64,
    "U64": 64,
    "F32": 32,
    "I32": 32,
    "U32": 32,
    "F16": 16,
    "BF16": 16,
    "I16": 16,
    "U16": 16,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
    "I8": 8,
    "U8": 8,
    "BOOL": 8,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F4": 4,
}
_FLOATS = ("F64", "F32", "F16", "BF16")
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.(\d+)\.")
_OTHER_TOWER = re.compile(r"vision|visual|image|audio|speech|projector|mtp\.")
_EMBEDDING = re.compile(r"embed_tokens|word_embeddings|\bwte\b|\bembd\b|embed_in|tok_embeddings|wpe")
_OUTPUT = re.compile(r"lm_head|embed_out|output\.weight|head\.")
_KEY_VALUE = re.compile(r"\.(?:k_proj|v_proj)\.")


class WeightsError(Exception):
    """The headers cannot be read. The message names the file, what is wrong and what to do."""


class Tensor(NamedTuple):
    """One tensor, or several that are treated alike.

    ``layer`` is the number of the decoder layer, FIRST or LAST. ``linear`` says whether quantisation applies
    to it, ``floating`` whether it is loaded in the engine's dtype. Without ``sharded`` every tensor-parallel
    rank holds all of it; ``key_value`` is split over as many ranks as there are KV heads.
    """

    layer: int
    elements: int
    bytes: int
    linear: bool
    floating: bool
    sharded: bool
    key_value: bool = False


def read_directory(path: str) -> Tuple[List[Tensor], List[str]]:
    """The tensors of every weight file in a model's directory, and the names of these files.

    With an index, the files that it names; else every ``*.safetensors`` but adapters and consolidated copies.
    Raises WeightsError.
    """
    files = _files(path)
    tensors: List[Tensor] = []
    for name in files:
        for tensor_name, dtype, shape in read_header(os.path.join(path, name)):
            tensors.append(classify(tensor_name, dtype, shape))
    return tensors, files


def _files(path: str) -> List[str]:
    try:
        names = sorted(name for name in os.listdir(path) if name.endswith(".safetensors"))
    except OSError as error:
        raise WeightsError("cannot read %s: %s" % (path, error.strerror)) from error
    index = os.path.join(path, "model.safetensors.index.json")
    if os.path.exists(index):
        wanted = _indexed(index)
        missing = [name for name in wanted if name not in names]
        if missing:
            raise WeightsError(
                "%s names %s, which is not there (%d of %d files missing): fetch the model again"
                % (index, missing[0], len(missing), len(wanted))
            )
        return wanted
    chosen = [name for name in names if not name.startswith(("consolidated", "adapter_"))] or names
    if not chosen:
        raise WeightsError(
            "%s has no safetensors file: give weight_bytes, or convert the weights to safetensors" % path
        )
    return chosen


def _indexed(index: str) -> List[str]:
    try:
        with open(index, encoding="utf-8") as stream:
            files = json.load(stream)["weight_map"].values()
        return sorted({os.path.basename(str(name)) for name in files})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError("%s is no index of safetensors files: %s" % (index, error)) from error


def read_header(path: str) -> List[Tuple[str, str, List[int]]]:
    """Name, dtype and shape of each tensor of a file. Raises WeightsError."""
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as stream:
            start = stream.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else None
            if length is None or length > min(size - 8, _LARGEST_HEADER):
                raise WeightsError(_not_whole(path, size))
            header = json.loads(stream.read(length))
    except OSError as error:
        raise WeightsError("cannot read %s: %s" % (path, error.strerror)) from error
    except ValueError as error:
        raise WeightsError(_not_whole(path, size)) from error
    return _entries(path, size - 8 - length, header)


def _not_whole(path: str, size: int) -> str:
    return (
        "%s (%d bytes) is no whole safetensors file; it may be a pointer of Git LFS or cut off: "
        "fetch it again and compare its sha256 with the publisher's" % (path, size)
    )


def _entries(path: str, content: int, header: Any) -> List[Tuple[str, str, List[int]]]:
    found = []
    try:
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            shape = [int(size) for size in entry["shape"]]
            if entry["dtype"] not in _BITS or min(shape, default=0) < 0:
                raise WeightsError("%s: tensor %s has the unknown type %s" % (path, name, entry["dtype"]))
            if int(entry["data_offsets"][1]) > content:
                raise WeightsError(_not_whole(path, content + 8))
            found.append((str(name), str(entry["dtype"]), shape))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise WeightsError("%s has a header that is none of safetensors: %s" % (path, error)) from error
    return found


def classify(name: str, dtype: str, shape: List[int]) -> Tensor:
    """What a tensor's name, type and shape say of where it lies."""
    elements = 1
    for size in shape:
        elements *= size
    layer, decoder = _place(name)
    matrix = len(shape) > 1
    return Tensor(
        layer=layer,
        elements=elements,
        bytes=(elements * _BITS[dtype] + 7) // 8,
        linear=decoder and matrix and not name.endswith(("norm.weight", "conv1d.weight")),
        floating=dtype in _FLOATS,
        sharded=matrix,
        key_value=bool(_KEY_VALUE.search(name)),
    )


def _place(name: str) -> Tuple[int, bool]:
    """The layer, and whether it is one of the decoder's."""
    if _OTHER_TOWER.search(name):
        return FIRST, False
    match = _LAYER.search(name)
    if match:
        return int(match.group(1)), True
    if _EMBEDDING.search(name) and not _OUTPUT.search(name):
        return FIRST, False
    return LAST, False


def has_output(tensors: List[Tensor]) -> bool:
    """Whether the output matrix has weights of its own."""
    return any(one.layer == LAST and one.sharded for one in tensors)


def total(tensors: List[Tensor]) -> int:
    """Bytes as stored."""
    return sum(one.bytes for one in tensors)


def merged(tensors: List[Tensor]) -> List[Tensor]:
    """Alike tensors as one: planning tries many settings, and need not look at each tensor for each."""
    groups: Dict[Tuple[int, bool, bool, bool, bool], List[int]] = {}
    for one in tensors:
        key = (one.layer, one.linear, one.floating, one.sharded, one.key_value)
        sums = groups.setdefault(key, [0, 0])
        sums[0] += one.elements
        sums[1] += one.bytes
    return [Tensor(key[0], sums[0], sums[1], key[1], key[2], key[3], key[4]) for key, sums in groups.items()]


def from_total(
    weight_bytes: int, embedding: int, output: int, layers: int, element: Optional[float] = None
) -> List[Tensor]:
    """The same from totals in bytes: ``weight_bytes`` less embedding and output is spread over the layers.

    ``element`` is the size of an element in bytes, None for a checkpoint that is quantised already.
    """
    plain = element is not None
    size = element or 2.0
    embedding, output = min(embedding, weight_bytes // 3), min(output, weight_bytes // 3)
    tensors = [Tensor(FIRST, int(embedding / size), embedding, False, plain, True)]
    if output:
        tensors.append(Tensor(LAST, int(output / size), output, False, plain, True))
    rest, before = weight_bytes - embedding - output, 0
    for layer in range(layers):
        upto = rest * (layer + 1) // layers
        tensors.append(Tensor(layer, int((upto - before) / size), upto - before, True, plain, True))
        before = upto
    return tensors

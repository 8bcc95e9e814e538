# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How vLLM 0.32.0 lays out the KV cache: groups of layers that share a pool of equal blocks.

Rules measured against the engine, see docs/model-fit.md. Layers are sorted by what they keep;
each kind is cut into groups of equally many layers; a block has a page for each layer of the largest group.
A request takes blocks for every group, so a sliding window costs whole blocks once, and states cost two
blocks whatever the length.
"""

from __future__ import annotations

import math
from typing import Dict, List, NamedTuple, Sequence, Tuple

from ansible_collections.citadel.llm.plugins.module_utils._model_fit_layers import (
    CHUNKED,
    FULL,
    NONE,
    STATE,
    Layer,
)


class Cache(NamedTuple):
    """The engine's settings that bear on the cache. Sizes in bytes, lengths in tokens."""

    tensor_parallel: int
    element: int
    model_element: int
    block_size: int
    in_flight: int
    state_blocks: int
    latent: bool


class Spec(NamedTuple):
    """What one layer keeps in a block of ``block_size`` tokens."""

    kind: str
    block_size: int
    page: int
    window: int


class Group(NamedTuple):
    """Layers (their numbers) that share block tables."""

    spec: Spec
    layers: Tuple[int, ...]
    pages: Dict[int, int]


def token_bytes(layer: Layer, cache: Cache) -> int:
    """Bytes that one token takes in this layer on one GPU, 0 for a layer that keeps none."""
    if layer.kind in (STATE, NONE):
        return 0
    heads = 1 if cache.latent else max(1, layer.kv_heads // cache.tensor_parallel)
    return heads * layer.width * cache.element


def state_bytes(layer: Layer, cache: Cache) -> int:
    """Bytes of a layer's state for one request on one GPU, 0 for attention."""
    if layer.state is None:
        return 0
    recurrent = 4 if layer.state.dtype == "float32" else cache.model_element
    size = layer.state.convolution * cache.model_element + layer.state.recurrent * recurrent
    return size // cache.tensor_parallel


def groups(layers: Sequence[Layer], cache: Cache) -> List[Group]:
    """The groups in which the engine keeps these layers."""
    specs = _equal_pages(_specs(layers, cache))
    if len({spec._replace(page=0) for spec in specs.values()}) == 1:
        return [_group(specs, list(specs))]
    kinds: Dict[Spec, List[int]] = {}
    for number, spec in specs.items():
        kinds.setdefault(spec, []).append(number)
    if not kinds:
        return []
    size = _group_size([len(numbers) for numbers in kinds.values()])
    found = []
    for numbers in kinds.values():
        count = -(-len(numbers) // size)
        found += [_group(specs, numbers[part::count]) for part in range(count)]
    return found


def _group(specs: Dict[int, Spec], numbers: Sequence[int]) -> Group:
    return Group(specs[numbers[0]], tuple(numbers), {number: specs[number].page for number in numbers})


def _group_size(counts: List[int]) -> int:
    """As many layers as the rarest kind has, or the commonest where that pads little."""
    return max(counts) if max(counts) < min(counts) * 1.5 else min(counts)


def _specs(layers: Sequence[Layer], cache: Cache) -> Dict[int, Spec]:
    block = _block_size(layers, cache)
    specs = {}
    for number, layer in enumerate(layers):
        if layer.kind == STATE:
            specs[number] = Spec(STATE, 0, state_bytes(layer, cache), 0)
        elif layer.kind != NONE:
            specs[number] = Spec(layer.kind, block, token_bytes(layer, cache) * block, layer.window)
    return specs


def _block_size(layers: Sequence[Layer], cache: Cache) -> int:
    """Tokens per block: as set, or more where a state would not fit into a page of attention."""
    state = max((state_bytes(layer, cache) for layer in layers), default=0)
    token = max((token_bytes(layer, cache) for layer in layers), default=0)
    if not state or not token:
        return cache.block_size
    return cache.block_size * -(-state // (cache.block_size * token))


def _equal_pages(specs: Dict[int, Spec]) -> Dict[int, Spec]:
    """Pages of one size, by more tokens per block where that divides, else by padding.

    Kinds that need equally many blocks, such as full attention with heads of several sizes, stay as they are.
    """
    if len({spec._replace(page=0) for spec in specs.values()}) <= 1:
        return specs
    largest = max(spec.page for spec in specs.values())
    result = {}
    for number, spec in specs.items():
        times = largest // spec.page if spec.kind != STATE and largest % spec.page == 0 else 1
        result[number] = spec._replace(block_size=spec.block_size * times, page=largest)
    return result


def bytes_per_block(found: List[Group], stage: range) -> int:
    """Bytes of one block on the pipeline stage that has these layers."""
    return max(
        (sum(page for number, page in group.pages.items() if number in stage) for group in found), default=0
    )


def request_blocks(found: List[Group], length: int, cache: Cache) -> int:
    """Blocks that one request of this length takes."""
    return sum(_blocks(group.spec, length, cache) for group in found)


def _blocks(spec: Spec, length: int, cache: Cache) -> int:
    if spec.kind == FULL:
        return -(-length // spec.block_size)
    if spec.kind == STATE:
        return cache.state_blocks
    if spec.kind == CHUNKED:
        return -(-min(spec.window + cache.in_flight, length) // spec.block_size)
    # One block more: a window need not start where a block does.
    return -(-min(spec.window - 1 + cache.in_flight, length) // spec.block_size) + 1


def longest(found: List[Group], blocks: int, limit: int, cache: Cache) -> int:
    """The longest request for which ``blocks`` are enough, up to ``limit``; 0 if there is none."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        if request_blocks(found, middle, cache) <= blocks:
            low = middle
        else:
            high = middle - 1
    return low


def stages(layers: int, count: int) -> List[range]:
    """The layers of each pipeline stage. Those left over go to the stages before the last."""
    sizes = [layers // count] * count
    for number in range(2, layers % count + 2):
        sizes[-number] += 1
    starts = [sum(sizes[:number]) for number in range(count)]
    return [range(start, start + size) for start, size in zip(starts, sizes)]  # noqa: B905 (Python 3.9)


def capacity(blocks: int, per_request: int, length: int) -> Tuple[int, float]:
    """Tokens and requests of ``length`` that the cache holds, as the engine prints them."""
    if not per_request:
        return 0, math.inf
    return int(blocks / per_request * length), blocks / per_request

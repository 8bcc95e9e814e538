# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an engine with given settings has room for a model, and what room it leaves."""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.citadel.llm.plugins.module_utils import _model_fit_engine as engine
from ansible_collections.citadel.llm.plugins.module_utils import _model_fit_kv as kv
from ansible_collections.citadel.llm.plugins.module_utils._model_fit_config import ELEMENT_BYTES, Model
from ansible_collections.citadel.llm.plugins.module_utils._model_fit_weights import FIRST, LAST, Tensor

MIB = 1024 * 1024

# Bytes per weight of a linear layer. bitsandbytes keeps a float32 scale for 64 weights, AWQ and GPTQ a scale
# of two bytes and a zero point of half a byte for 128.
QUANTISED = {
    "fp8": 1.0,
    "bitsandbytes": 0.5 + 4 / 64,
    "awq": 0.5 + 2.5 / 128,
    "gptq": 0.5 + 2.5 / 128,
}

# Estimates, in MiB, for what no formula gives: kernels and workspaces of the libraries, CUDA graphs, and the
# buffers for communication between GPUs.
LIBRARIES_MIB = 256
GRAPHS_MIB = 512
COMMUNICATION_MIB = 256
# The CUDA context lies outside the engine's share: vLLM does not start with less free than its share.
CONTEXT_MIB = 450


class Setup(NamedTuple):
    """The settings of an engine. ``memory_mib`` is that of the smallest GPU, None if unknown."""

    memory_mib: Optional[int]
    utilization: float
    tensor_parallel: int
    pipeline_parallel: int
    length: int
    length_wanted: bool
    dtype: str
    quantization: Optional[str]
    kv_dtype: str
    kv_bytes: Optional[int]
    block_size: int
    batched_tokens: int
    sequences: int
    async_scheduling: bool
    prefix_caching: bool
    eager: bool
    activation_mib: Optional[int]
    overhead_mib: Optional[int]


class Plan(NamedTuple):
    """What a setup gives, in bytes per GPU of the fullest stage. Without a memory ``fits`` is None."""

    fits: Optional[bool]
    weights: int
    activation: int
    overhead: int
    budget: Optional[int]
    available: Optional[int]
    needed: int
    blocks: int
    kv_tokens: int
    concurrency: float
    longest: int

    @property
    def room(self) -> bool:
        """Whether anything is left for the KV cache."""
        return self.available is not None and self.available > 0

    def least_budget(self) -> int:
        """The share of the GPU that weights, reserve and the cache for one request take together."""
        return self.weights + self.activation + self.overhead + self.needed


def effective_dtype(wanted: str, model: Model) -> str:
    """The dtype that the engine computes in. It takes float32 checkpoints down to 16 bits unless told."""
    if wanted != "auto":
        return wanted
    named = model.dtype or "float32"
    return "bfloat16" if named.startswith("float") and named not in ("float16",) else named


def cache_settings(setup: Setup, model: Model) -> kv.Cache:
    """The settings that bear on the KV cache."""
    element = ELEMENT_BYTES.get(setup.dtype, 2)
    wanted = "fp8" if setup.kv_dtype == "auto" and model.kv_scheme else setup.kv_dtype
    kept = element if wanted == "auto" else (1 if wanted.startswith("fp8") else 2)
    batches = engine.concurrent_batches(setup.pipeline_parallel, setup.async_scheduling)
    batched = min(setup.batched_tokens, setup.sequences * setup.length)
    return kv.Cache(
        tensor_parallel=setup.tensor_parallel,
        element=kept,
        model_element=element,
        block_size=setup.block_size,
        in_flight=batches * batched,
        state_blocks=2 if setup.prefix_caching else 1,
        latent=model.latent,
    )


def plan(setup: Setup, model: Model, tensors: Sequence[Tensor], limit: int) -> Plan:
    """The plan for these settings. ``limit`` is the longest context that the model allows."""
    cache = cache_settings(setup, model)
    found = kv.groups(model.layers, cache)
    parts = kv.stages(len(model.layers), setup.pipeline_parallel)
    weights = [stage_weights(tensors, part, parts, setup, model) for part in parts]
    block_bytes = [kv.bytes_per_block(found, part) for part in parts]
    activation, overhead = activation_bytes(setup, model), overhead_bytes(setup)
    reserve = activation + overhead
    wanted = kv.request_blocks(found, setup.length, cache)
    # The engine holds one block back, so one more than a request takes has to fit.
    needed = max((wanted + 1) * size for size in block_bytes)
    fullest = max(range(len(parts)), key=lambda stage: weights[stage] + (wanted + 1) * block_bytes[stage])
    budget, available = _available(setup, weights, reserve)
    if available is None or not max(block_bytes):
        fits = None if available is None else min(available) > 0
        return Plan(fits, weights[fullest], activation, overhead, budget, None, needed, 0, 0, 0.0, 0)
    pairs = [(left, size) for left, size in zip(available, block_bytes) if size]  # noqa: B905
    blocks = max(0, min(left // size for left, size in pairs))
    tokens, concurrency = kv.capacity(blocks, wanted, setup.length)
    return Plan(
        fits=min(available) > 0 and wanted + 1 <= blocks and _whole_fits(setup, weights, reserve),
        weights=weights[fullest],
        activation=activation,
        overhead=overhead,
        budget=budget,
        available=min(available),
        needed=needed,
        blocks=blocks,
        kv_tokens=tokens,
        concurrency=concurrency,
        longest=kv.longest(found, blocks - 1, limit, cache),
    )


def _available(setup: Setup, weights: List[int], reserve: int) -> Tuple[Optional[int], Optional[List[int]]]:
    """The engine's share of a GPU, and what is left for the KV cache on each stage."""
    budget = None if setup.memory_mib is None else int(setup.memory_mib * MIB * setup.utilization)
    if setup.kv_bytes is not None:
        return budget, [setup.kv_bytes] * len(weights)
    if budget is None:
        return None, None
    return budget, [budget - one - reserve for one in weights]


def _whole_fits(setup: Setup, weights: List[int], reserve: int) -> bool:
    """With a cache of a set size the share is not looked at, but the GPU is not larger for that."""
    if setup.kv_bytes is None or setup.memory_mib is None:
        return True
    return max(weights) + reserve + setup.kv_bytes <= (setup.memory_mib - CONTEXT_MIB) * MIB


def stage_weights(
    tensors: Sequence[Tensor], part: range, parts: List[range], setup: Setup, model: Model
) -> int:
    """Bytes of weights on one GPU of a pipeline stage."""
    first, last = part is parts[0], part is parts[-1]
    total = 0.0
    for tensor in tensors:
        here = (tensor.layer == FIRST and first) or (tensor.layer == LAST and last) or tensor.layer in part
        if here or (last and tensor.layer > parts[-1].stop - 1):
            total += _loaded(tensor, setup, model) / _ranks(tensor, setup, model)
        elif last and not first and model.tied and tensor.layer == FIRST:
            total += _loaded(tensor, setup, model) / setup.tensor_parallel
    return int(total)


def _loaded(tensor: Tensor, setup: Setup, model: Model) -> float:
    """Bytes of a tensor in the engine: in its dtype, or quantised."""
    if model.quantization is not None:
        return tensor.bytes
    if tensor.linear and setup.quantization in QUANTISED:
        return tensor.elements * QUANTISED[setup.quantization]
    return tensor.elements * ELEMENT_BYTES.get(setup.dtype, 2) if tensor.floating else tensor.bytes


def _ranks(tensor: Tensor, setup: Setup, model: Model) -> int:
    """Over how many GPUs a tensor is split."""
    if not tensor.sharded:
        return 1
    return min(setup.tensor_parallel, model.kv_heads) if tensor.key_value else setup.tensor_parallel


def activation_bytes(setup: Setup, model: Model) -> int:
    """An estimate of the most that one step takes beside weights and cache, on one GPU.

    Either a layer at work on a full batch (states before and after, the heads, the two halves of the gated
    MLP and their product; with experts once for each expert of a token), or sampling for all sequences
    (logits in two precisions, sorted with their indices, probabilities and their sums).
    """
    if setup.activation_mib is not None:
        return setup.activation_mib * MIB
    element, parallel = ELEMENT_BYTES.get(setup.dtype, 2), setup.tensor_parallel
    states = 3 * model.hidden
    heads = 2 * (model.heads + 2 * model.kv_heads) * model.head_size // parallel
    per_expert = max(3 * model.intermediate // parallel, model.hidden)
    mlp = per_expert * max(1, model.experts_per_token) + (model.hidden if model.experts else 0)
    batched = min(setup.batched_tokens, setup.sequences * setup.length)
    layer = batched * (states + max(heads, mlp)) * element
    sampling = min(setup.sequences, batched) * model.vocabulary * (element + 4 + 4 + 8 + 4 + 4)
    return layer if layer > sampling else sampling + batched * model.hidden * element


def overhead_bytes(setup: Setup) -> int:
    """An estimate of what libraries, CUDA graphs and communication take within the engine's share."""
    if setup.overhead_mib is not None:
        return setup.overhead_mib * MIB
    mib = LIBRARIES_MIB + (0 if setup.eager else GRAPHS_MIB)
    if setup.tensor_parallel * setup.pipeline_parallel > 1:
        mib += COMMUNICATION_MIB
    return mib * MIB


def parallel_problem(tensor_parallel: int, pipeline_parallel: int, model: Model) -> str:
    """Why the engine refuses this division of the model, or an empty string."""
    if model.heads % tensor_parallel:
        return "Total number of attention heads (%d) must be divisible by tensor parallel size (%d)." % (
            model.heads,
            tensor_parallel,
        )
    more, less = max(model.kv_heads, tensor_parallel), min(model.kv_heads, tensor_parallel)
    if not model.latent and more % less:
        return (
            "The KV heads (%d) can be neither divided nor repeated evenly over a tensor parallel size of %d."
            % (model.kv_heads, tensor_parallel)
        )
    if pipeline_parallel > len(model.layers):
        return "A pipeline of %d stages has no layer for each of them: the model has %d." % (
            pipeline_parallel,
            len(model.layers),
        )
    return ""

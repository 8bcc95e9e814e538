# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The smallest change of an engine's settings that makes a model fit."""

from __future__ import annotations

import itertools
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.citadel.llm.plugins.module_utils import _model_fit_plan as planning
from ansible_collections.citadel.llm.plugins.module_utils._model_fit_config import Model
from ansible_collections.citadel.llm.plugins.module_utils._model_fit_plan import Plan, Setup
from ansible_collections.citadel.llm.plugins.module_utils._model_fit_weights import Tensor

HIGHEST_UTILIZATION = 0.95
LONG_CONTEXT = 8192
SHORTEST_CONTEXT = 2048

# What a change costs those who use the model; of several that help, the one with the lowest sum is the
# smallest. A larger share and idle GPUs cost nothing that shows, a shorter context and an 8-bit cache
# little, quantised weights most (AWQ and GPTQ also need another checkpoint). A context that nobody asked for
# is given up more lightly.
UTILIZATION, PARALLEL, CACHE = 1, 1, 4
HALF_CONTEXT, LONG_ENOUGH, SHORT_CONTEXT = 3, 5, 6
HALF_UNASKED, LONG_ENOUGH_UNASKED = 1, 2
QUANTIZATION = {"fp8": 8, "bitsandbytes": 10, "awq": 11}

Option = Tuple[int, Dict[str, Any]]


class Change(NamedTuple):
    """Options of the module with the values that make the model fit, and the plan that they give."""

    options: Dict[str, Any]
    plan: Plan


def smallest(
    setup: Setup, model: Model, tensors: Sequence[Tensor], limit: int, gpus: int
) -> Tuple[Optional[Change], List[Change]]:
    """The cheapest change that makes the model fit, and every change of a single option that does."""
    chosen: Optional[Change] = None
    singles: List[Change] = []
    for options in _candidates(setup, model, gpus):
        change = _tried(setup, model, tensors, limit, options)
        if change is None:
            continue
        chosen = chosen or change
        if len(change.options) == 1:
            singles.append(change)
    return chosen, singles


def _candidates(setup: Setup, model: Model, gpus: int) -> Iterator[Dict[str, Any]]:
    """Combinations of changes, the cheapest first."""
    combined = []
    for choice in itertools.product(*_dimensions(setup, model, gpus)):
        options: Dict[str, Any] = {}
        for _cost, one in choice:
            options.update(one)
        combined.append((sum(cost for cost, _one in choice), options))
    combined.sort(key=lambda entry: entry[0])
    return (options for _cost, options in combined if options)


def _dimensions(setup: Setup, model: Model, gpus: int) -> List[List[Option]]:
    none: Option = (0, {})
    utilization = [none]
    if setup.kv_bytes is None and setup.utilization < HIGHEST_UTILIZATION:
        utilization.append((UTILIZATION, {"gpu_memory_utilization": HIGHEST_UTILIZATION}))
    parallel = [none]
    parallel += [
        (PARALLEL, {"tensor_parallel_size": size})
        for size in range(setup.tensor_parallel + 1, gpus // setup.pipeline_parallel + 1)
        if not planning.parallel_problem(size, setup.pipeline_parallel, model)
    ]
    cache = [none]
    if planning.cache_settings(setup, model).element > 1:
        cache.append((CACHE, {"kv_cache_dtype": "fp8"}))
    weights = [none]
    if model.quantization is None and setup.quantization not in planning.QUANTISED:
        weights += [(cost, {"quantization": name}) for name, cost in QUANTIZATION.items()]
    return [utilization, parallel, cache, weights, [none, *_contexts(setup)]]


def _contexts(setup: Setup) -> List[Option]:
    """Lengths that have to fit at least; the longest that fits is taken in the end."""
    half = -(-setup.length // 2)
    costs = {half: HALF_CONTEXT if setup.length_wanted else HALF_UNASKED}
    if half > LONG_CONTEXT:
        costs[LONG_CONTEXT] = LONG_ENOUGH if setup.length_wanted else LONG_ENOUGH_UNASKED
    if half > SHORTEST_CONTEXT:
        costs[SHORTEST_CONTEXT] = SHORT_CONTEXT
    return [(cost, {"max_model_len": length}) for length, cost in costs.items()]


def applied(setup: Setup, options: Dict[str, Any]) -> Setup:
    """The settings with some options changed."""
    return setup._replace(
        utilization=options.get("gpu_memory_utilization", setup.utilization),
        tensor_parallel=options.get("tensor_parallel_size", setup.tensor_parallel),
        kv_dtype=options.get("kv_cache_dtype", setup.kv_dtype),
        quantization=options.get("quantization", setup.quantization),
        length=options.get("max_model_len", setup.length),
    )


def _tried(
    setup: Setup, model: Model, tensors: Sequence[Tensor], limit: int, options: Dict[str, Any]
) -> Optional[Change]:
    """The change with its values made as small as they may be, None if it does not help."""
    result = planning.plan(applied(setup, options), model, tensors, limit)
    if not result.fits:
        return None
    if "max_model_len" in options:
        options = dict(options, max_model_len=_rounded(min(result.longest, setup.length)))
    elif "gpu_memory_utilization" in options:
        options = dict(options, gpu_memory_utilization=_least_share(setup, model, tensors, limit, options))
    return Change(options, planning.plan(applied(setup, options), model, tensors, limit))


def _rounded(length: int) -> int:
    """A context that is a multiple of 256, as people write them."""
    return length // 256 * 256 if length > 512 else length


def _least_share(
    setup: Setup, model: Model, tensors: Sequence[Tensor], limit: int, options: Dict[str, Any]
) -> float:
    percent = int(setup.utilization * 100) + 1
    while percent < HIGHEST_UTILIZATION * 100:
        options = dict(options, gpu_memory_utilization=percent / 100)
        if planning.plan(applied(setup, options), model, tensors, limit).fits:
            break
        percent += 1
    return min(percent / 100, HIGHEST_UTILIZATION)

# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of model_fit, and what else their values have to be."""

from __future__ import annotations

from typing import Any, Dict

from ansible_collections.citadel.llm.plugins.module_utils import _model_fit_engine as engine

Spec = Dict[str, Dict[str, Any]]

DTYPES = ["auto", "bfloat16", "float16", "float32"]
KV_DTYPES = ["auto", "bfloat16", "float16", "fp8", "fp8_e4m3", "fp8_e5m2"]
QUANTIZATIONS = ["none", "fp8", "bitsandbytes", "awq", "gptq"]

MODEL_FIT: Spec = {
    "name": {"type": "str"},
    "path": {"type": "path"},
    "config": {"type": "dict"},
    "weight_bytes": {"type": "int"},
    "gpu_memory_mib": {"type": "list", "elements": "int"},
    "count": {"type": "int"},
    "gpu_memory_utilization": {"type": "float", "default": 0.9},
    "tensor_parallel_size": {"type": "int", "default": 1},
    "pipeline_parallel_size": {"type": "int", "default": 1},
    "max_model_len": {"type": "int"},
    "concurrency": {"type": "float"},
    "dtype": {"type": "str", "choices": DTYPES, "default": "auto"},
    "quantization": {"type": "str", "choices": QUANTIZATIONS},
    "kv_cache_dtype": {"type": "str", "choices": KV_DTYPES, "default": "auto"},
    "kv_cache_memory_bytes": {"type": "int"},
    "block_size": {"type": "int", "default": engine.BLOCK_SIZE},
    "max_num_batched_tokens": {
        "type": "int",
        "default": engine.MAX_NUM_BATCHED_TOKENS,
        "no_log": False,
    },
    "max_num_seqs": {"type": "int", "default": engine.MAX_NUM_SEQS},
    "async_scheduling": {"type": "bool", "default": True},
    "prefix_caching": {"type": "bool", "default": True},
    "enforce_eager": {"type": "bool", "default": False},
    "activation_mib": {"type": "int"},
    "overhead_mib": {"type": "int"},
}

_POSITIVE = (
    "count",
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "max_model_len",
    "concurrency",
    "weight_bytes",
    "kv_cache_memory_bytes",
    "block_size",
    "max_num_batched_tokens",
    "max_num_seqs",
)
_NOT_NEGATIVE = ("activation_mib", "overhead_mib")


def model_fit_problem(options: Dict[str, Any]) -> str:
    """What is wrong with the values of model_fit's options, or an empty string."""
    if (options["path"] is None) == (options["config"] is None):
        return "one of path and config has to be given, and not both"
    for name in _POSITIVE:
        if options[name] is not None and options[name] <= 0:
            return "%s: %s is not above 0" % (name, options[name])
    for name in _NOT_NEGATIVE:
        if options[name] is not None and options[name] < 0:
            return "%s: %s is below 0" % (name, options[name])
    if not 0 < options["gpu_memory_utilization"] <= 1:
        return "gpu_memory_utilization: %g is not above 0 and up to 1" % options["gpu_memory_utilization"]
    return _memory_problem(options["gpu_memory_mib"], options["count"])


def _memory_problem(memory: Any, count: Any) -> str:
    if memory is None:
        return ""
    if not memory or min(memory) <= 0:
        return "gpu_memory_mib: %s does not have the memory of each GPU in MiB" % memory
    if count is not None and len(memory) not in (1, count):
        return "gpu_memory_mib: %d values for count %d" % (len(memory), count)
    return ""

# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an inventory's deployments expect of the GPUs, as options of model_fit."""

from __future__ import annotations

import json
import os
import posixpath
import re
from typing import Any, Callable, Dict, List, Optional

from ansible_collections.citadel.llm.plugins.module_utils import _model_fit_arguments as fit
from ansible_collections.citadel.llm.plugins.module_utils import _model_fit_weights as weights

Options = Dict[str, Any]
# How vLLM writes a number for people: a small letter counts in thousands, a capital in powers of two.
_UNITS = {"": 1, "k": 10**3, "K": 2**10, "m": 10**6, "M": 2**20, "g": 10**9, "G": 2**30}


def deployed(known: Dict[str, Any]) -> List[Options]:
    """The options of model_fit for each deployment that generates text on a GPU.

    ``known`` has C(deployments), C(engine_arguments), C(model_store), and by the name of a model C(configs)
    (what ``read`` gave) and C(directories) (of those that lie on the server outside the store). With
    C(before_provisioning), a model that is not there yet is no fault.
    """
    result = []
    for one in known.get("deployments") or []:
        if one.get("accelerator", "cuda") != "cuda" or one.get("task", "generate") != "generate":
            continue
        arguments = dict(known.get("engine_arguments") or {}, **(one.get("arguments") or {}))
        entry = _of_arguments(arguments)
        entry["name"] = one.get("name")
        entry["before_provisioning"] = bool(known.get("before_provisioning"))
        chosen = _visible((one.get("environment") or {}).get("CUDA_VISIBLE_DEVICES"))
        if chosen:
            entry["gpus"] = chosen
        model = str(one.get("model"))
        config = (known.get("configs") or {}).get(model)
        if config is not None:
            entry.update(config)
        else:
            store = posixpath.join(str(known.get("model_store")), model, "current")
            entry["path"] = (known.get("directories") or {}).get(model) or store
        result.append(entry)
    return result


def read(directory: str) -> Optional[Options]:
    """C(config) and C(weight_bytes) of a model's directory; None where it is not there or not whole."""
    try:
        with open(os.path.join(directory, "config.json"), encoding="utf-8") as stream:
            config = json.load(stream)
        tensors, _files = weights.read_directory(directory)
    except (OSError, ValueError, weights.WeightsError):
        return None
    return {"config": config, "weight_bytes": weights.total(tensors)} if isinstance(config, dict) else None


def _visible(value: Any) -> List[int]:
    """The GPUs of C(CUDA_VISIBLE_DEVICES) by number; empty where it has none, or names them otherwise."""
    parts = [] if value is None else [part.strip() for part in str(value).split(",")]
    return [int(part) for part in parts] if all(part.isdigit() for part in parts) else []


def _of_arguments(arguments: Dict[str, Any]) -> Options:
    """Arguments of C(vllm serve) as options of model_fit; what says nothing of memory is left out."""
    given = {str(name).lstrip("-").replace("-", "_"): value for name, value in arguments.items()}
    result: Options = {}
    for name, convert in _CONVERTED.items():
        value = given.get(name)
        found = None if value is None else convert(value)
        if found is not None:
            result[name] = found
    for name, option in (("enable_prefix_caching", "prefix_caching"), ("async_scheduling",) * 2):
        if given.get(name) is not None:
            result[option] = _flag(given[name])
        if given.get("no_" + name) is not None:
            result[option] = not _flag(given["no_" + name])
    return result


def _flag(value: Any) -> bool:
    return str(value).lower() not in ("false", "no", "0")


def _integer(value: Any) -> Optional[int]:
    match = re.match(r"^(\d+(?:\.\d+)?)([kKmMgG]?)$", str(value).strip())
    if match is None:
        return None
    number = int(float(match.group(1)) * _UNITS[match.group(2)])
    return number if number > 0 else None


def _share(value: Any) -> Optional[float]:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 < number <= 1 else None


def _word(choices: List[str], others: Dict[str, str]) -> Callable[[Any], Optional[str]]:
    def chosen(value: Any) -> Optional[str]:
        word = others.get(str(value), str(value))
        return word if word in choices else None

    return chosen


_CONVERTED: Dict[str, Callable[[Any], Any]] = {
    "tensor_parallel_size": _integer,
    "pipeline_parallel_size": _integer,
    "gpu_memory_utilization": _share,
    "max_model_len": _integer,
    "max_num_batched_tokens": _integer,
    "max_num_seqs": _integer,
    "block_size": _integer,
    "kv_cache_memory_bytes": _integer,
    "enforce_eager": _flag,
    "dtype": _word(fit.DTYPES, {"half": "float16", "float": "float32"}),
    "quantization": _word(fit.QUANTIZATIONS, {"awq_marlin": "awq", "gptq_marlin": "gptq"}),
    "kv_cache_dtype": _word(fit.KV_DTYPES, {}),
}

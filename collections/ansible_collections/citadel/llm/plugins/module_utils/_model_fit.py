# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a model fits on GPUs: what it takes, what is left for requests, and what to change."""

from __future__ import annotations

import json
import os
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from ansible_collections.citadel.llm.plugins.module_utils import _model_fit_config as configuration
from ansible_collections.citadel.llm.plugins.module_utils import _model_fit_findings as say
from ansible_collections.citadel.llm.plugins.module_utils import _model_fit_kv as kv
from ansible_collections.citadel.llm.plugins.module_utils import _model_fit_plan as planning
from ansible_collections.citadel.llm.plugins.module_utils import _model_fit_weights as weights
from ansible_collections.citadel.llm.plugins.module_utils._findings import Finding
from ansible_collections.citadel.llm.plugins.module_utils._model_fit_changes import Change, smallest
from ansible_collections.citadel.llm.plugins.module_utils._model_fit_config import Model
from ansible_collections.citadel.llm.plugins.module_utils._model_fit_plan import Plan, Setup
from ansible_collections.citadel.llm.plugins.module_utils._model_fit_weights import Tensor

Numbers = Dict[str, Any]
# What the engine takes for a model that says nothing of its length.
_LENGTH_WITHOUT_ANY = 2048


class _Weighed(NamedTuple):
    """The weights, their bytes as stored, and whether these are known or an estimate."""

    tensors: List[Tensor]
    stored: int
    known: bool


def check(options: Dict[str, Any]) -> Tuple[List[Finding], Numbers]:
    """Findings and numbers for checked options. Nothing is raised for what a model's files say."""
    subject = _subject(options)
    try:
        model = configuration.read(_configuration(options))
    except configuration.ConfigError as error:
        return [say.no_configuration(subject, str(error))], _nothing()
    findings = [say.architecture(subject, model)]
    weighed, told = _weigh(options, model, subject)
    findings.append(told)
    if weighed is None:
        return findings, dict(_nothing(), **_of_model(model))
    gpus, memory = _gpus(options)
    setup = _setup(options, model, memory)
    refused = [
        finding
        for finding in (
            say.quantization(subject, model, options["quantization"]),
            say.context(subject, model, setup.length),
            say.parallel(subject, model, setup, gpus),
        )
        if finding is not None
    ]
    findings += refused
    if planning.parallel_problem(setup.tensor_parallel, setup.pipeline_parallel, model):
        numbers = dict(_nothing(), weight_bytes=weighed.stored, fits=False, **_of_model(model))
        return findings, numbers
    plan = planning.plan(setup, model, weighed.tensors, _limit(model, setup))
    change: Optional[Change] = None
    changes: List[Change] = []
    if plan.fits is False:
        change, changes = smallest(setup, model, weighed.tensors, _limit(model, setup), gpus)
    findings += say.memory(subject, setup, plan, change, gpus)
    wanted = say.concurrency(subject, options["concurrency"], setup, plan)
    findings += [wanted] if wanted is not None else []
    blocked = any(finding.severity == "blocking" for finding in refused)
    numbers = dict(_of_model(model), **_of_plan(setup, model, weighed, plan, blocked))
    numbers.update(
        change=change.options if change else None,
        changes=[_of_change(one) for one in changes],
    )
    return findings, numbers


def _subject(options: Dict[str, Any]) -> str:
    if options["name"]:
        return str(options["name"])
    if options["path"]:
        return os.path.basename(os.path.normpath(str(options["path"])))
    return str(options["config"].get("_name_or_path") or options["config"].get("model_type") or "model")


def _configuration(options: Dict[str, Any]) -> Dict[str, Any]:
    """The configuration given or lying in the directory. Raises ConfigError."""
    if options["config"] is not None:
        return dict(options["config"])
    path = os.path.join(options["path"], "config.json")
    try:
        with open(path, encoding="utf-8") as stream:
            config = json.load(stream)
    except OSError as error:
        raise configuration.ConfigError("cannot read %s: %s" % (path, error.strerror)) from error
    except ValueError as error:
        raise configuration.ConfigError("%s is no JSON: %s" % (path, error)) from error
    if not isinstance(config, dict):
        raise configuration.ConfigError("%s holds no object" % path)
    return config


def _weigh(options: Dict[str, Any], model: Model, subject: str) -> Tuple[Optional[_Weighed], Finding]:
    """The weights from the headers, from the option, or by the usual formulas."""
    if options["path"] is not None and options["weight_bytes"] is None:
        try:
            tensors, files = weights.read_directory(options["path"])
        except weights.WeightsError as error:
            return None, say.no_weights(subject, str(error))
        total = weights.total(tensors)
        told = say.weights(subject, total, "%d tensors in %d files" % (len(tensors), len(files)), True)
        return _Weighed(weights.merged(tensors), total, True), told
    element = None
    if model.quantization is None:
        element = configuration.ELEMENT_BYTES.get(model.dtype or "float32", 2)
    size = options["weight_bytes"]
    known = size is not None
    if size is None:
        if model.parameters is None or element is None:
            return None, say.no_weights(
                subject, "weight_bytes is not given, and no formula holds for this model"
            )
        size = model.parameters * element
    matrix = model.vocabulary * model.hidden * (element or 2)
    spread = weights.from_total(size, matrix, 0 if model.tied else matrix, len(model.layers), element)
    source = "as given" if known else "by the usual formulas for %s" % (model.model_type or "a decoder")
    return _Weighed(spread, size, known), say.weights(subject, size, source, known)


def _gpus(options: Dict[str, Any]) -> Tuple[int, Optional[int]]:
    """How many GPUs there are, and the memory of the smallest in MiB."""
    memory = options["gpu_memory_mib"]
    count = options["count"]
    if memory is None:
        return count or options["tensor_parallel_size"] * options["pipeline_parallel_size"], None
    return count or len(memory), min(memory)


def _setup(options: Dict[str, Any], model: Model, memory: Optional[int]) -> Setup:
    quantization = options["quantization"]
    return Setup(
        memory_mib=memory,
        utilization=options["gpu_memory_utilization"],
        tensor_parallel=options["tensor_parallel_size"],
        pipeline_parallel=options["pipeline_parallel_size"],
        length=options["max_model_len"] or model.default_length or _LENGTH_WITHOUT_ANY,
        length_wanted=options["max_model_len"] is not None,
        dtype=planning.effective_dtype(options["dtype"], model),
        quantization=None if quantization in (None, "none") else quantization,
        kv_dtype=options["kv_cache_dtype"],
        kv_bytes=options["kv_cache_memory_bytes"],
        block_size=options["block_size"],
        batched_tokens=options["max_num_batched_tokens"],
        sequences=options["max_num_seqs"],
        async_scheduling=options["async_scheduling"],
        prefix_caching=options["prefix_caching"],
        eager=options["enforce_eager"],
        activation_mib=options["activation_mib"],
        overhead_mib=options["overhead_mib"],
    )


def _limit(model: Model, setup: Setup) -> int:
    return max(model.max_length or 0, setup.length) if model.max_length is None else model.max_length


def _nothing() -> Numbers:
    """The numbers of a model of which nothing could be found out."""
    names = (
        "weight_bytes",
        "weight_bytes_per_gpu",
        "weights_known",
        "kv_bytes_per_token",
        "kv_bytes_per_token_per_gpu",
        "state_bytes_per_request",
        "kv_cache_bytes_per_gpu",
        "activation_bytes",
        "overhead_bytes",
        "needed_mib_per_gpu",
        "max_model_len",
        "kv_tokens",
        "max_context",
        "max_concurrency",
        "fits",
        "change",
        "model",
    )
    return dict(dict.fromkeys(names), changes=[])


def _of_model(model: Model) -> Numbers:
    kinds: Dict[str, int] = {}
    for layer in model.layers:
        kinds[layer.kind] = kinds.get(layer.kind, 0) + 1
    return {
        "model": {
            "architectures": list(model.architectures),
            "model_type": model.model_type,
            "layers": kinds,
            "heads": model.heads,
            "kv_heads": model.kv_heads,
            "experts": model.experts,
            "latent_attention": model.latent,
            "max_length": model.max_length,
            "dtype": model.dtype,
            "quantization": model.quantization,
            "parameters": model.parameters,
        }
    }


def _of_plan(setup: Setup, model: Model, weighed: _Weighed, plan: Plan, blocked: bool) -> Numbers:
    here = planning.cache_settings(setup, model)
    alone = here._replace(tensor_parallel=1)
    parts = kv.stages(len(model.layers), setup.pipeline_parallel)
    per_stage = [sum(kv.token_bytes(model.layers[number], here) for number in part) for part in parts]
    known = plan.available is not None
    share = setup.utilization if setup.kv_bytes is None else 1.0
    return {
        "weight_bytes": weighed.stored,
        "weight_bytes_per_gpu": plan.weights,
        "weights_known": weighed.known,
        "kv_bytes_per_token": sum(kv.token_bytes(layer, alone) for layer in model.layers),
        "kv_bytes_per_token_per_gpu": max(per_stage),
        "state_bytes_per_request": here.state_blocks
        * sum(kv.state_bytes(layer, alone) for layer in model.layers),
        "kv_cache_bytes_per_gpu": max(0, plan.available or 0) if known else None,
        "activation_bytes": plan.activation,
        "overhead_bytes": plan.overhead,
        "needed_mib_per_gpu": int(plan.least_budget() / planning.MIB / share) + 1,
        "max_model_len": setup.length,
        "kv_tokens": plan.kv_tokens if known else None,
        "max_context": plan.longest if known else None,
        "max_concurrency": round(plan.concurrency, 2) if known else None,
        "fits": False if blocked else plan.fits,
    }


def _of_change(change: Change) -> Numbers:
    return {
        "options": change.options,
        "kv_tokens": change.plan.kv_tokens,
        "max_context": change.plan.longest,
        "max_concurrency": round(change.plan.concurrency, 2),
    }

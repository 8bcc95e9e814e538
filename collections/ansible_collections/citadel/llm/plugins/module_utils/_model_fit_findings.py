# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of a model's fit."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from ansible_collections.citadel.llm.plugins.module_utils import _model_fit_engine as engine
from ansible_collections.citadel.llm.plugins.module_utils import _model_fit_plan as planning
from ansible_collections.citadel.llm.plugins.module_utils._findings import (
    BLOCKING,
    Finding,
    blocking,
    deviation,
    ok,
    unknown,
)
from ansible_collections.citadel.llm.plugins.module_utils._model_fit_changes import Change
from ansible_collections.citadel.llm.plugins.module_utils._model_fit_config import Model
from ansible_collections.citadel.llm.plugins.module_utils._model_fit_plan import MIB, Plan, Setup

_NEEDS_CHECKPOINT = ("awq", "gptq")


def gib(size: float) -> str:
    """Bytes for people."""
    return "%.2f GiB" % (size / MIB / 1024)


def no_configuration(subject: str, problem: str) -> Finding:
    """The configuration cannot be understood."""
    return unknown(
        "model.config",
        subject,
        expected="a readable config.json of a decoder model",
        found=problem,
        why="Without the configuration nothing can be said of the model: %s." % problem,
        remedy="Fetch the model again (model_artifact), or correct the path or the configuration given.",
        severity=BLOCKING,
    )


def no_weights(subject: str, problem: str) -> Finding:
    """The size of the weights cannot be found out."""
    return unknown(
        "model.weights",
        subject,
        expected="the size of the weights",
        found=problem,
        why="Without the size of the weights it is not known what is left for requests.",
        remedy="Fetch the model again (model_artifact), or give weight_bytes.",
        severity=BLOCKING,
    )


def weights(subject: str, size: int, source: str, known: bool) -> Finding:
    """How large the weights are, and how that is known."""
    found = "%s, %s" % (gib(size), source)
    if known:
        return ok("model.weights", subject, found=found, why="What the weights take as stored.")
    return unknown(
        "model.weights",
        subject,
        expected="weight_bytes, or the safetensors files",
        found=found,
        why="The size is worked out from the configuration, which does not say everything.",
        remedy="Give weight_bytes (the total_size of the index), or path once the model is there.",
    )


def architecture(subject: str, model: Model) -> Finding:
    """Whether the engine lists the model's architecture, and whether its cache is understood."""
    named = ", ".join(model.architectures) or "none named"
    expected = "an architecture that vLLM %s lists" % engine.VERSION
    if not set(model.architectures) & engine.ARCHITECTURES:
        return unknown(
            "model.architecture",
            subject,
            expected=expected,
            found=named,
            why="vLLM tries a model that it does not list through Transformers, and refuses most that bring "
            "their own code: Model architectures are not supported for now.",
            remedy="Start the engine with it before relying on it, or choose a model that is listed.",
        )
    if model.unknown:
        return unknown(
            "model.architecture",
            subject,
            expected="a cache that can be worked out",
            found="; ".join(model.unknown),
            why="The model keeps more than what is counted here, so less fits than is said.",
            remedy="Read the size of the KV cache from the engine's log after a start.",
        )
    return ok("model.architecture", subject, expected=expected, found=named)


def quantization(subject: str, model: Model, wanted: Optional[str]) -> Optional[Finding]:
    """Whether the wanted quantisation goes with the checkpoint."""
    if wanted in (None, "none"):
        return None
    has = model.quantization
    if has is None and wanted in _NEEDS_CHECKPOINT:
        return blocking(
            "model.quantization",
            subject,
            expected=wanted,
            found="a checkpoint without quantisation",
            why="%s is not made at the start of the engine: Cannot find the config file for %s."
            % (wanted, wanted),
            remedy="Fetch an %s checkpoint of the model; the numbers here are those of such a checkpoint."
            % wanted.upper(),
        )
    if has is not None and has.split("_")[0] != wanted:
        return blocking(
            "model.quantization",
            subject,
            expected=wanted,
            found=has,
            why="Quantization method specified in the model config (%s) does not match the quantization "
            "argument (%s)." % (has, wanted),
            remedy="Leave quantization out: the engine takes it from the checkpoint.",
        )
    return ok("model.quantization", subject, expected=wanted, found=has or "made at the start of the engine")


def context(subject: str, model: Model, length: int) -> Optional[Finding]:
    """Whether the wanted context is not longer than the model's."""
    if model.max_length is None:
        return unknown(
            "model.context",
            subject,
            expected="max_position_embeddings",
            found=None,
            why="The configuration does not say how long a context the model was made for.",
            remedy="Give max_model_len, and try a long request.",
        )
    if length <= model.max_length:
        return None
    return blocking(
        "model.context",
        subject,
        expected="max_model_len up to %d" % model.max_length,
        found=length,
        why="The engine refuses it: max_model_len (%d) is greater than the derived max_model_len (%s=%d)."
        % (length, model.length_key, model.max_length),
        remedy="Set max_model_len to %d or less." % model.max_length,
    )


def parallel(subject: str, model: Model, setup: Setup, gpus: int) -> Finding:
    """Whether the model can be divided as wanted over GPUs that are there."""
    wanted = "tensor_parallel_size %d, pipeline_parallel_size %d" % (
        setup.tensor_parallel,
        setup.pipeline_parallel,
    )
    problem = planning.parallel_problem(setup.tensor_parallel, setup.pipeline_parallel, model)
    if problem:
        sizes = [
            size
            for size in range(1, gpus // setup.pipeline_parallel + 1)
            if not planning.parallel_problem(size, 1, model)
        ]
        return blocking(
            "model.parallel",
            subject,
            expected="tensor_parallel_size among %s" % ", ".join(str(size) for size in sizes or [1]),
            found=wanted,
            why=problem,
            remedy="Set tensor_parallel_size to %d%s."
            % (
                max(sizes or [1]),
                "" if setup.pipeline_parallel == 1 else ", and fewer pipeline stages than layers",
            ),
        )
    needed = setup.tensor_parallel * setup.pipeline_parallel
    if needed > gpus:
        return blocking(
            "model.parallel",
            subject,
            expected="%d GPUs" % needed,
            found="%d" % gpus,
            why="%s needs %d GPUs, and there are %d." % (wanted, needed, gpus),
            remedy="Lower tensor_parallel_size or pipeline_parallel_size to what is there.",
        )
    return ok("model.parallel", subject, expected=wanted, found="%d GPUs" % gpus)


def memory(subject: str, setup: Setup, plan: Plan, change: Optional[Change], gpus: int) -> List[Finding]:
    """Whether weights and the cache for one request fit."""
    if plan.fits is None:
        return [
            unknown(
                "model.memory",
                subject,
                expected="gpu_memory_mib or kv_cache_memory_bytes",
                found=None,
                why="The memory of the GPU is not given, so it is not known what is left for requests.",
                remedy="Give gpu_memory_mib (gpu_info tells memory_total_mib).",
            )
        ]
    findings = [_share(subject, setup)] if setup.memory_mib is not None and setup.kv_bytes is None else []
    if plan.fits:
        return [*[one for one in findings if one], _fits(subject, setup, plan)]
    return [*[one for one in findings if one], _does_not_fit(subject, setup, plan, change, gpus)]


def _share(subject: str, setup: Setup) -> Optional[Finding]:
    left = int((setup.memory_mib or 0) * (1 - setup.utilization))
    if left >= planning.CONTEXT_MIB:
        return None
    return deviation(
        "model.utilization",
        subject,
        expected="%d MiB of the GPU outside gpu_memory_utilization" % planning.CONTEXT_MIB,
        found="%d MiB" % left,
        why="The CUDA context lies outside the engine's share. The engine does not start when free memory is "
        "less than desired GPU memory utilization.",
        remedy="Lower gpu_memory_utilization to %.2f."
        % (int(100 * (1 - planning.CONTEXT_MIB / (setup.memory_mib or 1))) / 100),
    )


def _fits(subject: str, setup: Setup, plan: Plan) -> Finding:
    return ok(
        "model.memory",
        subject,
        expected="the weights and one request of %d tokens" % setup.length,
        found="%d tokens of KV cache, %.1f requests of %d tokens"
        % (
            plan.kv_tokens,
            plan.concurrency,
            setup.length,
        ),
        why="On each GPU %s of weights, %s reserved (an estimate) and %s for the KV cache."
        % (gib(plan.weights), gib(plan.activation + plan.overhead), gib(max(0, plan.available or 0))),
    )


def _does_not_fit(subject: str, setup: Setup, plan: Plan, change: Optional[Change], gpus: int) -> Finding:
    if not plan.room:
        says = "No available memory for the cache blocks"
    elif plan.longest < setup.length:
        says = "To serve at least one request with the model's max seq len (%d)" % setup.length
    else:
        says = "CUDA out of memory"
    share = "the KV cache of %s" % gib(setup.kv_bytes or 0)
    if setup.kv_bytes is None:
        share = "a share of %s (%g of %d MiB)" % (
            gib(plan.budget or 0),
            setup.utilization,
            setup.memory_mib or 0,
        )
    return blocking(
        "model.memory",
        subject,
        expected="%s in %s" % (gib(plan.least_budget() if setup.kv_bytes is None else plan.needed), share),
        found="%s weights, %s reserved, %s for one request of %d tokens"
        % (gib(plan.weights), gib(plan.activation + plan.overhead), gib(plan.needed), setup.length),
        why="The engine does not start: %s." % says,
        remedy=_remedy(change, plan, setup, gpus),
    )


def _remedy(change: Optional[Change], plan: Plan, setup: Setup, gpus: int) -> str:
    if change is None:
        share = setup.utilization if setup.kv_bytes is None else 1.0
        return (
            "No change of settings makes it fit on %d GPUs. As it is, each would need %d MiB; "
            "choose a smaller model or larger GPUs." % (gpus, int(plan.least_budget() / MIB / share) + 1)
        )
    said = ", ".join("%s %s" % (name, _value(value)) for name, value in change.options.items())
    note = ""
    if change.options.get("quantization") in _NEEDS_CHECKPOINT:
        note = " This needs an AWQ or GPTQ checkpoint of the model."
    return "Set %s: then %.1f requests of %d tokens fit.%s" % (
        said,
        change.plan.concurrency,
        change.options.get("max_model_len", setup.length),
        note,
    )


def _value(value: Any) -> str:
    return "%g" % value if isinstance(value, float) else str(value)


def concurrency(subject: str, wanted: Optional[float], setup: Setup, plan: Plan) -> Optional[Finding]:
    """Whether as many requests at a time fit as are wanted."""
    if wanted is None or not plan.fits:
        return None
    said: Dict[str, Any] = {
        "expected": "%g requests of %d tokens at a time" % (wanted, setup.length),
        "found": round(plan.concurrency, 2),
    }
    if plan.concurrency >= wanted:
        return ok("model.concurrency", subject, **said)
    return deviation(
        "model.concurrency",
        subject,
        why="Requests beyond that wait, or are computed anew when the cache is full.",
        remedy="Set max_model_len to %d, or kv_cache_dtype to fp8, or expect less."
        % max(1, int(plan.kv_tokens / wanted)),
        **said,
    )

# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How each section of the preflight is looked at.

Back ends are imported where they are used: each section runs in a process of its own, and reading the code
of all of them one after the other would take longer than looking.
"""

from __future__ import annotations

import os
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.citadel.llm.plugins.module_utils._findings import Finding, unknown

LOOK = ("nvidia_smi", "source", "root", "kernel_log", "timeout", "info")
# What a model has here beside the options of model_fit.
MODEL_HERE: Dict[str, Any] = {
    "gpus": {"type": "list", "elements": "int"},
    "before_provisioning": {"type": "bool", "default": False},
}
# What is left of the deadline for telling what was seen.
MARGIN = 0.5


class Part(NamedTuple):
    """What one look gave: findings, and facts by kind as plain JSON values."""

    findings: List[Finding]
    facts: Dict[str, Any]


def validated(spec: Dict[str, Any], given: Dict[str, Any]) -> Dict[str, Any]:
    """The options with their defaults and types. Raises ValueError that names what is wrong."""
    result = ArgumentSpecValidator(spec).validate(given)
    if result.error_messages:
        raise ValueError("; ".join(result.error_messages))
    return dict(result.validated_parameters)


def host(given: Dict[str, Any], _deadline: float) -> Part:
    """Processor, memory, system and network."""
    from ansible_collections.citadel.llm.plugins.module_utils import _host_check, _host_info
    from ansible_collections.citadel.llm.plugins.module_utils._check_arguments import HOST

    options = validated(HOST, given["host"])
    facts = _host_info.gather(options["root"])
    return Part(_host_check.check(options, facts), {"host": facts})


def gpu(given: Dict[str, Any], _deadline: float) -> Part:
    """GPUs, driver and the models on these GPUs, with one look at nvidia-smi for all."""
    from ansible_collections.citadel.llm.plugins.module_utils import (
        _driver_check,
        _gpu_check,
        _gpu_check_arguments,
    )
    from ansible_collections.citadel.llm.plugins.module_utils import _gpu_arguments as arguments

    gpus, driver, models = given.get("gpus"), given.get("driver"), _models(given.get("models"))
    shared = {name: one[name] for one in (driver or {}, gpus or {}) for name in LOOK if name in one}
    options = {
        "gpus": validated(_gpu_check_arguments.GPUS, dict(gpus or {}, **shared)),
        "driver": validated(_gpu_check_arguments.DRIVER, dict(driver or {}, **shared)),
    }
    wanted_gpus = _gpu_check_arguments.expected_gpus(options["gpus"])
    wanted_driver = _gpu_check_arguments.expected_driver(options["driver"])
    info = arguments.info(options["gpus"])
    findings = _gpu_check.check(info, wanted_gpus) if gpus is not None else []
    findings += _driver_check.check(info, wanted_driver) if driver is not None else []
    if not models:
        return Part(findings, {"gpu": info})
    found, fits = _fit(models, info)
    return Part(findings + found, {"gpu": info, "models": fits})


def _models(given: Optional[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """The options of model_fit for each model. Raises ValueError that names the entry."""
    if given is None:
        return []
    from ansible_collections.citadel.llm.plugins.module_utils._model_fit_arguments import (
        MODEL_FIT,
        model_fit_problem,
    )

    spec = dict(MODEL_FIT, **MODEL_HERE)
    entries = validated({"models": {"type": "list", "elements": "dict", "required": True}}, given)["models"]
    result = []
    for number, entry in enumerate(entries):
        try:
            options = validated(spec, entry)
            problem = model_fit_problem(options)
        except ValueError as error:
            problem = str(error)
        if problem:
            raise ValueError("models[%d]: %s" % (number, problem))
        result.append(options)
    return result


def _fit(models: List[Dict[str, Any]], info: Dict[str, Any]) -> Tuple[List[Finding], List[Dict[str, Any]]]:
    """Whether each model fits; without a memory of its own, on the GPUs that were found."""
    from ansible_collections.citadel.llm.plugins.module_utils import _model_fit

    findings: List[Finding] = []
    fits = []
    for options in models:
        if options["before_provisioning"] and options["path"] and not os.path.exists(options["path"]):
            findings.append(_not_fetched(options))
            continue
        memory = [
            gpu["memory_total_mib"]
            for gpu in info["gpus"]
            if gpu["memory_total_mib"] and (options["gpus"] is None or gpu["index"] in options["gpus"])
        ]
        seen = {"gpu_memory_mib": memory, "count": len(memory)} if memory else {}
        if options["gpu_memory_mib"] is not None or options["count"] is not None:
            seen = {}
        found, numbers = _model_fit.check(dict(options, **seen))
        findings += found
        fits.append(dict(numbers, name=options["name"] or options["path"]))
    return findings, fits


def _not_fetched(options: Dict[str, Any]) -> Finding:
    return unknown(
        "model.config",
        options["name"] or options["path"],
        expected="the model at %s" % options["path"],
        found="not there yet",
        why="The model is not in the store yet, so it is not known whether it fits on the GPUs.",
        remedy="Apply the stage model and look again, or describe the model in preflight_expected.models "
        "(config, weight_bytes).",
    )


def mounts(given: Dict[str, Any], _deadline: float) -> Part:
    """The expected mounts."""
    from ansible_collections.citadel.llm.plugins.module_utils._check_arguments import MOUNTS, mounts_problem

    options = validated(MOUNTS, given["mounts"])
    problem = mounts_problem(options)
    if problem:
        raise ValueError(problem)
    if not options["mounts"]:
        return Part([], {"mounts": []})
    from ansible_collections.citadel.llm.plugins.module_utils import _mount_check

    findings, sights = _mount_check.check(
        options["mounts"], options["root"], options["timeout"], options["before_provisioning"]
    )
    return Part(findings, {"mounts": sights})


def storage(given: Dict[str, Any], _deadline: float) -> Part:
    """Every disk and file system, expected or not: facts alone."""
    from ansible_collections.citadel.llm.plugins.module_utils import _storage_info
    from ansible_collections.citadel.llm.plugins.module_utils._check_arguments import MOUNTS

    options = validated(MOUNTS, given["mounts"])
    return Part([], {"storage": _storage_info.gather(options["root"], options["timeout"])})


def account(given: Dict[str, Any], _deadline: float) -> Part:
    """The service's account."""
    from ansible_collections.citadel.llm.plugins.module_utils import _account_check
    from ansible_collections.citadel.llm.plugins.module_utils._check_arguments import ACCOUNT, account_problem

    options = validated(ACCOUNT, given["account"])
    problem = account_problem(options)
    if problem:
        raise ValueError(problem)
    findings, facts = _account_check.check(options, options["root"], options["timeout"])
    return Part(findings, {"account": facts})


def endpoints(given: Dict[str, Any], deadline: float) -> Part:
    """The neighbours."""
    from ansible_collections.citadel.llm.plugins.module_utils._check_arguments import (
        ENDPOINTS,
        endpoints_problem,
    )

    options = validated(ENDPOINTS, given["endpoints"])
    problem = endpoints_problem(options)
    if problem:
        raise ValueError(problem)
    if not options["endpoints"]:
        return Part([], {"endpoints": []})
    from ansible_collections.citadel.llm.plugins.module_utils import _endpoint_check

    within = min(options["deadline"], max(deadline - MARGIN, MARGIN))
    findings, records = _endpoint_check.check(options["endpoints"], within)
    return Part(findings, {"endpoints": records})


# What is looked at together, the sections that ask for it, and how. Order is the order of the report.
RUNNERS: Dict[str, Tuple[Tuple[str, ...], Callable[[Dict[str, Any], float], Part]]] = {
    "host": (("host",), host),
    "gpu": (("gpus", "driver", "models"), gpu),
    "mounts": (("mounts",), mounts),
    "storage": (("mounts",), storage),
    "account": (("account",), account),
    "endpoints": (("endpoints",), endpoints),
}

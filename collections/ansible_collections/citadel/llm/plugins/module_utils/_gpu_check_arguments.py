# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of gpu_check and driver_check, and what they make the checks expect."""

from __future__ import annotations

import platform
from typing import Any, Dict, Tuple

from ansible_collections.citadel.llm.plugins.module_utils import _compatibility as compatibility
from ansible_collections.citadel.llm.plugins.module_utils import _driver_check as driver
from ansible_collections.citadel.llm.plugins.module_utils import _gpu_arguments as arguments
from ansible_collections.citadel.llm.plugins.module_utils._gpu_expected import Expected, Record

GPUS: Dict[str, Dict[str, Any]] = dict(
    arguments.CHECK,
    count={"type": "int"},
    name={"type": "str"},
    memory_mib={"type": "int"},
    memory_gb={"type": "float"},
    compute_capability={"type": "str"},
    tensor_parallel={"type": "list", "elements": "list", "default": []},
    records={
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "source": {"type": "str", "required": True},
            "name": {"type": "str"},
            "count": {"type": "int"},
            "memory_gb": {"type": "float"},
        },
    },
    stack=arguments.STACK,
    machine={"type": "str"},
    allowed_processes={"type": "list", "elements": "str", "default": []},
    used_memory_mib={"type": "int", "default": 600},
    persistence={"type": "bool", "default": True},
    ecc={"type": "bool"},
    mig={"type": "bool", "default": False},
)

VERSIONS = ("version", "version_min", "version_max", "branch", "cuda_min")
DRIVER: Dict[str, Dict[str, Any]] = dict(
    arguments.CHECK,
    version={"type": "str"},
    version_min={"type": "str"},
    version_max={"type": "str"},
    branch={"type": "str"},
    flavour={"type": "str", "choices": ["open", "proprietary"]},
    cuda_min={"type": "str"},
    stack=arguments.STACK,
    held={"type": "bool", "default": False},
)


def groups(given: Any) -> Tuple[Tuple[int, ...], ...]:
    """Groups of GPU indices. Raises ValueError for what is not a whole number, naming the group."""
    result = []
    for number, group in enumerate(given):
        try:
            result.append(tuple(int(index) for index in group))
        except (TypeError, ValueError):
            raise ValueError(
                f"tensor_parallel[{number}]: {group!r} is not a list of GPU indices such as [0, 1]"
            ) from None
    return tuple(result)


def expected_gpus(params: Dict[str, Any]) -> Expected:
    """What the parameters expect. Raises ValueError for a value that cannot be."""
    if params["compute_capability"] is not None:
        compatibility.version(params["compute_capability"])
    return Expected(
        count=params["count"],
        name=params["name"],
        memory_mib=params["memory_mib"],
        memory_gb=params["memory_gb"],
        compute_capability=params["compute_capability"],
        tensor_parallel=groups(params["tensor_parallel"]),
        records=tuple(Record(**record) for record in params["records"]),
        stack=arguments.stack(params),
        machine=params["machine"] or platform.machine(),
        allowed_processes=tuple(params["allowed_processes"]),
        free_mib=params["used_memory_mib"],
        persistence=params["persistence"],
        ecc=params["ecc"],
        mig=params["mig"],
    )


def expected_driver(params: Dict[str, Any]) -> driver.Expected:
    """What the parameters expect. Raises ValueError for what is not a version, naming the parameter."""
    for name in VERSIONS:
        if params[name] is not None:
            try:
                compatibility.version(params[name])
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
    return driver.Expected(
        flavour=params["flavour"],
        stack=arguments.stack(params),
        held=params["held"],
        **{name: params[name] for name in VERSIONS},
    )

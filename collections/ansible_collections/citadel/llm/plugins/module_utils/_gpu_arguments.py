# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The arguments that the GPU modules share."""

from __future__ import annotations

from typing import Any, Dict, Optional

from ansible_collections.citadel.llm.plugins.module_utils import _compatibility as compatibility
from ansible_collections.citadel.llm.plugins.module_utils._compatibility_table import Stack
from ansible_collections.citadel.llm.plugins.module_utils._gpu_info import Request, gather

LOOK: Dict[str, Dict[str, Any]] = {
    "nvidia_smi": {"type": "str", "default": "nvidia-smi"},
    "source": {"type": "path"},
    "root": {"type": "path", "default": "/"},
    "kernel_log": {"type": "path"},
    "timeout": {"type": "float", "default": 5.0},
}
CHECK: Dict[str, Dict[str, Any]] = dict(LOOK, info={"type": "dict"})

STACK: Dict[str, Any] = {
    "type": "dict",
    "options": {"name": {"type": "str"}, "vllm": {"type": "str"}, "torch": {"type": "str"}},
}

# Keys that every answer of gpu_info has: a given ``info`` without them is something else.
_REQUIRED = ("gpus", "driver", "driver_version", "error_code", "source")


def request(params: Dict[str, Any]) -> Request:
    """The request that a module's parameters make. Raises ValueError for a bad time limit."""
    if not 0 < params["timeout"] <= 600:
        raise ValueError(
            f"timeout: {params['timeout']:g} is not above 0 and at most 600 seconds; the default is 5"
        )
    return Request(**{name: params[name] for name in LOOK})


def stack(params: Dict[str, Any]) -> Optional[Stack]:
    """The stack that was asked for, or None. Raises ValueError when its torch build cannot be known."""
    given = params["stack"]
    return compatibility.stack(given) if given else None


def info(params: Dict[str, Any]) -> Dict[str, Any]:
    """The given ``info``, else what is found now. Raises ValueError for one that gpu_info did not return."""
    given = params["info"]
    if given is None:
        return gather(request(params))
    missing = [key for key in _REQUIRED if key not in given]
    if missing:
        raise ValueError(
            f"info: {', '.join(missing)} missing; register the result of citadel.llm.gpu_info and give that"
        )
    return dict(given)

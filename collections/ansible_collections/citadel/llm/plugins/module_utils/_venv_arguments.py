# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of venv_release, and what else their values have to be."""

from __future__ import annotations

import os
from typing import Any, Dict, Optional


def argument_spec() -> Dict[str, Any]:
    return {
        "state": {"type": "str", "choices": ["current", "present", "rolled_back"], "default": "current"},
        "releases": {"type": "path", "required": True},
        "link": {"type": "path", "required": True},
        "lock": {"type": "path"},
        "wheels": {"type": "list", "elements": "path", "default": []},
        "controller": {
            "type": "dict",
            "options": {
                "lock": {"type": "path", "required": True},
                "wheels": {"type": "list", "elements": "path", "default": []},
            },
        },
        "expected": {"type": "dict"},
        "python": {"type": "path", "default": "/usr/bin/python3"},
        "uv": {"type": "path", "required": True},
        "index_url": {"type": "str", "no_log": True},
        "extra_index_urls": {"type": "list", "elements": "str", "default": [], "no_log": True},
        "wheelhouse": {"type": "path"},
        "offline": {"type": "bool", "default": False},
        "only_binary": {"type": "bool", "default": True},
        "cache_dir": {"type": "path"},
        "imports": {"type": "list", "elements": "str", "default": []},
        "commands": {"type": "list", "elements": "list", "default": []},
        "trial_environment": {"type": "dict", "default": {}},
        "trial_timeout": {"type": "int", "default": 300},
        "build_timeout": {"type": "int", "default": 3600},
        "gpu_count": {"type": "int"},
        "free_space": {"type": "int", "default": 0},
        "keep": {"type": "int", "default": 3},
        "freeze_path": {"type": "path"},
        "activate_path": {"type": "path"},
        "owner": {"type": "str"},
        "group": {"type": "str"},
    }


def check_values(params: Dict[str, Any]) -> Optional[str]:
    """What is wrong with the parameters' values, or None."""
    single = (
        "releases",
        "link",
        "lock",
        "python",
        "uv",
        "wheelhouse",
        "cache_dir",
        "freeze_path",
        "activate_path",
    )
    paths = [(name, params[name]) for name in single] + [("wheels", wheel) for wheel in params["wheels"]]
    for name, value in paths:
        if value is not None and not os.path.isabs(value):
            return f"{name} must be an absolute path, not {value!r}"
    for name, lowest in (
        ("keep", 1),
        ("trial_timeout", 1),
        ("build_timeout", 1),
        ("free_space", 0),
        ("gpu_count", 0),
    ):
        if params[name] is not None and params[name] < lowest:
            return f"{name} must be {lowest} or more, not {params[name]}"
    if not all(params["commands"]):
        return "commands holds an empty command: give each one as a list of arguments"
    if params["controller"] is not None and params["expected"] is None:
        return (
            "controller: it is read by an action plugin: call the module by its name citadel.llm.venv_release"
        )
    if params["offline"] and params["wheelhouse"] is None:
        return "offline needs a wheelhouse to install from"
    return None

# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is expected of a host: what follows from an inventory's other variables, and what is told by it."""

from __future__ import annotations

import posixpath
import re
from typing import Any, Callable, Dict, List, Sequence

from ansible_collections.citadel.llm.plugins.module_utils import _preflight_models

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def joined(section: str, options: Any) -> Any:
    """The options of a section: entries for the same mount or endpoint made one, the later wins.

    What is None is left out, so that an inventory can take back what follows from a role.
    """
    keys = {"mounts": _mount_key, "endpoints": _endpoint_key}
    if section in keys and isinstance(options, dict) and isinstance(options.get(section), list):
        options = dict(options, **{section: _by(keys[section], options[section])})
    return _told(options)


def _told(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _told(one) for key, one in value.items() if one is not None}
    return [_told(one) for one in value] if isinstance(value, list) else value


def _by(key: Callable[[Dict[str, Any]], Any], entries: List[Any]) -> List[Any]:
    result: List[Any] = []
    places: Dict[Any, int] = {}
    for entry in entries:
        name = key(entry) if isinstance(entry, dict) else None
        if name is not None and name in places:
            result[places[name]] = dict(result[places[name]], **entry)
            continue
        if name is not None:
            places[name] = len(result)
        result.append(entry)
    return result


def _mount_key(entry: Dict[str, Any]) -> Any:
    return posixpath.normpath(str(entry["path"])) if entry.get("path") else None


def _endpoint_key(entry: Dict[str, Any]) -> Any:
    return entry.get("name") or (entry.get("host"), entry.get("port"))


def expectations(known: Dict[str, Any], told: Dict[str, Any], sections: Sequence[str]) -> Dict[str, Any]:
    """The options of each section: what follows from ``known``, with ``told`` laid over it.

    ``known`` has what an inventory says of other things than the preflight, see the module's option. Lists of
    mounts and endpoints are joined, any other list of ``told`` takes the place of the derived one. GPUs and
    driver are left out where the stack needs none and nothing is told of them, models where there are none.
    """
    derived = _derived(known)
    if told.get("models") is not None:
        derived["models"] = {}
    if not dict(derived["models"], **(told.get("models") or {})).get("models"):
        sections = [section for section in sections if section != "models"]
    if _needs_no_gpu(known) and not ("gpus" in told or "driver" in told):
        sections = [section for section in sections if section not in ("gpus", "driver")]
    return {
        section: joined(section, _laid_over(section, derived.get(section, {}), told.get(section) or {}))
        for section in sections
    }


def _laid_over(section: str, below: Dict[str, Any], above: Any) -> Any:
    if not isinstance(above, dict):
        return above
    result = dict(below)
    for name, value in above.items():
        old = result.get(name)
        if isinstance(old, dict) and isinstance(value, dict):
            result[name] = dict(old, **value)
        elif name == section and isinstance(old, list) and isinstance(value, list):
            result[name] = old + value
        else:
            result[name] = value
    return result


def _needs_no_gpu(known: Dict[str, Any]) -> bool:
    return known.get("stack") in (None, "", "cpu", "none")


def _derived(known: Dict[str, Any]) -> Dict[str, Any]:
    before = bool(known.get("before_provisioning"))
    stack = _stack(known)
    gpus = dict(stack, allowed_processes=known.get("allowed_processes") or [])
    if int(known.get("gpu_count", -1)) >= 0:
        gpus["count"] = int(known["gpu_count"])
    widest = max((_width(one) for one in known.get("deployments") or []), default=1)
    if widest > 1:
        gpus["tensor_parallel"] = [list(range(widest))]
    mounts = [
        {"path": one.get("path"), "device": one.get("device"), "in_fstab": True}
        for one in known.get("mounts") or []
    ]
    return {
        "host": {"os": known.get("os"), "python_min": known.get("python_min")},
        "gpus": gpus,
        "driver": stack,
        "models": {} if _needs_no_gpu(known) else {"models": _preflight_models.deployed(known)},
        "mounts": {"mounts": mounts, "before_provisioning": before},
        "account": dict(known.get("account") or {}, before_provisioning=before),
        "endpoints": {"endpoints": _neighbours(known.get("checks") or [])},
    }


def _stack(known: Dict[str, Any]) -> Dict[str, Any]:
    """The stack by its name, or by the torch build in a lock; nothing where neither says it."""
    if _needs_no_gpu(known):
        return {}
    lock = known.get("lock")
    if not lock:
        return {"stack": {"name": known["stack"]}}
    found = re.search(r"^torch==([0-9A-Za-z.+]+)", str(lock), re.MULTILINE)
    return {"stack": {"name": "of the lock", "torch": found.group(1)}} if found else {}


def _width(deployment: Dict[str, Any]) -> int:
    arguments = deployment.get("arguments") or {}
    value = arguments.get("tensor-parallel-size") or arguments.get("tensor_parallel_size") or 1
    return int(value) if str(value).isdigit() else 1


def _neighbours(checks: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    return [
        {"name": one.get("name"), "host": one["host"], "port": one.get("port"), "severity": "deviation"}
        for one in checks
        if one.get("kind") == "tcp" and one.get("host") not in (None, *LOOPBACK)
    ]

# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of gated_service, what else their values have to be, and the request that they make."""

from __future__ import annotations

import os
import re
from typing import Any, Dict, List, Optional, Tuple

from ansible_collections.citadel.llm.plugins.module_utils._files import (
    parse_mode,
    resolve_group,
    resolve_owner,
)
from ansible_collections.citadel.llm.plugins.module_utils._known_good import StoredFile
from ansible_collections.citadel.llm.plugins.module_utils._retired_units import (
    INSTANCE,
    Retire,
    retired_units,
)
from ansible_collections.citadel.llm.plugins.module_utils._unit_state import Request, UnitSpec

_UNIT_NAME = re.compile(r"\A[A-Za-z0-9:_.\\@-]+\.(?:service|socket|timer|path|target|mount)\Z")


def argument_spec() -> Dict[str, Any]:
    file_options: Dict[str, Any] = {
        "path": {"type": "path", "required": True},
        "content": {"type": "str", "no_log": True},
        "mode": {"type": "str", "default": "0644"},
        "owner": {"type": "str"},
        "group": {"type": "str"},
        "sensitive": {"type": "bool", "default": False},
    }
    unit_options: Dict[str, Any] = {
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["started", "stopped", "absent"], "default": "started"},
        "enabled": {"type": "bool"},
        "files": {"type": "list", "elements": "dict", "default": [], "options": file_options},
        "restart_on": {"type": "list", "elements": "path", "default": []},
        "reload_on": {"type": "list", "elements": "path", "default": []},
        "health": {"type": "list", "elements": "list", "default": []},
        "timeout": {"type": "int"},
    }
    retire_options: Dict[str, Any] = {
        "unit": {"type": "str", "required": True},
        "files": {"type": "list", "elements": "str", "required": True},
        "marker": {"type": "str", "required": True},
        "before": {"type": "list", "elements": "list", "default": []},
    }
    return {
        "units": {"type": "list", "elements": "dict", "required": True, "options": unit_options},
        "retire": {"type": "dict", "options": retire_options},
        "links": {"type": "list", "elements": "path", "default": []},
        "health": {"type": "list", "elements": "list", "default": []},
        "health_timeout": {"type": "int", "default": 30},
        "timeout": {"type": "int", "default": 600},
        "state_dir": {"type": "path", "default": "/var/lib/citadel/known-good"},
        "journal_lines": {"type": "int", "default": 30},
    }


def check_files(params: Dict[str, Any]) -> Optional[str]:
    """What is wrong with the units' files, or None."""
    contents: Dict[str, str] = {}
    for unit in params["units"]:
        for file in unit["files"] if unit["state"] != "absent" else ():
            if file["content"] is None:
                return f"files of {unit['name']}: {file['path']} has no content"
            if contents.setdefault(file["path"], file["content"]) != file["content"]:
                return f"files of {unit['name']}: {file['path']} has another content in an earlier unit"
    return None


def check_values(params: Dict[str, Any]) -> Optional[str]:
    """What is wrong with the parameters' values, or None."""
    paths = [("state_dir", params["state_dir"]), *(("links", link) for link in params["links"])]
    for unit in params["units"]:
        if not _UNIT_NAME.match(unit["name"]):
            return f"units: {unit['name']!r} is not a unit's full name, such as citadel-gateway.service"
        for option in ("restart_on", "reload_on"):
            paths += [(f"{option} of {unit['name']}", path) for path in unit[option]]
        paths += [(f"files of {unit['name']}", file["path"]) for file in unit["files"]]
    paths += [("retire.files", path) for path in _retire(params)["files"]]
    for name, path in paths:
        if not os.path.isabs(path):
            return f"{name}: {path!r} is not an absolute path"
    names = [unit["name"] for unit in params["units"]]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        return f"units: {', '.join(twice)} is listed more than once"
    commands = [command for unit in params["units"] for command in unit["health"]]
    if not all([*params["health"], *commands, *_retire(params)["before"]]):
        return "health or retire.before holds an empty command: give each one as a list of arguments"
    return check_retire(params) or check_files(params)


def check_retire(params: Dict[str, Any]) -> Optional[str]:
    """What is wrong with `retire`, or None."""
    retire = params["retire"]
    if retire is None:
        return None
    if INSTANCE not in retire["unit"] or not _UNIT_NAME.match(retire["unit"].replace(INSTANCE, "x")):
        return f"retire.unit: {retire['unit']!r} is not an instance's full name with {INSTANCE} in it"
    if not any(INSTANCE in path for path in retire["files"]):
        return f"retire.files: none of the paths has {INSTANCE} in it, so no instance can be found by them"
    if not retire["marker"].strip():
        return "retire.marker is empty: everybody's files would count"
    return None


def _retire(params: Dict[str, Any]) -> Dict[str, Any]:
    return params["retire"] or {"files": [], "before": []}


def stored_file(file: Dict[str, Any], check: bool) -> StoredFile:
    """The file as it shall be. Raises LookupError and ValueError; in check mode a user may not exist yet."""
    try:
        uid, gid = resolve_owner(file["owner"]), resolve_group(file["group"])
    except LookupError:
        if not check:
            raise
        uid, gid = -1, -1
    return StoredFile((file["content"] or "").encode(), parse_mode(file["mode"]), uid, gid)


def commands(value: List[List[Any]]) -> Tuple[Tuple[str, ...], ...]:
    return tuple(tuple(str(word) for word in command) for command in value)


def find_retired(params: Dict[str, Any]) -> List[UnitSpec]:
    """The instances that `retire` finds on the host."""
    given = params["retire"]
    if given is None:
        return []
    retire = Retire(given["unit"], tuple(given["files"]), given["marker"], timeout=params["timeout"])
    return retired_units(retire, {unit["name"] for unit in params["units"]})


def make_request(params: Dict[str, Any], check: bool) -> Request:
    units = [
        UnitSpec(
            name=unit["name"],
            state=unit["state"],
            enabled=unit["enabled"],
            files={file["path"]: stored_file(file, check) for file in unit["files"]},
            restart_on=tuple(unit["restart_on"]),
            reload_on=tuple(unit["reload_on"]),
            health=commands(unit["health"]),
            timeout=unit["timeout"] or params["timeout"],
        )
        for unit in params["units"]
    ]
    return Request(
        units=(*find_retired(params), *units),
        state_dir=params["state_dir"],
        links=tuple(params["links"]),
        health=commands(params["health"]),
        health_timeout=params["health_timeout"],
        journal_lines=params["journal_lines"],
        before_retirement=commands(_retire(params)["before"]),
    )

# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Joins what is expected of one thing in several places: derived from roles, and told in the inventory."""

from __future__ import annotations

import posixpath
from typing import Any, Callable, Dict, List


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

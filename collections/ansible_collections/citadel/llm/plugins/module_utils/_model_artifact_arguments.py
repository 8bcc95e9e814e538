# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of model_artifact, and the request that their values make."""

from __future__ import annotations

import json
import os
from typing import Any, Dict, Optional

from ansible.module_utils.common.text.formatters import human_to_bytes

from ansible_collections.citadel.llm.plugins.module_utils._files import resolve_group, resolve_owner
from ansible_collections.citadel.llm.plugins.module_utils._model_artifact import Request
from ansible_collections.citadel.llm.plugins.module_utils._model_manifest import Manifest, parse_manifest
from ansible_collections.citadel.llm.plugins.module_utils._model_snapshot import HubSource
from ansible_collections.citadel.llm.plugins.module_utils._model_store import Owner

DEFAULT_ENDPOINT = "https://huggingface.co"

_HUB: Dict[str, Any] = {
    "repository": {"type": "str", "required": True},
    "revision": {"type": "str", "required": True},
    "endpoint": {"type": "str"},
    "token": {"type": "str", "no_log": True},
    "allow_patterns": {"type": "list", "elements": "str", "default": []},
    "ignore_patterns": {"type": "list", "elements": "str", "default": []},
    "allow_moving_revision": {"type": "bool", "default": False},
    "parallel": {"type": "int", "default": 4},
    "timeout": {"type": "int", "default": 30},
}
MODEL_ARTIFACT: Dict[str, Any] = {
    "store": {"type": "path", "default": "/opt/citadel/models"},
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "verified", "absent"], "default": "present"},
    "source": {
        "type": "dict",
        "options": {
            "directory": {"type": "path"},
            "archive": {"type": "path"},
            "hub": {"type": "dict", "options": _HUB},
        },
        "mutually_exclusive": [("directory", "archive", "hub")],
        "required_one_of": [("directory", "archive", "hub")],
    },
    "remote_src": {"type": "bool", "default": False},
    "version": {"type": "str", "aliases": ["expected_version"]},
    "manifest": {"type": "path"},
    "checksums": {"type": "dict", "default": {}},
    "archive_sha256": {"type": "str"},
    "activate": {"type": "bool", "default": True},
    "keep": {"type": "int"},
    "reserve": {"type": "str", "default": "1G"},
    "owner": {"type": "str", "default": "citadel"},
    "group": {"type": "str", "default": "citadel"},
    # Of the action plugin: `manifest` of what it sends, `expected`, `user`, `directory` that it sent to.
    "transfer": {"type": "dict"},
}


class ArgumentError(Exception):
    """A value that cannot be; the message names the option and the remedy."""


def _check_values(params: Dict[str, Any], source: Dict[str, Any], transfer: Dict[str, Any]) -> None:
    given = params["source"] or "manifest" in transfer
    if params["state"] == "present" and not given and not params["version"]:
        raise ArgumentError("state=present needs a source, or the version of an installed model")
    if not os.path.isabs(params["store"]):
        raise ArgumentError(f"store: {params['store']!r} is not an absolute path")
    if params["keep"] is not None and params["keep"] < 1:
        raise ArgumentError(f"keep: {params['keep']} is less than 1: at least the active version stays")
    if (source.get("directory") or source.get("archive")) and not params["remote_src"]:
        raise ArgumentError(
            "source: the action plugin citadel.llm.model_artifact transfers a path on the controller: "
            "call the module by this full name, or set remote_src for a path on the host"
        )
    if params["manifest"] and "expected" not in transfer:
        raise ArgumentError(
            "manifest: the action plugin citadel.llm.model_artifact reads it on the controller"
        )


def make_request(params: Dict[str, Any], *, check_mode: bool) -> Request:
    """The request in the module's parameters. Raises ArgumentError, ManifestError, LookupError."""
    source = (params["source"] or {}) if params["state"] == "present" else {}
    transfer = params["transfer"] or {}
    _check_values(params, source, transfer)
    return Request(
        store=params["store"],
        name=params["name"],
        version=params["version"],
        pushed=_manifest(transfer.get("manifest")),
        directory=source.get("directory"),
        archive=source.get("archive"),
        archive_sha256=params["archive_sha256"],
        hub=hub_source(source.get("hub")),
        expected=_manifest(transfer.get("expected")),
        checksums={str(path): str(sha256) for path, sha256 in params["checksums"].items()},
        activate=params["activate"],
        keep=params["keep"],
        reserve=_reserve(params["reserve"]),
        owner=_owner(params, check_mode=check_mode),
        committing="directory" in transfer,
        upload=transfer.get("directory"),
        uploader=transfer.get("user"),
        check_mode=check_mode,
    )


def _manifest(value: Optional[Dict[str, Any]]) -> Optional[Manifest]:
    return parse_manifest(json.dumps(value), "the manifest of the controller") if value else None


def hub_source(options: Optional[Dict[str, Any]]) -> Optional[HubSource]:
    """The snapshot that `source.hub` names; the endpoint can come from the environment."""
    if options is None:
        return None
    return HubSource(
        repository=options["repository"],
        revision=options["revision"],
        endpoint=options["endpoint"] or os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT,
        token=options["token"],
        allow_patterns=tuple(options["allow_patterns"]),
        ignore_patterns=tuple(options["ignore_patterns"]),
        allow_moving_revision=options["allow_moving_revision"],
        parallel=options["parallel"],
        timeout_s=float(options["timeout"]),
    )


def _reserve(text: str) -> int:
    try:
        return int(human_to_bytes(text))
    except ValueError as error:
        raise ArgumentError(f"reserve: {text!r} is not a size: write it as 500M or 10G") from error


def _owner(params: Dict[str, Any], *, check_mode: bool) -> Owner:
    """The owner of installed files; check mode runs before the account is made, too."""
    if params["state"] != "present":
        return Owner()
    try:
        return Owner(resolve_owner(params["owner"]), resolve_group(params["group"]))
    except LookupError:
        if check_mode:
            return Owner()
        raise

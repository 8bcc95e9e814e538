# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of model_artifact: hashes a model on the controller, sends the files that the host lacks."""

from __future__ import annotations

import os
import tempfile
from typing import Any

from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.citadel.llm.plugins.module_utils._model_artifact import check_archive, check_same
from ansible_collections.citadel.llm.plugins.module_utils._model_cache import shared_cache
from ansible_collections.citadel.llm.plugins.module_utils._model_manifest import (
    Manifest,
    ManifestError,
    read_manifest,
)
from ansible_collections.citadel.llm.plugins.module_utils._model_source import Tree, open_tree
from ansible_collections.citadel.llm.plugins.module_utils._model_store import human
from ansible_collections.citadel.llm.plugins.module_utils._model_weights import check_files

MODULE = "citadel.llm.model_artifact"
_LARGE = 64 << 20
display = Display()


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Runs the module once where nothing is to be sent, and otherwise before and after the transfer."""

    TRANSFERS_FILES = True
    _supports_check_mode = True
    _supports_async = True
    _requires_connection = True

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        arguments = dict(self._task.args)
        source = arguments.get("source")
        try:
            if arguments.get("manifest"):
                expected = self._expected(str(arguments["manifest"]))
                arguments["transfer"] = {"expected": expected.as_dict()}
            if not isinstance(source, dict) or not self._is_on_controller(arguments, source):
                return self._call(arguments, task_vars, may_be_async=True)
            self._refuse_async()
            tree = self._open(source)
            if tree is None:
                return self._not_there_yet(arguments, source)
            return self._transfer(tree, arguments, task_vars)
        except (ManifestError, OSError) as error:
            return {"failed": True, "changed": False, "msg": f"{arguments.get('name', MODULE)}: {error}"}

    def _refuse_async(self) -> None:
        if self._task.async_val:
            raise ManifestError(
                "a model on the controller cannot be transferred in the background: "
                "leave out async, or put the model on the host and set remote_src"
            )

    def _expected(self, path: str) -> Manifest:
        try:
            return read_manifest(self._find_needle("files", os.path.expanduser(path)))
        except AnsibleError as error:
            raise ManifestError(f"manifest: {path} is not on the controller: correct the path") from error

    @staticmethod
    def _is_on_controller(arguments: dict[str, Any], source: dict[str, Any]) -> bool:
        return (
            arguments.get("state", "present") == "present"
            and not boolean(arguments.get("remote_src", False), strict=False)
            and [key for key, value in source.items() if value is not None] in (["directory"], ["archive"])
        )

    def _call(
        self, arguments: dict[str, Any], task_vars: dict[str, Any], *, may_be_async: bool = False
    ) -> dict[str, Any]:
        wrap = bool(may_be_async and self._task.async_val and not self._connection.has_native_async)
        result: dict[str, Any] = self._execute_module(
            module_name=MODULE, module_args=arguments, task_vars=task_vars, wrap_async=wrap
        )
        return result

    def _open(self, source: dict[str, Any]) -> Tree | None:
        """The model on the controller; None in check mode where an earlier task would have made it."""
        kind = "archive" if source.get("archive") is not None else "directory"
        try:
            path = self._find_needle("files", os.path.expanduser(str(source[kind])))
        except AnsibleError as error:
            if self._task.check_mode:
                return None
            raise ManifestError(
                f"source.{kind}: {source[kind]} is not on the controller: prepare it first, "
                "or set remote_src for a path on the host"
            ) from error
        return open_tree(path if kind == "directory" else None, path if kind == "archive" else None)

    @staticmethod
    def _not_there_yet(arguments: dict[str, Any], source: dict[str, Any]) -> dict[str, Any]:
        path = source.get("directory") or source.get("archive")
        return {
            "changed": True,
            "version": "",
            "path": "",
            "warnings": [f"{arguments.get('name')}: {path} is not on the controller yet"],
        }

    def _transfer(self, tree: Tree, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        manifest = self._manifest(tree, arguments)
        arguments = {
            key: value for key, value in arguments.items() if key not in ("source", "archive_sha256")
        }
        told = {
            **arguments.get("transfer", {}),
            "manifest": manifest.as_dict(),
            "user": self._get_remote_user() or None,
        }
        arguments["transfer"] = told
        result = self._call(arguments, task_vars)
        transfer = result.pop("transfer", None)
        if result.get("failed") or transfer is None:
            return result
        if not tree.temporary:
            check_files([entry.path for entry in manifest.files], tree.locate)
        self._send(tree, manifest, transfer["directory"], transfer["paths"])
        result = self._call(
            {**arguments, "transfer": {**told, "directory": transfer["directory"]}}, task_vars
        )
        result.pop("transfer", None)
        return result

    def _manifest(self, tree: Tree, arguments: dict[str, Any]) -> Manifest:
        """The manifest of the files as they are, compared with the one that lies beside them."""
        root = os.environ.get("CITADEL_CACHE") or "~/.cache/citadel"
        folder = os.path.join(os.path.expanduser(root), "hashes")
        with shared_cache(folder, tree.root) as cache:
            check_archive(tree, arguments.get("archive_sha256"), cache)
            manifest = tree.manifest(cache)
        check_same(tree.own_manifest(), manifest, f"the manifest in {tree.root}")
        return manifest

    def _send(self, tree: Tree, manifest: Manifest, directory: str, paths: list[str]) -> None:
        """Send the content of these paths to the host, each under its sha256."""
        entries = manifest.by_path()
        with tempfile.TemporaryDirectory(prefix="citadel-model-") as scratch:
            for number, (path, file) in enumerate(tree.files(set(paths), scratch), start=1):
                entry = entries[path]
                text = f"sending {path} ({human(entry.size)}, {number} of {len(paths)})"
                if entry.size >= _LARGE:
                    display.display(f"{self._task.args['name']}: {text}", stderr=True)
                else:
                    display.v(text)
                self._transfer_file(file, f"{directory}/{entry.sha256}")

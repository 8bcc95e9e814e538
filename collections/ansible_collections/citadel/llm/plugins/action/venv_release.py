# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of venv_release: tells the host what the lock and the wheels on the controller mean."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.citadel.llm.plugins.module_utils._release import ReleaseError
from ansible_collections.citadel.llm.plugins.module_utils._venv_plan import read_inputs

MODULE = "citadel.llm.venv_release"


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Sends no file: a host that has the release already needs none."""

    _supports_check_mode = True
    _supports_async = True
    _requires_connection = True

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        controller = arguments.get("controller")
        try:
            if isinstance(controller, dict) and controller.get("lock"):
                lock, *wheels = (
                    self._find(path) for path in [controller["lock"], *(controller.get("wheels") or [])]
                )
                arguments["expected"] = asdict(read_inputs(lock, wheels))
        except ReleaseError as error:
            return {"failed": True, "changed": False, "reason": error.reason, "msg": str(error)}
        except OSError as error:
            return {
                "failed": True,
                "changed": False,
                "reason": "missing",
                "msg": f"controller: {error.filename}: {error.strerror}",
            }
        result: dict[str, Any] = self._execute_module(
            module_name=MODULE,
            module_args=arguments,
            task_vars=task_vars,
            wrap_async=self._task.async_val and not self._connection.has_native_async,
        )
        return result

    def _find(self, path: Any) -> str:
        try:
            return str(self._find_needle("files", os.path.expanduser(str(path))))
        except AnsibleError as error:
            raise ReleaseError(
                "missing",
                f"controller: {path} is not on the controller: prepare it first, or correct the path",
            ) from error

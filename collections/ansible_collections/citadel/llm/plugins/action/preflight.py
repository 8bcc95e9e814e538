# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of preflight: runs the checks, without root where it is refused, and applies acceptances."""

from __future__ import annotations

import contextlib
import datetime
import os
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.citadel.llm.plugins.module_utils import _preflight_accepted as acceptances
from ansible_collections.citadel.llm.plugins.module_utils._findings import as_dicts, unknown
from ansible_collections.citadel.llm.plugins.module_utils._preflight import SECTIONS
from ansible_collections.citadel.llm.plugins.module_utils._preflight_expected import expectations, joined
from ansible_collections.citadel.llm.plugins.module_utils._preflight_models import read

MODULE = "citadel.llm.preflight"
EMPTY: dict[str, Any] = {"findings": [], "facts": {}, "seconds": {}}


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Never fails for the state of the host; what cannot be found out is told in the result."""

    _supports_check_mode = True
    _requires_connection = True

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        try:
            accepted = acceptances.parse(arguments.pop("accepted", None) or [])
            fail_on = self._classes(arguments.pop("fail_on", ["blocking"]))
        except ValueError as error:
            return {"failed": True, "changed": False, "msg": f"{error}. Correct it in the inventory."}
        arguments = self._expected(arguments)
        result, refused = self._look(arguments, task_vars or {})
        if result.get("invalid"):
            return result
        if "findings" not in result:
            return {"changed": False, **self._judged(EMPTY, accepted, fail_on), "reason": _reason(result)}
        if refused:
            result["findings"] = as_dicts([_no_root(refused)]) + result["findings"]
        return {**result, **self._judged(result, accepted, fail_on), "reason": None}

    def _expected(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The module's arguments: each section as it is given, else what follows from known and expected."""
        known, told = arguments.pop("known", None), arguments.pop("expected", None)
        sections = arguments.pop("sections", None) or SECTIONS
        given = {name: joined(name, options) for name, options in arguments.items()}
        if known is None and told is None:
            return given
        known = dict(known or {})
        if "models" in sections:
            known["configs"] = self._configs(known)
        return {**expectations(known, told or {}, sections), **given}

    def _configs(self, known: dict[str, Any]) -> dict[str, Any]:
        """What is known of the models that lie on the controller and are deployed, by name."""
        wanted = {str(one.get("model")) for one in known.get("deployments") or []}
        found = {}
        for name, directory in (known.get("sources") or {}).items():
            if name in wanted:
                with contextlib.suppress(AnsibleError):  # not there: told by the stage that needs it
                    place = self._find_needle("files", os.path.expanduser(str(directory)))
                    found[name] = read(place)
        return found

    @staticmethod
    def _classes(given: Any) -> list[str]:
        classes = [given] if isinstance(given, str) else list(given or [])
        for name in classes:
            if name not in acceptances.CLASSES:
                raise ValueError(f"fail_on: {name!r} is none of {', '.join(acceptances.CLASSES)}")
        return classes

    def _look(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> tuple[dict[str, Any], str]:
        """The module's result, and why root rights were refused, or an empty string."""
        result = self._call(arguments, task_vars)
        if "findings" in result or result.get("invalid") or self._connection.become is None:
            return result, ""
        self._connection.set_become_plugin(None)
        again = self._call(arguments, task_vars)
        return (again, _reason(result)) if "findings" in again else (result, "")

    def _call(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        try:
            result: dict[str, Any] = self._execute_module(
                module_name=MODULE, module_args=arguments, task_vars=task_vars
            )
        except AnsibleConnectionFailure:
            raise
        except AnsibleError as error:  # a refused password, no way to become root
            return {"failed": True, "msg": str(error)}
        return result

    @staticmethod
    def _judged(
        result: dict[str, Any], accepted: list[acceptances.Acceptance], fail_on: list[str]
    ) -> dict[str, Any]:
        today = datetime.datetime.now().astimezone().date()
        findings, unused = acceptances.apply(result["findings"], accepted, today)
        return {
            **EMPTY,
            **result,
            "findings": findings,
            **acceptances.summarise(findings),
            "stopping": acceptances.stopping(findings, fail_on),
            "unused": [one.as_dict() for one in unused],
        }


def _no_root(reason: str) -> Any:
    return unknown(
        "preflight.root",
        "root rights",
        expected="root rights (become)",
        found="refused",
        why=f"Not everything could be looked at, because root rights were refused: {reason}",
        remedy="Let the user use sudo, give its password (--ask-become-pass), or log in as another user.",
    )


def _reason(result: dict[str, Any]) -> str:
    """Why a module gave no answer, in one line."""
    said = [result.get(name) for name in ("module_stderr", "module_stdout", "msg")]
    lines = [line.strip() for text in said if text for line in str(text).splitlines() if line.strip()]
    told = next(
        (line for line in lines if not line.startswith(("Warning: Permanently", "Shared connection"))), ""
    )
    return told or "the host gave no answer"

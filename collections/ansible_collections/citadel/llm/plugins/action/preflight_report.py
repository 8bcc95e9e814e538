# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin preflight_report: writes the reports of a run on the controller."""

from __future__ import annotations

import datetime
import os
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.citadel.llm.plugins.plugin_utils import _report as reports
from ansible_collections.citadel.llm.plugins.plugin_utils import _report_files as files
from ansible_collections.citadel.llm.plugins.plugin_utils._report_render import render, table

display = Display()


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Runs on the controller alone, once for all hosts, and changes nothing on any of them."""

    _VALID_ARGS = frozenset({"register", "directory", "keep", "hosts"})
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _result, options = self.validate_argument_spec(
            argument_spec={
                "register": {"type": "str", "required": True},
                "directory": {"type": "str", "default": ""},
                "keep": {"type": "int", "default": 10},
                "hosts": {"type": "list", "elements": "str"},
            }
        )
        variables = task_vars or {}
        now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
        folder = os.path.abspath(os.path.expanduser(options["directory"])) if options["directory"] else ""
        results = self._results(options, variables)
        moment = now.strftime("%Y%m%dT%H%M%SZ")
        try:
            every = [self._one(name, *found, folder, now, moment, options["keep"]) for name, found in results]
            fleet = reports.fleet_report(every, generated_at=now.isoformat())
            self._write(folder, "fleet", fleet, moment, options["keep"])
        except OSError as error:
            return {
                "failed": True,
                "msg": f"the report cannot be written to {folder}: {error.strerror or error}. Set "
                "preflight_report_dir to a directory that you may write to, or to '' for no files.",
            }
        text = table(every)
        display.display(text)
        if folder:
            display.display(f"report: {os.path.join(folder, 'fleet.html')}")
        return {
            "changed": False,
            "verdict": fleet["verdict"],
            "summary": fleet["summary"],
            "verdicts": {host["host"]: host["verdict"] for host in every},
            "path": os.path.join(folder, "fleet.html") if folder else None,
        }

    @staticmethod
    def _results(
        options: dict[str, Any], variables: dict[str, Any]
    ) -> list[tuple[str, tuple[dict[str, Any], str | None]]]:
        """What was registered on each host; a host without has not been looked at in this run."""
        names = options["hosts"] or variables.get("ansible_play_hosts_all") or []
        found = []
        for name in names:
            host = variables["hostvars"][name]
            if (result := host.get(options["register"])) is not None:
                address = host.get("ansible_host")
                found.append((name, (_plain(result), None if address is None else str(address))))
        return found

    def _one(
        self,
        name: str,
        result: dict[str, Any],
        address: str | None,
        folder: str,
        now: datetime.datetime,
        moment: str,
        keep: int,
    ) -> dict[str, Any]:
        place = os.path.join(folder, files.folder_of(name))
        report = reports.host_report(
            name,
            result,
            address=address,
            generated_at=now.isoformat(),
            before=files.previous(os.path.join(place, "report.json"), "host") if folder else None,
        )
        if folder:
            self._write(place, "report", report, moment, keep)
        return report

    @staticmethod
    def _write(folder: str, stem: str, report: dict[str, Any], moment: str, keep: int) -> None:
        if folder:
            links = {host["host"]: files.folder_of(host["host"]) for host in report.get("hosts", [])}
            files.write(folder, stem, render(report, links), moment, keep)


def _plain(value: Any) -> Any:
    """Ansible's values with their origins and lazy templates as plain JSON values."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return value + 0
    return "".join(str(value))

#!/usr/bin/python
# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts and restarts systemd units behind a health gate."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gated_service
short_description: Start and restart systemd units behind a health gate
version_added: 0.1.0
description:
  - Writes the units' files and starts, restarts or reloads what needs it, one unit after another.
  - A unit is restarted when something that it reads (unit file, drop-ins, environment files,
    O(units[].files), O(units[].restart_on), O(links)) has a C(ctime) newer than the start of its main
    process. No notification can be lost, so a run that was interrupted can simply be run again.
  - When all units have passed the gate, files and link targets are recorded as known good. When one fails,
    they are put back from there, what this call had restarted is restarted again and held to the gate, and
    the task fails.
  - A touch that leaves contents and link targets as they were when the running process passed its gate
    restarts nothing.
author: The Citadel authors (@citadel-llm)
extends_documentation_fragment:
  - citadel.llm.attributes
options:
  units:
    description: The units, in the order in which they are started.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The unit's full name, such as V(citadel-engine@smollm2.service).
        type: str
        required: true
      state:
        description:
          - V(started) runs it, V(stopped) stops it.
          - V(absent) stops and disables it and removes its O(units[].files) and its known good record.
          - What shall stop is stopped before anything is started, and is not started again by a rollback.
        type: str
        choices: [started, stopped, absent]
        default: started
      enabled:
        description: Whether it starts at boot. It is enabled after the gate. Not looked at without it.
        type: bool
      files:
        description: Files that are written before the unit is started and put back when the gate fails.
        type: list
        elements: dict
        default: []
        suboptions:
          path:
            description: Absolute path. Missing parent directories are made with mode 0755.
            type: path
            required: true
          content:
            description:
              - The whole content. Needed unless O(units[].state=absent).
              - It is not written to the system's log.
            type: str
          mode:
            description: Permissions as an octal number in quotes.
            type: str
            default: "0644"
          owner:
            description: User, by name or number. Without it, the one that the file has, or root.
            type: str
          group:
            description: Group, by name or number. Without it, the one that the file has, or root.
            type: str
          sensitive:
            description: Whether the content stays out of diffs and of everything else that is shown.
            type: bool
            default: false
      restart_on:
        description:
          - Files, links and directories whose change restarts the unit. Missing ones are passed over.
          - A link counts itself and a regular file that it names, a directory with everything below it.
        type: list
        elements: path
        default: []
      reload_on:
        description: Files, also of O(units[].files), whose change only reloads the unit.
        type: list
        elements: path
        default: []
      health:
        description: Commands for this unit, each a list of arguments, besides O(health).
        type: list
        elements: list
        default: []
      timeout:
        description: Seconds that starting, restarting or stopping it may take, in place of O(timeout).
        type: int
  retire:
    description:
      - How instances are found that an earlier call made and that O(units) no longer names.
      - Each is treated like one of O(units) with O(units[].state=absent). Nothing of others is touched.
    type: dict
    suboptions:
      unit:
        description: The instances' full name, where V({instance}) stands for the instance.
        type: str
        required: true
      files:
        description:
          - Absolute paths of their files, where V({instance}) stands for the instance.
          - A path without it is of a file that all share, such as the template. It goes with the last one.
        type: list
        elements: str
        required: true
      marker:
        description: A file counts, and makes an instance known, when its text begins with this.
        type: str
        required: true
      before:
        description:
          - Commands, each a list of arguments, that are run before one that runs is stopped, such as to take
            it out of a router. When one fails, nothing is stopped and nothing is changed.
        type: list
        elements: list
        default: []
  links:
    description: Links that every unit reads and that are put back with the files when the gate fails.
    type: list
    elements: path
    default: []
  health:
    description:
      - Commands, each a list of arguments, that must exit with 0 after each unit's start.
      - They are repeated each second until O(health_timeout).
    type: list
    elements: list
    default: []
  health_timeout:
    description: Seconds within which the health commands of a unit must have passed.
    type: int
    default: 30
  timeout:
    description:
      - Seconds that starting, restarting or stopping a unit may take.
      - A unit of C(Type=notify), or one whose C(ExecStartPost) waits, is only started when it is ready.
    type: int
    default: 600
  state_dir:
    description: The directory that holds the known good records, readable by root only.
    type: path
    default: /var/lib/citadel/known-good
  journal_lines:
    description: How many of a failed unit's last journal lines the message holds.
    type: int
    default: 30
seealso:
  - module: citadel.llm.venv_release
"""

EXAMPLES = r"""
- name: Run the engines behind a gate
  citadel.llm.gated_service:
    links:
      - /opt/citadel/env
    units:
      - name: citadel-engine@small.service
        enabled: true
        files:
          - path: /opt/citadel/config/engines/small.env
            content: "{{ lookup('ansible.builtin.template', 'engine.env.j2') }}"
            mode: "0640"
            group: citadel
        restart_on:
          - /opt/citadel/models/small/current
        timeout: 900

- name: Run these engines and no others that were made in this way
  citadel.llm.gated_service:
    units: "{{ engine_units }}"
    retire:
      unit: citadel-engine@{instance}.service
      files:
        - /etc/systemd/system/citadel-engine@.service
        - /opt/citadel/config/engines/{instance}.env
      marker: "# Installed by Citadel"
      before:
        - [/opt/citadel/app/current/bin/citadel, routing, apply]

- name: Restart the gateway when its configuration changed, or reload it when only the routing did
  citadel.llm.gated_service:
    links:
      - /opt/citadel/app/current
    units:
      - name: citadel-gateway.service
        enabled: true
        restart_on: [/opt/citadel/config]
        reload_on: [/var/lib/citadel/routing.json]
        health:
          - [curl, --fail, --silent, --show-error, http://127.0.0.1:8081/ready]
"""

RETURN = r"""
units:
  description: What was (or would be) done with each unit, and why.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The unit's name.
      type: str
    action:
      description: V(none), V(started), V(restarted), V(reloaded), V(stopped) or V(rolled_back).
      type: str
    reasons:
      description: Why.
      type: list
      elements: str
  sample:
    - name: citadel-engine@small.service
      action: restarted
      reasons: ["link /opt/citadel/env is newer than the process"]
failed_unit:
  description: The unit that did not pass the gate.
  returned: when a unit fails
  type: str
reason:
  description: Why it did not pass.
  returned: when a unit fails
  type: str
rolled_back:
  description: Whether the known good state was put back and passes the gate.
  returned: when a unit fails
  type: bool
restored:
  description: The files and links that were put back.
  returned: when a unit fails
  type: list
  elements: str
journal:
  description: The last journal lines of the unit that failed.
  returned: when a unit fails
  type: list
  elements: str
"""

import os
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.citadel.llm.plugins.module_utils._command import Runner
from ansible_collections.citadel.llm.plugins.module_utils._gated_service import GateError, Report, Transaction
from ansible_collections.citadel.llm.plugins.module_utils._gated_service_arguments import (
    argument_spec,
    check_values,
    make_request,
)
from ansible_collections.citadel.llm.plugins.module_utils._systemd import Systemd, SystemdError


def describe(report: Report, sensitive: set[str]) -> dict[str, t.Any]:
    """The parts of the result that success and failure share."""
    diff = []
    for change in report.files:
        entry = {"before_header": change.path, "after_header": change.path}
        for side, content in (("before", change.before), ("after", change.after)):
            if content is not None and change.path in sensitive:
                entry[side] = f"(content not shown: {side})\n"
            else:
                entry[side] = (content or b"").decode(errors="replace")
        diff.append(entry)
    steps = [step for step in report.steps.values() if step.action != "none"]
    if steps:
        lines = [f"{step.name}: {step.action}, {'; '.join(step.reasons)}" for step in steps]
        diff.append({"prepared": "\n".join([*lines, ""])})
    units = [{"name": s.name, "action": s.action, "reasons": s.reasons} for s in report.steps.values()]
    return {"changed": report.changed, "units": units, "diff": diff}


def fail(module: AnsibleModule, error: GateError, result: dict[str, t.Any]) -> None:
    journal = "\n".join(error.journal)
    result["changed"] = True
    module.fail_json(
        msg=f"{error.unit} failed its gate: {error.reason}. {error.outcome}."
        + (f"\nIts last journal lines:\n{journal}" if journal else ""),
        failed_unit=error.unit,
        reason=error.reason,
        rolled_back=error.rolled_back,
        restored=error.restored,
        journal=error.journal,
        **result,
    )


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    problem = check_values(module.params)
    if problem is not None:
        module.fail_json(msg=problem)
    files = [file for unit in module.params["units"] for file in unit["files"]]
    # What is not sensitive may be shown in diffs; no content goes to the system's log.
    module.no_log_values.difference_update(file["content"] for file in files if not file["sensitive"])
    sensitive = {file["path"] for file in files if file["sensitive"]}
    try:
        request = make_request(module.params, module.check_mode)
    except (LookupError, ValueError) as error:
        module.fail_json(msg=str(error))
    # Nobody says any more whether these hold secrets.
    sensitive.update(path for unit in request.units if unit.retired for path in unit.files)
    os.umask(0o022)
    systemd = Systemd(Runner())
    if not systemd.is_running and not module.check_mode:
        module.fail_json(msg="systemd does not run on this host: its units cannot be started here")
    transaction = Transaction(request, systemd)
    try:
        report = transaction.predict() if module.check_mode else transaction.apply()
    except GateError as error:
        fail(module, error, describe(transaction.report, sensitive))
    except SystemdError as error:
        module.fail_json(msg=str(error), **describe(transaction.report, sensitive))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        module.fail_json(msg=f"{where}{error.strerror}", **describe(transaction.report, sensitive))
    module.exit_json(**describe(report, sensitive))


if __name__ == "__main__":
    main()

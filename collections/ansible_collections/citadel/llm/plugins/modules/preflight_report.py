#!/usr/bin/python
# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin; nothing of it runs on a managed host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_report
short_description: Write the reports of a preflight on the controller
version_added: 0.1.0
author: The Citadel authors (@citadel-llm)
description:
  - Takes what M(citadel.llm.preflight) registered on each host of the play and writes a report about each
    host and one about the fleet, as JSON, Markdown and one self-contained HTML page each, and shows a table.
  - Compares each host with its last report, and tells what changed.
  - A host that could not be reached, or of which nothing could be found out, is in the report too.
  - Runs on the controller. It reaches no host and is not C(changed), because nothing that is managed changes.
extends_documentation_fragment: [citadel.llm.attributes.readonly]
options:
  register:
    description: The name of the variable in which M(citadel.llm.preflight) is registered on each host.
    type: str
    required: true
  directory:
    description:
      - Where the reports are written, on the controller. A relative path starts where Ansible was started.
      - Reports have the names C(fleet.html), C(HOST/report.html) and the same with C(md) and C(json). Earlier
        ones stay as JSON in C(history).
      - Without it nothing is written, and the table is shown.
    type: str
    default: ''
  keep:
    description: How many earlier reports of each host, and of the fleet, are kept.
    type: int
    default: 10
  hosts:
    description: The hosts to report about, by default all of the play.
    type: list
    elements: str
seealso:
  - module: citadel.llm.preflight
"""

EXAMPLES = r"""
- name: Write the report
  citadel.llm.preflight_report:
    register: preflight
    directory: reports/preflight
  run_once: true
"""

RETURN = r"""
verdict:
  description: The worst verdict of all hosts.
  returned: always
  type: str
summary:
  description: How many hosts have which verdict.
  returned: always
  type: str
verdicts:
  description: The verdict of each host.
  returned: always
  type: dict
path:
  description: The page about the fleet; null when nothing was written.
  returned: always
  type: str
"""

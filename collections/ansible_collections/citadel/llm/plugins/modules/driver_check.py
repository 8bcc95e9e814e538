#!/usr/bin/python
# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: driver_check
short_description: Check that the NVIDIA driver is the expected one, right for GPUs and stack, and stays so
version_added: 0.1.0
description:
  - Compares version, branch and flavour of the driver with what is expected.
  - Says whether the driver supports the GPUs and runs the stack's CUDA.
  - Compares what is loaded with what is installed; looks at restarts that wait, holds, unattended upgrades,
    the next kernel, secure boot, nouveau and the fabric manager.
  - Never fails for what it finds. A host without NVIDIA GPUs needs no driver, unless one is expected.
author: The Citadel authors (@citadel-llm)
extends_documentation_fragment:
  - citadel.llm.attributes.readonly
  - citadel.llm.gpu
  - citadel.llm.gpu.check
  - citadel.llm.gpu.stack
  - citadel.llm.gpu.findings
options:
  version:
    description: The driver's version, such as V(575.57.08). V(575.57) stands for all that begin so.
    type: str
  version_min:
    description: The oldest version that is accepted.
    type: str
  version_max:
    description: The newest version that is accepted; V(575) accepts all of that branch.
    type: str
  branch:
    description: The driver's branch, such as V(575).
    type: str
  flavour:
    description: The flavour of the kernel module.
    type: str
    choices: [open, proprietary]
  cuda_min:
    description: The CUDA release whose programs have to run, such as V(12.8).
    type: str
  held:
    description:
      - Whether the driver's packages have to be held even where unattended upgrades are off.
      - Where they are on, it is always checked.
    type: bool
    default: false
seealso:
  - module: citadel.llm.gpu_info
  - module: citadel.llm.gpu_check
"""

EXAMPLES = r"""
- name: Check the driver
  citadel.llm.driver_check:
    branch: "575"
    flavour: open
    stack:
      name: cuda
  register: check
"""

RETURN = r"""
findings:
  description: What was found.
  returned: always
  type: list
  elements: dict
  sample:
    - id: driver.cuda
      severity: blocking
      subject: stack cuda (torch 2.14.0+cu130)
      expected: driver 580.65.06 or newer
      found: 575.57.08
      why: "CUDA 13.0 does not run with this driver: the engine says that the driver is too old."
      remedy: Install driver 580.65.06 or newer and restart.
      unknown: false
verdict:
  description: V(ready), V(deviations), V(blocked) or V(unknown).
  returned: always
  type: str
counts:
  description: How many findings there are of each severity, and how many of all are unknown.
  returned: always
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.citadel.llm.plugins.module_utils import _findings as findings
from ansible_collections.citadel.llm.plugins.module_utils import _gpu_arguments as arguments
from ansible_collections.citadel.llm.plugins.module_utils._driver_check import check
from ansible_collections.citadel.llm.plugins.module_utils._gpu_check_arguments import DRIVER, expected_driver


def main() -> None:
    module = AnsibleModule(argument_spec=DRIVER, supports_check_mode=True)
    try:
        wanted = expected_driver(module.params)
        info = arguments.info(module.params)
    except ValueError as error:
        module.fail_json(msg=str(error))
    found = check(info, wanted)
    module.exit_json(changed=False, findings=findings.as_dicts(found), **findings.summarise(found))


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold a host against what was expected of it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_check
short_description: Hold a host against what was expected of it
version_added: 0.1.0
author: The Citadel authors (@citadel-llm)
description:
  - Gathers the facts of M(citadel.llm.host_info) and returns one finding for each expectation that is given.
  - What differs but does the job is a C(deviation), and C(why) says so; what falls below a minimum is
    C(blocking). What could not be found out is never C(ok).
  - The task fails for an expectation that cannot be understood, never for a host that differs.
extends_documentation_fragment: [citadel.llm.attributes.readonly]
options:
  cpu:
    description: What is expected of the processor.
    type: dict
    suboptions:
      model:
        description: Words of the model's name, in any order and case, with shell wildcards; trade marks do
          not count.
        type: str
      cores_min:
        description: The least number of physical cores.
        type: int
      flags:
        description: Instruction sets that are needed, as C(/proc/cpuinfo) calls them.
        type: list
        elements: str
  memory:
    description: What is expected of the memory. A GB is 2**30 bytes, as memory is sold; up to 7 % less is
      taken as the part that firmware and kernel keep.
    type: dict
    suboptions:
      expected_gb:
        description: The size on record. Less is a deviation.
        type: float
      minimum_gb:
        description: The least size that does the job. Less is blocking.
        type: float
      ecc:
        description: Whether error correction is expected. Needs root, or a kernel that counts errors.
        type: bool
  os:
    description: "The operating systems that are accepted: the C(ID) of C(/etc/os-release), and a version or
      its beginning, such as V(ubuntu 24.04)."
    type: list
    elements: str
  kernel_min:
    description: The least release of the kernel.
    type: str
  architecture:
    description: The architecture, as C(uname -m) says it.
    type: str
  address:
    description: An address that the host is expected to have.
    type: str
  hostname:
    description: The expected host name; compared with the full name when it has a dot.
    type: str
  virtualization:
    description: The accepted kinds, V(none) for bare metal; a container is named by its manager.
    type: list
    elements: str
  python_min:
    description: The least version of the Python that runs modules.
    type: str
  clock_synchronized:
    description: Whether the clock has to be synchronised.
    type: bool
    default: false
  reboot:
    description: Whether to tell that a reboot is pending.
    type: bool
    default: true
  root:
    description:
      - Where C(/proc), C(/sys), C(/etc) and other files are read, for testing against recorded trees.
      - Host name, addresses and the state of the clock always are those of the running host.
    type: path
    default: /
seealso:
  - module: citadel.llm.host_info
"""

EXAMPLES = r"""
- name: Hold the host against the records
  citadel.llm.host_check:
    cpu:
      model: AMD Threadripper PRO 7965WX
      cores_min: 16
    memory:
      expected_gb: 256
      minimum_gb: 64
    os: [ubuntu 24.04, debian 12, debian 13]
    address: 192.168.10.27
    virtualization: [none, kvm]
    python_min: "3.9"
  register: checked

- name: Stop on what is blocking
  ansible.builtin.assert:
    that: checked.verdict != 'blocked'
"""

RETURN = r"""
findings:
  description: One for each expectation.
  returned: always
  type: list
  elements: dict
  contains:
    id:
      description: A stable name such as C(host.cpu).
      type: str
    severity:
      description: V(ok), V(deviation) or V(blocking).
      type: str
    subject:
      description: What was looked at.
      type: str
    expected:
      description: What was expected.
      type: raw
    found:
      description: What is there; null where it could not be found out.
      type: raw
    why:
      description: Whether and why it matters.
      type: str
    remedy:
      description: What to do.
      type: str
    unknown:
      description: Whether the check could not look.
      type: bool
  sample:
    - id: host.cpu
      severity: deviation
      subject: cpu
      expected: AMD Threadripper PRO 7965WX, at least 16 cores
      found: Intel Core Ultra 9 285K, 24 cores
      why: "Different, suitable: another model; it has the cores and instructions that are needed."
      remedy: Record the real model in the inventory (cpu.model), or accept the deviation.
      unknown: false
verdict:
  description: V(ready), V(deviations), V(blocked), or V(unknown) where nothing decisive could be found out.
  returned: always
  type: str
counts:
  description: How many findings there are of each severity.
  returned: always
  type: dict
host:
  description: The facts, as M(citadel.llm.host_info) returns them.
  returned: always
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.citadel.llm.plugins.module_utils._check_arguments import HOST
from ansible_collections.citadel.llm.plugins.module_utils._findings import as_dicts, summarise
from ansible_collections.citadel.llm.plugins.module_utils._host_check import check
from ansible_collections.citadel.llm.plugins.module_utils._host_info import gather


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=HOST, supports_check_mode=True)
    host = gather(module.params["root"])
    try:
        findings = check(module.params, host)
    except ValueError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, findings=as_dicts(findings), host=host, **summarise(findings))


if __name__ == "__main__":
    main()

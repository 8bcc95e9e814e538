#!/usr/bin/python
# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts about a host that matter to serving models."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_info
short_description: Facts about a host that matter to serving models
version_added: 0.1.0
author: The Citadel authors (@citadel-llm)
description:
  - Tells processor, memory, operating system, virtualisation, boot mode, pending reboot, clock, network and
    the kernel's tuning. Reads C(/proc), C(/sys) and C(/etc), and runs no command.
  - What cannot be found out is null, never a guess.
extends_documentation_fragment: [citadel.llm.attributes.readonly]
options:
  root:
    description:
      - Where C(/proc), C(/sys), C(/etc) and other files are read, for testing against recorded trees.
      - Host name, addresses and the state of the clock always are those of the running host.
    type: path
    default: /
seealso:
  - module: citadel.llm.host_check
  - module: citadel.llm.storage_info
"""

EXAMPLES = r"""
- name: See what the host is
  citadel.llm.host_info:
  register: facts

- name: Show the processor
  ansible.builtin.debug:
    msg: "{{ facts.host.cpu.model }}, {{ facts.host.cpu.cores }} cores"
"""

RETURN = r"""
host:
  description: The facts. Sizes carry their unit in their name; what is not known is null.
  returned: always
  type: dict
  contains:
    cpu:
      description: C(model), C(vendor), C(sockets), C(cores), C(threads), C(numa_nodes), C(governor) and
        those C(flags) that inference on the processor uses.
      type: dict
    memory:
      description: C(total_mib), C(available_mib), C(swap_total_mib), C(swap_free_mib); C(installed_mib),
        C(type) and C(ecc) from the firmware's tables (root only); C(ecc_errors) from the kernel's error
        counters.
      type: dict
    os:
      description: C(id), C(version), C(name), C(codename), C(kernel), C(architecture) and C(init).
      type: dict
    python:
      description: C(version) and C(executable) of the Python that runs modules.
      type: dict
    virtualization:
      description: C(type), V(none) on bare metal, and C(container), null outside of one.
      type: dict
    machine:
      description: C(vendor), C(product), C(board), C(bios_version) and C(bios_date).
      type: dict
    boot:
      description: C(mode) (V(uefi) or V(bios)), C(secure_boot) and C(uptime_s).
      type: dict
    reboot:
      description: C(required) and C(reasons), worked out from the present state.
      type: dict
    time:
      description: C(synchronized), as the kernel's clock says, and the time C(daemons) that run.
      type: dict
    network:
      description: C(hostname), C(fqdn), C(addresses), C(interfaces) and C(gateway).
      type: dict
    tuning:
      description: C(iommu), C(huge_pages), C(shm_mib), C(cgroup_version), C(limits) of the session, and
        C(sysctl).
      type: dict
  sample:
    cpu: {model: Intel(R) Core(TM) Ultra 9 285K, cores: 24, threads: 24, sockets: 1, flags: [avx, avx2,
      avx_vnni, f16c]}
    memory: {total_mib: 128000, ecc: false, type: DDR5}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.citadel.llm.plugins.module_utils._host_info import gather


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={"root": {"type": "path", "default": "/"}},
        supports_check_mode=True,
    )
    module.exit_json(changed=False, host=gather(module.params["root"]))


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Block devices, mounted file systems and fstab of a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: storage_info
short_description: Block devices, mounted file systems and fstab of a host
version_added: 0.1.0
author: The Citadel authors (@citadel-llm)
description:
  - Reads C(/sys/block), C(/proc/self/mountinfo), the links below C(/dev) and C(/etc/fstab), and runs no
    command.
  - Each file system is asked for its space in a process of its own with a deadline, so that a dead network
    file system is told as V(hanging) and never hangs the task.
  - A loop device takes the class of the alias under which the host sees it. A link C(/dev/nvme0n1) to
    C(/dev/loop3) makes it an NVMe disk, C(/dev/sda) a rotational one; so disposable hosts have the disks of
    real ones.
extends_documentation_fragment: [citadel.llm.attributes.readonly]
options:
  timeout:
    description: Seconds that a file system may take to answer, a busy disk included. All are asked at once.
    type: float
    default: 4
  root:
    description: Where C(/proc), C(/sys), C(/dev) and C(/etc) are read, for testing against recorded trees.
    type: path
    default: /
seealso:
  - module: citadel.llm.mount_check
  - module: citadel.llm.host_info
"""

EXAMPLES = r"""
- name: See disks and file systems
  citadel.llm.storage_info:
  register: storage

- name: Name the NVMe disks
  ansible.builtin.debug:
    msg: "{{ storage.devices | selectattr('device_class', 'equalto', 'nvme') | map(attribute='stable_name')
      }}"
"""

RETURN = r"""
devices:
  description:
    - Whole block devices with C(name), C(aliases), C(size_mib), C(device_class), C(rotational),
      C(transport), C(model), C(serial), C(read_only), C(removable), C(below) (the devices that a stacked one
      lies on), C(stable_name), C(links) and C(partitions).
    - C(device_class) is V(nvme), V(ssd), V(rotational), or null where the host does not tell, as for a
      virtual disk.
  returned: always
  type: list
  elements: dict
  sample:
    - {name: nvme0n1, size_mib: 3815447, device_class: nvme, rotational: false, transport: nvme, stable_name:
      UUID=0a1b}
filesystems:
  description:
    - Mounted file systems that hold data, with C(path), C(source), C(fstype), C(options), C(read_only),
      C(network), C(device), C(device_class), C(state), C(size_mib), C(available_mib), C(available_percent),
      C(inodes), C(inodes_free) and C(inodes_free_percent).
    - C(state) is V(ok), V(hanging) or the system's error message.
  returned: always
  type: list
  elements: dict
fstab:
  description: The entries of C(/etc/fstab) with C(spec), C(path), C(fstype), C(options), and C(stable),
    whether the device's name stays the same when disks are added.
  returned: always
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.citadel.llm.plugins.module_utils._storage_info import gather


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "timeout": {"type": "float", "default": 4.0},
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
    )
    try:
        facts = gather(module.params["root"], module.params["timeout"])
    except OSError as error:
        module.fail_json(msg="cannot read the mounts: %s" % error)
    module.exit_json(changed=False, **facts)


if __name__ == "__main__":
    main()

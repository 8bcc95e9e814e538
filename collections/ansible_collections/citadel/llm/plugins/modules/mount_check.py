#!/usr/bin/python
# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the mounts of a host against those that are expected."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mount_check
short_description: Hold the mounts of a host against those that are expected
version_added: 0.1.0
author: The Citadel authors (@citadel-llm)
description:
  - Looks whether each expected file system is mounted, on which kind of device, how large and how full it
    is, with which options, whether fstab has it by a stable name, who owns it, and whether the service's
    user can write to it, by trying.
  - Two mounts that stand in each other's place are recognised as swapped, and told once with the change of
    C(layout_mounts).
  - A file system that does not answer is told as C(mount.hanging) and never hangs the task.
  - A loop device takes the class of the alias under which the host sees it. A link C(/dev/nvme0n1) to
    C(/dev/loop3) makes it an NVMe disk, C(/dev/sda) a rotational one; so disposable hosts have the disks of
    real ones.
  - Trying to write creates a file without a name where the file system can, else one that is removed at once.
extends_documentation_fragment: [citadel.llm.attributes.readonly]
options:
  mounts:
    description: The expected mounts.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: The mount point, an absolute path.
        type: path
        required: true
      role:
        description: What it is for, such as V(models) or V(logs); a word for people.
        type: str
      mount_point:
        description: Whether the path has to be a mount point. Otherwise the file system that holds the path
          is looked at.
        type: bool
        default: true
      device:
        description: The expected device as C(/dev/...), C(UUID=...) or C(LABEL=...).
        type: str
      device_class:
        description: The expected kind of disk.
        type: str
        choices: [any, nvme, ssd, rotational]
        default: any
      min_size_gib:
        description: The least size of the device in GiB; 2 % less is tolerated.
        type: float
      min_free_gib:
        description: The least free space in GiB.
        type: float
      min_free_percent:
        description: The least free space in percent, as an ordinary user sees it.
        type: float
        default: 1
      min_free_inodes_percent:
        description: The least share of free inodes in percent.
        type: float
        default: 1
      fstype:
        description: The accepted types of file systems.
        type: list
        elements: str
      options:
        description: Options that have to be in effect. Without V(ro) among them, a mount that is read-only
          is blocking.
        type: list
        elements: str
      in_fstab:
        description: Whether fstab, or a mount unit of the administrator, has to have it by a stable name.
        type: bool
        default: false
      owner:
        description: The expected owner's name.
        type: str
      group:
        description: The expected group's name.
        type: str
      writable_by:
        description: The user that has to be able to write here. Trying as another user needs root.
        type: str
  before_provisioning:
    description: Tells what the stages account and layout put right as a deviation instead of blocking.
    type: bool
    default: false
  timeout:
    description: Seconds that a file system may take to answer, a busy disk included. All are asked at once.
    type: float
    default: 4
  root:
    description:
      - Where C(/proc), C(/sys), C(/dev), C(/etc) and the mounts are looked at, for testing against recorded
        trees.
      - Users and groups always are those of the running host.
    type: path
    default: /
seealso:
  - module: citadel.llm.storage_info
"""

EXAMPLES = r"""
- name: Models lie on NVMe, logs on the archive disk
  citadel.llm.mount_check:
    mounts:
      - path: /mnt/nvme0n1
        role: models
        device_class: nvme
        min_size_gib: 3400
        fstype: [ext4, xfs]
        in_fstab: true
        owner: citadel
        group: citadel
        writable_by: citadel
      - path: /mnt/sda
        role: logs
        device_class: rotational
        min_free_percent: 10
        in_fstab: true
        writable_by: citadel
  register: checked
"""

RETURN = r"""
findings:
  description: What was found, with C(id), C(severity) (V(ok), V(deviation) or V(blocking)), C(subject),
    C(expected), C(found), C(why), C(remedy), and C(unknown), whether the check could not look.
  returned: always
  type: list
  elements: dict
  sample:
    - id: mount.class
      severity: blocking
      subject: /mnt/nvme0n1
      expected: nvme
      found: sda, rotational, 7.3 TiB
      why: "A rotational disk reads some 200 MB a second: models of many GB load in minutes."
      remedy: Move the mount to a disk of class nvme, or correct device_class in the inventory.
      unknown: false
verdict:
  description: V(ready), V(deviations), V(blocked), or V(unknown) where nothing decisive could be found out.
  returned: always
  type: str
counts:
  description: How many findings there are of each severity.
  returned: always
  type: dict
mounts:
  description:
    - What each path looks like, with C(path), C(role), C(state), C(source), C(fstype), C(options),
      C(device), C(device_class), C(size_mib), C(available_mib), C(available_percent),
      C(inodes_free_percent), C(owner), C(group) and C(fstab).
    - C(state) is V(mounted), V(missing), V(hanging), V(broken) or V(denied).
  returned: always
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.citadel.llm.plugins.module_utils._check_arguments import MOUNTS, mounts_problem
from ansible_collections.citadel.llm.plugins.module_utils._findings import as_dicts, summarise
from ansible_collections.citadel.llm.plugins.module_utils._mount_check import check


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=MOUNTS, supports_check_mode=True)
    options = module.params
    problem = mounts_problem(options)
    if problem:
        module.fail_json(msg=problem)
    try:
        findings, mounts = check(
            options["mounts"], options["root"], options["timeout"], options["before_provisioning"]
        )
    except OSError as error:
        module.fail_json(msg="cannot read the mounts: %s" % error)
    module.exit_json(changed=False, findings=as_dicts(findings), mounts=mounts, **summarise(findings))


if __name__ == "__main__":
    main()

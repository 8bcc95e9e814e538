#!/usr/bin/python
# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: storage_mounts
short_description: Manage file systems, fstab and mounts in one call
version_added: 0.1.0
description:
  - Makes missing file systems, names them in fstab by UUID, and mounts them.
  - A file system is only ever made on a device on which neither C(blkid) nor C(wipefs) finds any signature.
  - Everything is examined first. When anything is in the way, nothing is changed.
  - Other lines of fstab are kept byte for byte.
author:
  - The Citadel authors (@citadel-llm)
extends_documentation_fragment:
  - citadel.llm.attributes
options:
  mounts:
    description: The mounts.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: The absolute path of the mount point, which is made when it is missing.
        type: path
        required: true
      state:
        description:
          - V(mounted) has the device in fstab and mounted with the given options. A device that is mounted
            elsewhere, or another one that is mounted here, is an error.
          - V(unmounted) unmounts now and leaves fstab as it is.
          - V(absent) unmounts and removes the path from fstab. The file system and the directory stay.
        type: str
        choices: [mounted, unmounted, absent]
        default: mounted
      device:
        description:
          - A path below C(/dev/), or V(UUID=…), V(LABEL=…) and so on.
          - Required when O(mounts[].state=mounted).
          - In check mode, a device that does not exist yet is taken for one that will.
        type: str
      fstype:
        description: The kind of the file system. A device that carries another one is an error.
        type: str
        default: ext4
      options:
        description: The mount options, as a list or with commas between them.
        type: list
        elements: str
        default: [defaults, nofail, x-systemd.device-timeout=30s]
      format:
        description: Whether to make the file system (ext2, ext3, ext4, xfs, btrfs) on an empty device.
        type: bool
        default: false
      label:
        description: The label of a file system that is made. The label of an existing one is left alone.
        type: str
  fstab:
    description: The file to manage.
    type: path
    default: /etc/fstab
"""

EXAMPLES = r"""
- name: Mount the disk of the models
  citadel.llm.storage_mounts:
    mounts:
      - path: /data
        device: /dev/disk/by-id/nvme-example
        fstype: xfs
        format: true
        label: models
        options: [noatime, nofail, x-systemd.device-timeout=30s]
"""

RETURN = r"""
changed_paths:
  description: The mount points for which something was changed, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [/data]
formatted:
  description: The devices on which a file system was made, or would be.
  returned: success
  type: list
  elements: str
  sample: [/dev/nvme1n1]
mounts:
  description: The wanted mounts. In check mode, device and uuid are empty where there are none yet.
  returned: success
  type: list
  elements: dict
  sample:
    - path: /data
      device: /dev/nvme1n1
      fstype: xfs
      uuid: 3e6be9de-8139-11d1-9106-a43f08d823a6
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.citadel.llm.plugins.module_utils import _storage_mounts as backend
from ansible_collections.citadel.llm.plugins.module_utils._directory_tree import TreeError, clean_path
from ansible_collections.citadel.llm.plugins.module_utils._filesystem import FilesystemError, Host

OPTIONS = ["defaults", "nofail", "x-systemd.device-timeout=30s"]


def wanted_of(params: dict[str, Any]) -> list[backend.Wanted]:
    """The wanted mounts, from the module's parameters. Raises FilesystemError."""
    wanted = []
    for entry in params["mounts"]:
        try:
            path = clean_path(entry["path"])
        except TreeError as error:
            raise FilesystemError(str(error)) from error
        wanted.append(
            backend.Wanted(
                path=path,
                state=entry["state"],
                device=entry["device"] or "",
                fstype=entry["fstype"],
                options=tuple(entry["options"]),
                format=entry["format"],
                label=entry["label"],
            )
        )
    return wanted


def diffs(plan: backend.Plan, fstab: str) -> list[dict[str, Any]]:
    """Before and after of fstab, of each device and of each mount point, as far as they change."""
    entries: list[tuple[str, Any, Any]] = [
        (todo.device or todo.wanted.device, {"fstype": "none"}, {"fstype": todo.wanted.fstype})
        for todo in plan.mountings
        if todo.make
    ]
    new = plan.new_fstab()
    if new != plan.fstab:
        shown = [text.encode(errors="backslashreplace").decode() for text in (plan.fstab, new)]
        entries.append((fstab, shown[0], shown[1]))
    entries += [(path, {"mounted": True}, {"mounted": False}) for path in plan.unmount]
    for todo in plan.mountings:
        if todo.mount:
            entries.append((todo.wanted.path, {"mounted": False}, {"mounted": True}))
        elif todo.remount:
            entries.append(
                (todo.wanted.path, {"options": ",".join(todo.was)}, {"options": ",".join(todo.remount)})
            )
    return [
        {"before_header": name, "after_header": name, "before": before, "after": after}
        for name, before, after in entries
    ]


def run(module: AnsibleModule) -> dict[str, Any]:
    """Bring the mounts to their state and return the module's result. Raises FilesystemError."""
    host = Host()
    fstab = module.params["fstab"]
    plan = backend.plan(
        wanted_of(module.params), backend.read_fstab(fstab), check=module.check_mode, host=host
    )
    for warning in plan.warnings:
        module.warn(warning)
    changed = plan.changed_paths()
    if changed and not module.check_mode:
        backend.apply(plan, fstab, host)
    return {
        "changed": bool(changed),
        "changed_paths": changed,
        "formatted": [todo.device or todo.wanted.device for todo in plan.mountings if todo.make],
        "mounts": [
            {
                "path": todo.wanted.path,
                "device": todo.device,
                "fstype": todo.wanted.fstype,
                "uuid": todo.content.uuid,
            }
            for todo in plan.mountings
        ],
        "diff": diffs(plan, fstab),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "mounts": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "path", "required": True},
                    "state": {
                        "type": "str",
                        "choices": ["mounted", "unmounted", "absent"],
                        "default": "mounted",
                    },
                    "device": {"type": "str"},
                    "fstype": {"type": "str", "default": "ext4"},
                    "options": {"type": "list", "elements": "str", "default": OPTIONS},
                    "format": {"type": "bool", "default": False},
                    "label": {"type": "str"},
                },
                "required_if": [("state", "mounted", ["device"])],
            },
            "fstab": {"type": "path", "default": "/etc/fstab"},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except FilesystemError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()

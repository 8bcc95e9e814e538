#!/usr/bin/python
# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: directory_tree
short_description: Manage a whole tree of directories and links in one call
version_added: 0.1.0
description:
  - Makes directories and symbolic links, sets their owners and modes, and removes empty directories.
  - Everything is examined first. When anything is in the way, nothing is changed.
author:
  - The Citadel authors (@citadel-llm)
extends_documentation_fragment:
  - citadel.llm.attributes
options:
  directories:
    description:
      - The directories.
      - A path that exists as something else, a symbolic link included, is an error.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The absolute path, without C(..).
        type: path
        required: true
      state:
        description:
          - V(present) makes the directory and sets its access.
          - V(absent) removes it. Where it is not empty, that is an error, unless O(directories[].force).
        type: str
        choices: [present, absent]
        default: present
      owner:
        description: Name or number of the user. Without it, O(owner) counts.
        type: str
      group:
        description: Name or number of the group. Without it, O(group) counts.
        type: str
      mode:
        description: Octal mode in quotes. Without it, O(mode) counts.
        type: raw
      force:
        description:
          - With O(directories[].state=absent), removes the directory with everything in it.
          - A directory with a mount in it is never removed.
        type: bool
        default: false
  links:
    description:
      - The symbolic links, made after the directories. A path that exists as anything but a link is an error.
      - A link is switched to another target in one step.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The absolute path of the link, without C(..).
        type: path
        required: true
      target:
        description: Where it leads, as written into the link. Required when O(links[].state=present).
        type: str
      state:
        description: Whether the link is to exist.
        type: str
        choices: [present, absent]
        default: present
  owner:
    description:
      - Name or number of the user for directories that give none, and for missing directories above them.
      - Without it, owners are left as they are.
      - In check mode, a user that does not exist yet is taken for one that will.
    type: str
  group:
    description: The same for the group.
    type: str
  mode:
    description: The same for the mode, octal in quotes.
    type: raw
    default: "0755"
"""

EXAMPLES = r"""
- name: Lay out the application's directories
  citadel.llm.directory_tree:
    owner: citadel
    group: citadel
    mode: "0750"
    directories:
      - path: /opt/citadel
        mode: "0755"
      - path: /opt/citadel/config
      - path: /opt/citadel/secrets
        mode: "0700"
      - path: /opt/citadel/old
        state: absent
    links:
      - path: /opt/citadel/models
        target: /data/models
"""

RETURN = r"""
changed_paths:
  description: The paths that were changed, or would be in check mode, in the order of the changes.
  returned: success
  type: list
  elements: str
  sample: [/opt/citadel, /opt/citadel/config]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.citadel.llm.plugins.module_utils import _directory_tree as backend
from ansible_collections.citadel.llm.plugins.module_utils._files import parse_mode


def access_of(entry: dict[str, Any], defaults: backend.Access, place: str) -> backend.Access:
    """The entry's access, with the defaults for what it does not give."""
    try:
        mode = defaults.mode if entry["mode"] is None else parse_mode(entry["mode"])
    except ValueError as error:
        raise backend.TreeError(f"{place}: {error}") from error
    return backend.Access(
        defaults.owner if entry["owner"] is None else entry["owner"],
        defaults.group if entry["group"] is None else entry["group"],
        mode,
    )


def tree_of(params: dict[str, Any]) -> backend.Tree:
    """The wanted tree, from the module's parameters."""
    defaults = access_of(params, backend.Access(None, None, 0o755), "the default")
    directories = []
    removals = []
    for entry in params["directories"]:
        path = backend.clean_path(entry["path"])
        if entry["state"] == "absent":
            removals.append(backend.Removal(path, entry["force"]))
        else:
            directories.append(backend.Directory(path, access_of(entry, defaults, path)))
    links = [
        backend.Link(
            backend.clean_path(entry["path"]), entry["target"] if entry["state"] == "present" else None
        )
        for entry in params["links"]
    ]
    return backend.Tree(defaults, directories, removals, links)


def main() -> None:
    access = {"owner": {"type": "str"}, "group": {"type": "str"}}
    state = {"type": "str", "choices": ["present", "absent"], "default": "present"}
    module = AnsibleModule(
        argument_spec={
            "directories": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "path", "required": True},
                    "state": state,
                    **access,
                    "mode": {"type": "raw"},
                    "force": {"type": "bool", "default": False},
                },
            },
            "links": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "path", "required": True},
                    "target": {"type": "str"},
                    "state": state,
                },
                "required_if": [("state", "present", ["target"])],
            },
            **access,
            "mode": {"type": "raw", "default": "0755"},
        },
        supports_check_mode=True,
    )
    try:
        changes = backend.plan(tree_of(module.params), check=module.check_mode)
        if not module.check_mode:
            backend.apply(changes)
    except backend.TreeError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=bool(changes),
        changed_paths=[change.path for change in changes],
        diff=[
            {
                "before_header": change.path,
                "after_header": change.path,
                "before": change.before,
                "after": change.after,
            }
            for change in changes
        ],
    )


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: config_tree
short_description: Install a whole configuration directory as one
version_added: 0.1.0
description:
  - Brings the files of a configuration directory to their wanted text, all of them or none.
  - A validator sees the complete new tree before anything is replaced, and the old tree is saved.
  - Files of the directory that are neither given nor matched by O(purge_patterns) are left alone.
author:
  - The Citadel authors (@citadel-llm)
extends_documentation_fragment:
  - citadel.llm.attributes
options:
  dest:
    description: The absolute path of the directory. Where there are O(files), it and those above it are made.
    type: path
    required: true
  files:
    description: The text of each file, by its path relative to O(dest).
    type: dict
    required: true
  owner:
    description:
      - Name or number of the user who owns the files, and the directories as O(directory_mode) says.
      - In check mode, a user that does not exist yet is taken for one that will.
    type: str
  group:
    description: The same for the group.
    type: str
  mode:
    description: Mode of the files, octal in quotes.
    type: raw
    default: "0640"
  directory_mode:
    description:
      - Mode of O(dest) and the directories below it that hold O(files), octal in quotes.
      - Without it, directories that exist are left as they are, their owners included, and missing ones
        get a mode that fits O(mode), such as V(0750) for V(0640).
    type: raw
  validate:
    description:
      - A command as a list of words. V({dir}) stands for a directory that holds just O(files).
      - It runs when something would change, in check mode too. Where it fails, nothing is replaced.
      - Where its program does not exist, that is an error, in check mode only a warning.
    type: list
    elements: str
    default: []
  sensitive:
    description: Whether to keep the content of all files out of differences and messages.
    type: bool
    default: false
  sensitive_files:
    description:
      - Globs of relative paths whose content is kept out of differences, messages and the invocation.
      - The validator's message is masked as far as the values of these files are recognised in it.
    type: list
    elements: str
    default: []
  backup_dir:
    description:
      - Before a change, all regular files of O(dest) are saved in a new directory below this one.
      - It is named after the UTC time, such as V(20260131T235959Z), and holds C(manifest.json) and C(files/).
      - Must lie outside O(dest).
    type: path
  backup_keep:
    description: How many backups are kept.
    type: int
    default: 10
  purge_patterns:
    description:
      - Globs of relative paths. Files that match are removed when they are not in O(files).
      - C(*) stays within a directory, C(**) crosses directories.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Install the configuration
  citadel.llm.config_tree:
    dest: /opt/citadel/config
    owner: root
    group: citadel
    files:
      gateway.yaml: "{{ lookup('ansible.builtin.template', 'gateway.yaml.j2') }}"
      models/chat.yaml: "{{ lookup('ansible.builtin.template', 'model.yaml.j2') }}"
    purge_patterns: ["models/*.yaml"]
    validate: [/opt/citadel/bin/citadel, config, validate, "{dir}"]
    backup_dir: /opt/citadel/backups/config
"""

RETURN = r"""
changed_files:
  description: The relative paths of the files that were written or removed, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [gateway.yaml, models/chat.yaml]
backup:
  description: Path of the backup of the old tree, null where none was made.
  returned: success
  type: str
  sample: /opt/citadel/backups/config/20260131T235959Z
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.citadel.llm.plugins.module_utils import _config_tree as backend
from ansible_collections.citadel.llm.plugins.module_utils._directory_tree import TreeError, clean_path
from ansible_collections.citadel.llm.plugins.module_utils._files import parse_mode

HIDDEN = "(the content is sensitive and not shown)\n"


def wanted_of(params: dict[str, Any]) -> backend.Wanted:
    """The wanted state, from the module's parameters. Raises ConfigError."""
    for path, text in params["files"].items():
        if not isinstance(text, str):
            raise backend.ConfigError(
                f"files: the content of {path!r} is {type(text).__name__}, not text: quote it"
            )
    try:
        dest = clean_path(params["dest"])
        mode = parse_mode(params["mode"])
        directory_mode = None if params["directory_mode"] is None else parse_mode(params["directory_mode"])
    except (TreeError, ValueError) as error:
        raise backend.ConfigError(str(error)) from error
    if dest == "/":
        raise backend.ConfigError("dest is /, not a configuration directory: name one")
    if params["backup_keep"] < 1:
        raise backend.ConfigError(
            f"backup_keep is {params['backup_keep']}: keep at least 1, or give no backup_dir"
        )
    return backend.Wanted(
        dest=dest,
        files={path: text.encode() for path, text in params["files"].items()},
        owner=params["owner"],
        group=params["group"],
        mode=mode,
        directory_mode=directory_mode,
        purge_patterns=params["purge_patterns"],
    )


def backup_dir_of(params: dict[str, Any], dest: str) -> str | None:
    """The cleaned backup directory. Raises ConfigError where it and the tree lie in each other."""
    if params["backup_dir"] is None:
        return None
    try:
        backup_dir = clean_path(params["backup_dir"])
    except TreeError as error:
        raise backend.ConfigError(f"backup_dir: {error}") from error
    if (backup_dir + "/").startswith(dest + "/") or (dest + "/").startswith(backup_dir + "/"):
        raise backend.ConfigError(
            f"backup_dir {backup_dir} and dest {dest} lie in each other: keep them apart"
        )
    return backup_dir


def lines_of(access: dict[str, str]) -> str:
    return "".join(f"{name}: {value}\n" for name, value in access.items())


def file_diffs(change: backend.FileChange, dest: str, *, hidden: bool) -> list[dict[str, Any]]:
    """The entries of one file for Ansible's diff: one for its text, one for its access."""
    header = f"{dest}/{change.path}"
    diffs = []
    if change.before != change.after:
        before, after = change.before, change.after
        # A file that is no longer given may hold a secret that nothing marks as one any more.
        if hidden or after is None:
            texts = ("" if before is None else HIDDEN, "" if after is None else f"(new) {HIDDEN}")
        else:
            texts = ((before or b"").decode(errors="replace"), after.decode(errors="replace"))
        diffs.append({"before": texts[0], "after": texts[1]})
    if change.access_after:
        diffs.append(
            {"before": lines_of(dict(change.access_before)), "after": lines_of(dict(change.access_after))}
        )
    return [{"before_header": header, "after_header": header, **diff} for diff in diffs]


def run(module: AnsibleModule) -> dict[str, Any]:
    """Bring the tree to its state and return the module's result. Raises ConfigError."""
    params = module.params
    wanted = wanted_of(params)
    backup_dir = backup_dir_of(params, wanted.dest)
    secret = {p for p in wanted.files if params["sensitive"] or backend.matches(p, params["sensitive_files"])}
    module.no_log_values.update(params["files"][path] for path in secret if params["files"][path].strip())
    plan = backend.plan(wanted, check=module.check_mode)
    if plan.files and params["validate"]:
        try:
            backend.validate(wanted, params["validate"], temporary_directory=module.tmpdir)
        except backend.ValidatorMissingError as error:
            if not module.check_mode:
                raise
            module.warn(f"{error}; not validated")
        except backend.ConfigError as error:
            raise backend.ConfigError(
                backend.mask(str(error), [wanted.files[path] for path in secret])
            ) from error
    backup = None
    if plan.changed and not module.check_mode:
        backup = backend.install(plan, backup_dir=backup_dir, backup_keep=params["backup_keep"])
    diff: list[dict[str, Any]] = [
        {"before_header": c.path, "after_header": c.path, "before": c.before, "after": c.after}
        for c in plan.directories
    ]
    for change in plan.files:
        diff += file_diffs(change, wanted.dest, hidden=params["sensitive"] or change.path in secret)
    return {
        "changed": plan.changed,
        "changed_files": [change.path for change in plan.files],
        "backup": backup,
        "diff": diff,
    }


def main() -> None:
    words = {"type": "list", "elements": "str", "default": []}
    module = AnsibleModule(
        argument_spec={
            "dest": {"type": "path", "required": True},
            "files": {"type": "dict", "required": True},
            "owner": {"type": "str"},
            "group": {"type": "str"},
            "mode": {"type": "raw", "default": "0640"},
            "directory_mode": {"type": "raw"},
            "validate": words,
            "sensitive": {"type": "bool", "default": False},
            "sensitive_files": words,
            "backup_dir": {"type": "path"},
            "backup_keep": {"type": "int", "default": 10},
            "purge_patterns": words,
        },
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except backend.ConfigError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold an account against what is expected of it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: account_check
short_description: Hold an account against what is expected of it
version_added: 0.1.0
author: The Citadel authors (@citadel-llm)
description:
  - Looks at an account's numbers, groups, home, shell, password, ssh files and the strength of its keys, and
    asks sudo which rights are in effect.
  - Access to directories is tried by really being that user, which needs root.
  - What only root can see is told as unknown to anybody else, and unknown is never C(ok).
extends_documentation_fragment: [citadel.llm.attributes.readonly]
options:
  user:
    description: The account's name.
    type: str
    required: true
  uid:
    description: The expected number of the user.
    type: int
  gid:
    description: The expected number of its primary group.
    type: int
  group:
    description: The expected name of its primary group.
    type: str
  groups:
    description: Groups that it has to be a member of; it may be in others, too.
    type: list
    elements: str
  home:
    description: The expected home directory.
    type: path
  shell:
    description: The expected login shell.
    type: path
  password_locked:
    description: Whether no password may open the account. Needs root.
    type: bool
  ssh:
    description: Whether to look at the ssh directory (mode 700), at C(authorized_keys) (mode 600), their
      owner, and the keys. DSA keys and RSA keys of fewer than 3072 bits are weak.
    type: bool
    default: true
  ssh_keys:
    description: The expected number of keys.
    type: int
  sudo:
    description: The rights that are expected to be in effect, none, some commands, or everything. Needs root.
    type: str
    choices: [none, scoped, full]
  directories:
    description: Directories that the account uses.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The directory.
        type: path
        required: true
      mode:
        description: Its expected mode in octal, such as V("0700").
        type: str
      access:
        description: What the user has to be able to do there, by trying. V(none) tries nothing.
        type: str
        choices: [none, read, write]
        default: read
  before_provisioning:
    description: Tells what the stages account and layout put right as a deviation instead of blocking.
    type: bool
    default: false
  timeout:
    description: Seconds that each look may take.
    type: float
    default: 4
  root:
    description:
      - Where C(/etc/passwd), C(/etc/group), C(/etc/shadow) and directories are looked at, for testing
        against recorded trees. With V(/), users and groups come from the name service.
      - Nobody is switched to in a recorded tree, and sudo is asked about the running host.
    type: path
    default: /
seealso:
  - module: citadel.llm.mount_check
"""

EXAMPLES = r"""
- name: The service's account is as it should be
  citadel.llm.account_check:
    user: citadel
    uid: 1001
    gid: 1001
    group: citadel
    shell: /bin/bash
    sudo: scoped
    password_locked: true
    directories:
      - {path: /opt/citadel/secrets, mode: "0700", access: write}
      - {path: /opt/citadel/config, mode: "0755"}
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
    - id: account.uid
      severity: blocking
      subject: citadel
      expected: 1001
      found: 1002
      why: Files on shared and restored disks belong to numbers, not to names.
      remedy: Free the number, then change the account (usermod -u) and the owner of its files.
      unknown: false
verdict:
  description: V(ready), V(deviations), V(blocked), or V(unknown) where nothing decisive could be found out.
  returned: always
  type: str
counts:
  description: How many findings there are of each severity.
  returned: always
  type: dict
account:
  description: What the account is, with C(user), C(exists), C(uid), C(gid), C(group), C(groups), C(home),
    C(shell), and, where they were looked at, C(password_locked), C(ssh) and C(sudo).
  returned: always
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.citadel.llm.plugins.module_utils._account_check import check
from ansible_collections.citadel.llm.plugins.module_utils._check_arguments import ACCOUNT, account_problem
from ansible_collections.citadel.llm.plugins.module_utils._findings import as_dicts, summarise


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ACCOUNT, supports_check_mode=True)
    options = module.params
    problem = account_problem(options)
    if problem:
        module.fail_json(msg=problem)
    findings, account = check(options, options["root"], options["timeout"])
    module.exit_json(changed=False, findings=as_dicts(findings), account=account, **summarise(findings))


if __name__ == "__main__":
    main()

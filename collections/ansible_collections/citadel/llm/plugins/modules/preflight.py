#!/usr/bin/python
# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every check of a host in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Every check of a host in one call
version_added: 0.1.0
author: The Citadel authors (@citadel-llm)
description:
  - Looks at each section that is given, side by side and within one deadline, and returns one list of
    findings. GPUs and driver share one look at C(nvidia-smi).
  - A section has the options of the module that it names, and no others.
  - A check that breaks off or does not end in time is told as a finding that is C(unknown), never as a
    traceback. The others are not affected.
  - A host of which nothing can be found out (no Python, no permission) gives O(ignore:verdict=unknown) and
    RV(reason). Where root rights are asked for and refused, the module looks without them and says so.
  - Fails for options that cannot be understood, never for what it finds.
extends_documentation_fragment: [citadel.llm.attributes.readonly]
options:
  host:
    description: Options of M(citadel.llm.host_check).
    type: dict
  gpus:
    description: Options of M(citadel.llm.gpu_check).
    type: dict
  driver:
    description: Options of M(citadel.llm.driver_check).
    type: dict
  models:
    description:
      - C(models), a list of options of M(citadel.llm.model_fit). A model without C(gpu_memory_mib) and
        C(count) has to fit on the GPUs that are there, or on those of them that C(gpus) numbers.
      - With C(before_provisioning), a model whose C(path) is not there yet is a deviation that is C(unknown).
    type: dict
  mounts:
    description: Options of M(citadel.llm.mount_check). Entries for the same path are one, the later
      complements the earlier.
    type: dict
  account:
    description: Options of M(citadel.llm.account_check).
    type: dict
  endpoints:
    description: Options of M(citadel.llm.endpoint_check).
    type: dict
  known:
    description:
      - What the inventory says of other things, and from which expectations follow. They are laid below
        O(expected). Keys are C(stack), C(lock) (the content of a lock, for its torch build), C(gpu_count),
        C(deployments), C(engine_arguments), C(allowed_processes), C(mounts) and C(checks) as the roles have
        them, C(model_store), C(sources) and C(directories) (where models lie on the controller and on the
        host, by name), C(account) (options of M(citadel.llm.account_check)), C(os), C(python_min) and
        C(before_provisioning).
      - Without a stack that needs GPUs, O(gpus) and O(driver) are looked at only where something is expected.
    type: dict
  expected:
    description: What is expected, by section, with the options of the same names. V(null) takes back what
      follows from O(known). With O(models) no deployment is looked at beside what is told.
    type: dict
  sections:
    description: Which sections of O(known) and O(expected) are looked at, by default all.
    type: list
    elements: str
    choices: [host, gpus, driver, models, mounts, account, endpoints]
  deadline:
    description: Seconds for everything.
    type: float
    default: 12
  accepted:
    description: Deviations that are known and accepted for a time. They do not count in RV(verdict).
    type: list
    elements: dict
    default: []
    suboptions:
      id:
        description: The finding's C(id); shell wildcards are allowed.
        type: str
        required: true
      subject:
        description: The finding's C(subject), when only one of several is accepted; shell wildcards too.
        type: str
      reason:
        description: Why it is accepted.
        type: str
        required: true
      until:
        description: The last day on which it is accepted, as V(YYYY-MM-DD).
        type: str
        required: true
  fail_on:
    description: Which findings go into RV(stopping).
    type: list
    elements: str
    choices: [blocking, unknown, deviation]
    default: [blocking]
seealso:
  - module: citadel.llm.preflight_report
"""

EXAMPLES = r"""
- name: Look at the host
  citadel.llm.preflight:
    host:
      memory: {minimum_gb: 64}
    gpus:
      count: 2
      name: RTX 5060 Ti
      stack: {name: cuda}
    driver:
      branch: "580"
      stack: {name: cuda}
    mounts:
      mounts:
        - {path: /mnt/nvme0n1, role: models, device_class: nvme}
    accepted:
      - {id: host.cpu, reason: Delivered so and fast enough, until: "2027-03-31"}
  register: preflight

- name: Stop on what is blocking
  ansible.builtin.assert:
    that: not preflight.stopping
    fail_msg: "{{ preflight.stopping | map(attribute='remedy') | join(' ') }}"
"""

RETURN = r"""
findings:
  description: What was found, with C(id), C(severity) (V(ok), V(deviation) or V(blocking)), C(subject),
    C(expected), C(found), C(why), C(remedy), C(unknown), and C(accepted) and C(expired), the acceptance that
    covers it or has done so.
  returned: always
  type: list
  elements: dict
  sample:
    - id: stack.architecture
      severity: blocking
      subject: stack vllm-0.9.2 on 2 x NVIDIA GeForce RTX 5060 Ti
      expected: kernels for sm_120
      found: "torch 2.7.0+cu126: sm_50, sm_60, sm_70, sm_75, sm_80, sm_86, sm_90"
      why: torch 2.7.0+cu126 has no kernels for compute capability 12.0.
      remedy: Choose stack cuda.
      unknown: false
      accepted: null
      expired: null
verdict:
  description: V(ready), V(deviations), V(blocked), or V(unknown) where nothing decisive could be found out.
  returned: always
  type: str
counts:
  description: How many findings there are of each severity, how many of all are unknown, and how many are
    accepted. The accepted ones count nowhere else.
  returned: always
  type: dict
facts:
  description: What was seen, with C(host) (of M(citadel.llm.host_info)), C(gpu) (of
    M(citadel.llm.gpu_info)), C(storage) (of M(citadel.llm.storage_info)), C(models), C(mounts),
    C(account) and C(endpoints), those that were asked for.
  returned: always
  type: dict
stopping:
  description: The findings for which a play should stop, after O(fail_on).
  returned: always
  type: list
  elements: dict
reason:
  description: Why nothing could be found out; null otherwise.
  returned: always
  type: str
unused:
  description: The entries of O(accepted) that no finding needs any more.
  returned: always
  type: list
  elements: dict
seconds:
  description: How long each look took.
  returned: always
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.citadel.llm.plugins.module_utils._preflight import SECTIONS, InvalidError, check
from ansible_collections.citadel.llm.plugins.module_utils._preflight_accepted import ACCEPTED, CLASSES


def main() -> None:
    """Look. The action plugin has made sections of what is known and expected, and applies acceptances."""
    module = AnsibleModule(
        argument_spec={
            **{section: {"type": "dict"} for section in SECTIONS},
            "known": {"type": "dict"},
            "expected": {"type": "dict"},
            "sections": {"type": "list", "elements": "str", "choices": list(SECTIONS)},
            "deadline": {"type": "float", "default": 12.0},
            "accepted": {"type": "list", "elements": "dict", "default": [], "options": ACCEPTED},
            "fail_on": {"type": "list", "elements": "str", "choices": list(CLASSES), "default": ["blocking"]},
        },
        supports_check_mode=True,
    )
    if not 1 <= module.params["deadline"] <= 600:
        module.fail_json(
            msg="deadline: %(deadline)g is not from 1 to 600 seconds" % module.params, invalid=True
        )
    try:
        result = check(module.params, module.params["deadline"])
    except InvalidError as error:
        module.fail_json(msg="%s. Correct it in the inventory (preflight_expected)." % error, invalid=True)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()

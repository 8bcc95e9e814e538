#!/usr/bin/python
# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_check
short_description: Check that the GPUs are the expected ones, sound, and right for the stack
version_added: 0.1.0
description:
  - Compares number, product, memory and compute capability with what is expected.
  - Looks for memory errors, pending repairs, lost PCIe lanes, heat, foreign programs and Xid events.
  - Says whether the stack's torch build has kernels for each GPU, and if not, which stack to choose.
  - Never fails for what it finds.
author: The Citadel authors (@citadel-llm)
extends_documentation_fragment:
  - citadel.llm.attributes.readonly
  - citadel.llm.gpu
  - citadel.llm.gpu.check
  - citadel.llm.gpu.stack
  - citadel.llm.gpu.findings
options:
  count:
    description: How many GPUs there have to be. V(0) for a host without GPUs.
    type: int
  name:
    description:
      - The product, such as V(RTX 5060 Ti). Brand and form factor do not count, V(*) is anything.
    type: str
  memory_mib:
    description: The least memory of each GPU in MiB, exactly as nvidia-smi counts.
    type: int
  memory_gb:
    description: The memory of each GPU as it is sold, such as V(16), less what firmware takes.
    type: float
  compute_capability:
    description: The least compute capability, such as V(8.0).
    type: str
  tensor_parallel:
    description: Groups of GPUs, by index, over which a model is divided.
    type: list
    elements: list
    default: []
  records:
    description: What documents say about the GPUs; each has to be possible and to agree with what is there.
    type: list
    elements: dict
    default: []
    suboptions:
      source:
        description: The name of the document.
        type: str
        required: true
      name:
        description: The product.
        type: str
      count:
        description: The number.
        type: int
      memory_gb:
        description: The memory of each, as it is sold.
        type: float
  machine:
    description: The machine architecture of the host, as C(uname -m) says it. Without it, the host's own.
    type: str
  allowed_processes:
    description: Programs may use GPU memory when their name contains one of these.
    type: list
    elements: str
    default: []
  used_memory_mib:
    description: How much memory of a GPU may be in use by others.
    type: int
    default: 600
  persistence:
    description: Whether persistence mode has to be on. Not checked when null.
    type: bool
    default: true
  ecc:
    description: Whether error correction has to be on. Not checked without it, or where the GPU has none.
    type: bool
  mig:
    description: Whether MIG mode has to be on. Not checked where the GPU has none.
    type: bool
    default: false
seealso:
  - module: citadel.llm.gpu_info
  - module: citadel.llm.driver_check
"""

EXAMPLES = r"""
- name: Look at the GPUs once
  citadel.llm.gpu_info:
  register: gpu

- name: Check them
  citadel.llm.gpu_check:
    info: "{{ gpu }}"
    count: 2
    name: RTX 5060 Ti
    memory_gb: 16
    tensor_parallel: [[0, 1]]
    stack:
      name: cuda
    records:
      - source: inventory sheet
        count: 2
        name: RTX 4070
        memory_gb: 16
  register: check
"""

RETURN = r"""
findings:
  description: What was found.
  returned: always
  type: list
  elements: dict
  sample:
    - id: gpu.count
      severity: ok
      subject: GPUs
      expected: 2
      found: 2
      why: "As it should be: at least as many GPUs as expected."
      remedy: Nothing to do.
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
from ansible_collections.citadel.llm.plugins.module_utils._gpu_check import check
from ansible_collections.citadel.llm.plugins.module_utils._gpu_check_arguments import GPUS, expected_gpus


def main() -> None:
    module = AnsibleModule(argument_spec=GPUS, supports_check_mode=True)
    try:
        wanted = expected_gpus(module.params)
        info = arguments.info(module.params)
    except ValueError as error:
        module.fail_json(msg=str(error))
    found = check(info, wanted)
    module.exit_json(changed=False, findings=findings.as_dicts(found), **findings.summarise(found))


if __name__ == "__main__":
    main()

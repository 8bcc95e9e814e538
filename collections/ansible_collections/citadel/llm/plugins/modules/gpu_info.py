#!/usr/bin/python
# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_info
short_description: Tell everything about a host's NVIDIA GPUs and their driver
version_added: 0.1.0
description:
  - Reads C(nvidia-smi -q -x) of every driver generation, the PCI bus, the driver's state and the kernel log.
  - Where the driver is missing or broken, the GPUs are told by their identity on the PCI bus.
  - Never fails for the state of the host; RV(ignore:error) says what was wrong. What is not known is null.
author: The Citadel authors (@citadel-llm)
extends_documentation_fragment:
  - citadel.llm.attributes.readonly
  - citadel.llm.gpu
seealso:
  - module: citadel.llm.gpu_check
  - module: citadel.llm.driver_check
"""

EXAMPLES = r"""
- name: Look at the GPUs
  citadel.llm.gpu_info:
  register: gpu

- name: Read a recording
  citadel.llm.gpu_info:
    source: /tmp/nvidia-smi.xml
"""

RETURN = r"""
driver_version:
  description: The version of the running driver.
  returned: always
  type: str
  sample: 575.57.08
cuda_version:
  description: The newest CUDA version that the driver itself supports.
  returned: always
  type: str
  sample: '12.9'
source:
  description: Where RV(gpus) comes from. V(nvidia-smi), V(file), V(pci) (the bus alone) or V(none).
  returned: always
  type: str
error:
  description: Why nvidia-smi gave no answer that could be read, in its own words; null when it did.
  returned: always
  type: str
error_code:
  description:
    - The same as one word. V(command_missing), V(timeout), V(version_mismatch), V(driver_not_loaded),
      V(no_devices), V(gpu_lost), V(reset_required), V(interrupts), V(library_missing), V(no_permission),
      V(blocked_by_system), V(nvml_unavailable), V(unreadable) or V(failed).
  returned: always
  type: str
timestamp:
  description: When nvidia-smi wrote its answer, in its own words.
  returned: always
  type: str
attached_gpus:
  description: How many GPUs nvidia-smi says there are. More than RV(gpus) has means that one did not answer.
  returned: always
  type: int
gpus:
  description: The GPUs in nvidia-smi's order. Numbers are in the unit that the key names.
  returned: always
  type: list
  elements: dict
  contains:
    index: {description: The place in nvidia-smi's order., type: int}
    name: {description: The product's name., type: str}
    uuid: {description: The identifier that CUDA_VISIBLE_DEVICES takes., type: str}
    pci_bus_id: {description: The address on the PCI bus., type: str}
    pci_device_id: {description: The PCI device number., type: str}
    architecture: {description: The architecture., type: str}
    compute_capability: {description: The compute capability., type: str, sample: '12.0'}
    compute_capability_source:
      description: What it was derived from. V(pci_device_id), V(name), V(architecture) or V(nvidia-smi).
      type: str
    memory_total_mib: {description: The memory., type: int}
    memory_used_mib: {description: The memory in use., type: int}
    temperature_c: {description: The temperature., type: int}
    power_limit_w: {description: The power limit., type: float}
    power_draw_w: {description: The power drawn., type: float}
    power: {description: Further power limits and readings., type: dict}
    pcie:
      description: The link to the bus.
      type: dict
      contains:
        generation: {description: The generation now; it drops when the GPU idles., type: int}
        generation_max: {description: The best generation of GPU and slot together., type: int}
        width: {description: The number of lanes now., type: int}
        width_max: {description: The best number of lanes., type: int}
    ecc_enabled: {description: Whether memory errors are corrected., type: bool}
    ecc_errors: {description: Counts since the driver was loaded and since ever., type: dict}
    row_remap: {description: Remapped rows of the memory., type: dict}
    retired_pages: {description: Retired pages of the memory., type: dict}
    mig_enabled: {description: Whether the GPU is divided into instances., type: bool}
    mig_devices: {description: The instances., type: list, elements: dict}
    persistence_enabled: {description: Whether the driver stays initialised., type: bool}
    clock_reasons: {description: Every active reason for the present clocks., type: list, elements: str}
    throttle_reasons: {description: Those reasons that slow the GPU down., type: list, elements: str}
    nvlink: {description: How many NVLinks there are and how many are up., type: dict}
    processes:
      description: The processes that use the GPU; null when the driver cannot tell.
      type: list
      elements: dict
      contains:
        pid: {description: The process., type: int}
        name: {description: The program., type: str}
        memory_mib: {description: Its memory on the GPU., type: int}
pci_gpus:
  description: The GPUs that the PCI bus shows, with or without a driver; null when it was not looked at.
  returned: always
  type: list
  elements: dict
driver:
  description:
    - The kernel module that is loaded and the one on disk, the library, packages with their holds, kernels,
      secure boot.
    - Null when only a recording was read.
  returned: always
  type: dict
kernel_module_flavour:
  description: V(open) or V(proprietary); null when no module is loaded.
  returned: always
  type: str
reboot_required:
  description: Whether the host has to be restarted, worked out from what is loaded and what is installed.
  returned: always
  type: bool
reboot_reasons:
  description: Why.
  returned: always
  type: list
  elements: str
fabric_manager:
  description: Whether a fabric manager is needed, installed, active, and its version.
  returned: always
  type: dict
xid_events:
  description: Xid events in the kernel log, one for each GPU and number; null when the log could not be read.
  returned: always
  type: list
  elements: dict
kernel_log_error:
  description: Why the kernel log could not be read.
  returned: always
  type: str
messages:
  description: What stood around the document in nvidia-smi's output.
  returned: always
  type: list
  elements: str
repairs:
  description: What had to be put right in the document before it could be read.
  returned: always
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.citadel.llm.plugins.module_utils import _gpu_arguments as arguments
from ansible_collections.citadel.llm.plugins.module_utils._gpu_info import gather


def main() -> None:
    module = AnsibleModule(argument_spec=arguments.LOOK, supports_check_mode=True)
    try:
        request = arguments.request(module.params)
    except ValueError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **gather(request))


if __name__ == "__main__":
    main()

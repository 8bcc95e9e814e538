# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options with which the GPU modules are told where to look."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  nvidia_smi:
    description: The command that is asked, by name or by path.
    type: str
    default: nvidia-smi
  source:
    description:
      - A file on the managed host with the output of C(nvidia-smi -q -x); the command is not run then.
      - The host's own driver, packages and kernel log are not looked at then, unless O(root) or
        O(kernel_log) say where.
    type: path
  root:
    description:
      - The directory below which C(/proc), C(/sys), C(/run), C(/etc), C(/lib) and C(/var) are looked for.
      - Another directory than V(/) is for recorded hosts.
    type: path
    default: /
  kernel_log:
    description:
      - A file with the kernel log, one message a line.
      - Without it C(/dev/kmsg) is read, or the journal where that is not permitted.
    type: path
  timeout:
    description: The longest time in seconds that C(nvidia-smi) may take to answer.
    type: float
    default: 5.0
"""

    CHECK = r"""
options:
  info:
    description:
      - What M(citadel.llm.gpu_info) returned for this host, so that nothing is looked at twice.
      - Without it the module looks for itself, with the options below.
    type: dict
"""

    STACK = r"""
options:
  stack:
    description:
      - The stack that is to run. The name of a stack of the role P(citadel.llm.python_env#role) is enough.
      - Otherwise O(stack.torch), or O(stack.vllm) for a release that the compatibility table knows.
    type: dict
    suboptions:
      name:
        description: The name of the stack.
        type: str
      vllm:
        description: The vLLM release.
        type: str
      torch:
        description: The torch build, such as V(2.7.0+cu126). Without the part after V(+) it is PyPI's build.
        type: str
"""

    FINDINGS = r"""
options: {}
notes:
  - A finding has C(id), C(severity) (V(ok), V(deviation) or V(blocking)), C(subject), C(expected), C(found),
    C(why), C(remedy) and C(unknown). What could not be seen is C(unknown) and never V(ok).
"""

#!/usr/bin/python
# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a model fits on GPUs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_fit
short_description: Whether a model fits on GPUs
version_added: 0.1.0
author: The Citadel authors (@citadel-llm)
description:
  - Works out from a model's C(config.json) and the headers of its safetensors files what its weights and its
    KV cache take, whether it can be served on the given GPUs with the given settings, the longest context
    and the most requests at a time that fit, and the smallest change that makes it fit.
  - Reads the headers of the weight files only, never the weights, and needs neither GPU nor engine.
  - The KV cache follows vLLM 0.32.0, with its blocks, groups of layers and sliding windows. The memory that
    a step takes and that of libraries and CUDA graphs are estimates; RV(activation_bytes) and
    RV(overhead_bytes) tell them, O(activation_mib) and O(overhead_mib) replace them.
  - What cannot be told is a finding that is C(unknown), never V(ok).
extends_documentation_fragment: [citadel.llm.attributes.readonly]
options:
  name:
    description: What findings call the model. Without it, the name of O(path) or of the configuration.
    type: str
  path:
    description: Directory of the model on the host. One of O(path) and O(config) is required.
    type: path
  config:
    description: The content of C(config.json), for a model that is not there yet.
    type: dict
  weight_bytes:
    description:
      - Size of the weights as stored, C(total_size) in the index of the safetensors files.
      - Without it the headers under O(path) tell; with O(config) alone it is worked out, which is told as a
        finding that is C(unknown).
    type: int
  gpu_memory_mib:
    description: Memory of each GPU in MiB, or one value for all. The smallest counts.
    type: list
    elements: int
  count:
    description: How many GPUs there are. Without it, as many as O(gpu_memory_mib) has values, or as
      O(tensor_parallel_size) and O(pipeline_parallel_size) need.
    type: int
  gpu_memory_utilization:
    description: The engine's share of each GPU.
    type: float
    default: 0.9
  tensor_parallel_size:
    description: Over how many GPUs each layer is divided.
    type: int
    default: 1
  pipeline_parallel_size:
    description: Over how many groups of GPUs the layers are distributed.
    type: int
    default: 1
  max_model_len:
    description: Longest context in tokens. Without it, the model's own, as the engine takes it.
    type: int
  concurrency:
    description: How many requests of the longest context shall fit at a time. Fewer is a deviation.
    type: float
  dtype:
    description: The type in which the engine computes. V(auto) is the model's own, 16 bits for float32.
    type: str
    choices: [auto, bfloat16, float16, float32]
    default: auto
  quantization:
    description:
      - Quantisation of the weights, beyond what the checkpoint has already.
      - V(fp8) and V(bitsandbytes) are made at the start of the engine. V(awq) and V(gptq) need a checkpoint
        of that kind; with one that is not, the numbers are those of such a checkpoint and the finding is
        blocking.
    type: str
    choices: [none, fp8, bitsandbytes, awq, gptq]
  kv_cache_dtype:
    description: The type of the KV cache. V(auto) is that of the model.
    type: str
    choices: [auto, bfloat16, float16, fp8, fp8_e4m3, fp8_e5m2]
    default: auto
  kv_cache_memory_bytes:
    description: Size of the KV cache on each GPU, instead of what O(gpu_memory_utilization) leaves.
    type: int
  block_size:
    description: Tokens per block of the KV cache. The engine's default is 16 on a GPU and 128 on a CPU.
    type: int
    default: 16
  max_num_batched_tokens:
    description: Most tokens in one step. The default is the server's on a GPU below 70 GiB.
    type: int
    default: 2048
  max_num_seqs:
    description: Most requests in one step. The default is the server's on a GPU below 70 GiB.
    type: int
    default: 256
  async_scheduling:
    description: Whether a step is prepared while another is under way, as is usual on a GPU and not on a CPU.
    type: bool
    default: true
  prefix_caching:
    description: Whether common beginnings are kept. Matters for models whose layers keep states.
    type: bool
    default: true
  enforce_eager:
    description: Whether the engine does without CUDA graphs.
    type: bool
    default: false
  activation_mib:
    description: MiB that one step takes beside weights and cache, instead of the estimate.
    type: int
  overhead_mib:
    description: MiB for libraries, CUDA graphs and communication, instead of the estimate.
    type: int
seealso:
  - module: citadel.llm.gpu_info
  - module: citadel.llm.model_artifact
"""

EXAMPLES = r"""
- name: A model that lies on the host, on two GPUs of 16 GB
  citadel.llm.model_fit:
    path: /opt/citadel/models/qwen-coder-14b/current
    gpu_memory_mib: [16311, 16311]
    tensor_parallel_size: 2
    max_model_len: 16384
    quantization: fp8
    concurrency: 4
  register: fit

- name: A model before it is fetched
  citadel.llm.model_fit:
    name: phi-3-mini-4k-instruct
    config: "{{ lookup('ansible.builtin.file', 'phi-3-mini/config.json') | from_json }}"
    weight_bytes: 7642159104
    gpu_memory_mib: "{{ gpus.gpus | map(attribute='memory_total_mib') | list }}"
  register: fit

- name: Stop where it does not fit
  ansible.builtin.assert:
    that: fit.fits
    fail_msg: >-
      {{ fit.findings | selectattr('severity', 'equalto', 'blocking') | map(attribute='remedy') | join(' ') }}
"""

RETURN = r"""
findings:
  description: What was found, with C(id), C(severity) (V(ok), V(deviation) or V(blocking)), C(subject),
    C(expected), C(found), C(why), C(remedy), and C(unknown), whether it could not be found out. The ids are
    C(model.config), C(model.architecture), C(model.weights), C(model.quantization), C(model.context),
    C(model.parallel), C(model.utilization), C(model.memory) and C(model.concurrency).
  returned: always
  type: list
  elements: dict
  sample:
    - id: model.parallel
      severity: blocking
      subject: phi-3-mini-4k-instruct
      expected: tensor_parallel_size among 1, 2
      found: tensor_parallel_size 3, pipeline_parallel_size 1
      why: Total number of attention heads (32) must be divisible by tensor parallel size (3).
      remedy: Set tensor_parallel_size to 2.
      unknown: false
verdict:
  description: V(ready), V(deviations), V(blocked), or V(unknown) where nothing decisive could be found out.
  returned: always
  type: str
counts:
  description: How many findings there are of each severity.
  returned: always
  type: dict
fits:
  description: Whether the engine starts with these settings. Null where that is not known.
  returned: always
  type: bool
weight_bytes:
  description: Size of the weights as stored. Null where it is not known.
  returned: always
  type: int
weights_known:
  description: Whether RV(weight_bytes) is read or given, and not worked out.
  returned: always
  type: bool
weight_bytes_per_gpu:
  description: What the weights take on the fullest GPU, in the engine's type and quantisation.
  returned: always
  type: int
kv_bytes_per_token:
  description: What one token takes in the KV cache of the whole model, while it is in every layer's window.
  returned: always
  type: int
kv_bytes_per_token_per_gpu:
  description: The same on one GPU.
  returned: always
  type: int
state_bytes_per_request:
  description: What the layers that keep a state take for a request, whatever its length.
  returned: always
  type: int
kv_cache_bytes_per_gpu:
  description: What is left for the KV cache on each GPU. Null without a memory.
  returned: always
  type: int
activation_bytes:
  description: Estimate of what one step takes on a GPU beside weights and cache.
  returned: always
  type: int
overhead_bytes:
  description: Estimate of what libraries, CUDA graphs and communication take on a GPU.
  returned: always
  type: int
needed_mib_per_gpu:
  description: The least memory of each GPU in MiB with which one request of the longest context fits.
  returned: always
  type: int
max_model_len:
  description: The longest context that the numbers are for, in tokens.
  returned: always
  type: int
kv_tokens:
  description: How many tokens the KV cache holds, as the engine prints it. Null without a memory.
  returned: always
  type: int
max_context:
  description: The longest context that fits, up to the model's own. Null without a memory.
  returned: always
  type: int
max_concurrency:
  description: How many requests of RV(max_model_len) fit at a time. Null without a memory.
  returned: always
  type: float
change:
  description: The smallest change that makes it fit, as options of this module. Null where it fits or nothing
    helps.
  returned: always
  type: dict
  sample:
    tensor_parallel_size: 2
changes:
  description: Every change of one option that makes it fit, the smallest first, with C(options),
    C(kv_tokens), C(max_context) and C(max_concurrency).
  returned: always
  type: list
  elements: dict
model:
  description: The model's shape, with C(architectures), C(model_type), C(layers) (how many of each kind),
    C(heads), C(kv_heads), C(experts), C(latent_attention), C(max_length), C(dtype), C(quantization) and
    C(parameters). Null where the configuration cannot be read.
  returned: always
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.citadel.llm.plugins.module_utils._findings import as_dicts, summarise
from ansible_collections.citadel.llm.plugins.module_utils._model_fit import check
from ansible_collections.citadel.llm.plugins.module_utils._model_fit_arguments import (
    MODEL_FIT,
    model_fit_problem,
)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=MODEL_FIT, supports_check_mode=True)
    problem = model_fit_problem(module.params)
    if problem:
        module.fail_json(msg=problem)
    findings, numbers = check(module.params)
    module.exit_json(changed=False, findings=as_dicts(findings), **numbers, **summarise(findings))


if __name__ == "__main__":
    main()

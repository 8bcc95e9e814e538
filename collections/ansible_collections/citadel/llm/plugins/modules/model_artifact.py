#!/usr/bin/python
# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: a version of a model in the store of a server."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: model_artifact
short_description: Put a version of a model into the store of a server
version_added: 0.1.0
description:
  - Installs a model from a directory, an archive or a snapshot of a hub as C(<store>/<name>/<version>/),
    with a manifest that holds the sha256 of each file. A version is named by its content, written once and
    never changed.
  - The link C(<store>/<name>/current) names the active version. It is switched in one step.
  - A file whose content is not what the manifest, O(checksums), O(version) or the hub says is refused by
    name. Links that lead out of the model, devices, pointers of Git LFS and cut off safetensors files are
    refused as well.
  - Space is checked before. An interrupted transfer or download goes on in the next run, and files that
    another version of the model has are not transferred again.
  - A directory or an archive on the controller is hashed there. The hashes are cached below
    C(~/.cache/citadel) (or E(CITADEL_CACHE)) until a file changes, and only the files that the host lacks
    are sent.
author: The Citadel authors (@citadel-llm)
extends_documentation_fragment:
  - citadel.llm.attributes
options:
  store:
    description: The absolute path of the store. It is made if it is not there.
    type: path
    default: /opt/citadel/models
  name:
    description:
      - The name of the model in the store.
      - Letters, digits, C(.), C(_) and C(-), not beginning with C(.) or C(-).
    type: str
    required: true
  state:
    description:
      - With V(present) the version is installed, and active unless O(activate=false).
      - With V(verified) every file of the installed version is hashed; one that differs from the manifest
        fails the task. Nothing is changed.
      - With V(absent) the O(version) is removed, or the model with all its versions.
    type: str
    choices: [present, verified, absent]
    default: present
  source:
    description:
      - Where the model comes from, exactly one of the three. Without it, the O(version) must be installed
        already.
      - C(.git) and C(.cache) at the top are never part of a model. A C(manifest.json) at the top of a
        directory is checked against the files.
    type: dict
    suboptions:
      directory:
        description: A directory, on the controller or, with O(remote_src=true), on the host.
        type: path
      archive:
        description:
          - A C(.tar), C(.tar.gz), C(.tar.bz2), C(.tar.xz), C(.tar.zst) (needs C(zstd)) or C(.zip) file.
          - A single directory that holds everything is left out of the paths.
        type: path
      hub:
        description: A snapshot of a repository, which the host downloads.
        type: dict
        suboptions:
          repository:
            description: The repository, as C(ORGANISATION/NAME).
            type: str
            required: true
          revision:
            description: The commit, 40 hexadecimal digits.
            type: str
            required: true
          endpoint:
            description: The address of the hub. By default E(HF_ENDPOINT) on the host, else U(https://huggingface.co).
            type: str
          token:
            description: The token for private and gated repositories. It is sent to the endpoint only.
            type: str
          allow_patterns:
            description: Shell patterns of the paths to take. Without one, all are taken.
            type: list
            elements: str
            default: []
          ignore_patterns:
            description: Shell patterns of the paths to leave out.
            type: list
            elements: str
            default: []
          allow_moving_revision:
            description: Accept a branch or a tag as the revision. Two runs can install different models then.
            type: bool
            default: false
          parallel:
            description: How many files are downloaded at the same time.
            type: int
            default: 4
          timeout:
            description: Seconds to wait for an answer of the hub, or for the next block of a file.
            type: int
            default: 30
  remote_src:
    description: Whether O(source.directory) or O(source.archive) is a path on the host.
    type: bool
    default: false
  version:
    description:
      - The version, 16 hexadecimal digits. With O(source) it is the one that the source must make.
      - Without O(source) it is the installed one to activate, verify or remove.
    type: str
    aliases: [expected_version]
  manifest:
    description: A manifest on the controller that the files must agree with.
    type: path
  checksums:
    description: The expected sha256 of some files or of all of them, by their path in the model.
    type: dict
    default: {}
  archive_sha256:
    description: The expected sha256 of O(source.archive).
    type: str
  activate:
    description: Whether the version becomes the active one.
    type: bool
    default: true
  keep:
    description:
      - How many versions of the model stay in the store, the newest ones. The active version and the one
        before it always stay. If it is not given, all stay.
    type: int
  reserve:
    description: How many bytes have to stay free on the file system of the store, such as V(10G).
    type: str
    default: 1G
  owner:
    description: Whom the files belong to, a name or a number. Nobody has the right to write to them.
    type: str
    default: citadel
  group:
    description: The group that the files belong to, a name or a number.
    type: str
    default: citadel
  transfer:
    description:
      - What the action plugin tells the module about the files that it transfers. Not for use in tasks.
    type: dict
notes:
  - With a directory or an archive on the controller, the task cannot be asynchronous.
  - Where the connection's user is not root, the files go through a directory of the store that only this
    user and root can read. This user must be able to enter the store's parent directories.
"""

EXAMPLES = r"""
- name: Install a model from a directory on the controller
  citadel.llm.model_artifact:
    name: smollm2-135m-instruct
    source:
      directory: ~/.cache/citadel/models/smollm2-135m-instruct

- name: Install a pinned snapshot, keep two versions
  citadel.llm.model_artifact:
    name: phi-3-mini-4k-instruct
    source:
      hub:
        repository: microsoft/Phi-3-mini-4k-instruct
        revision: 0a67737cc96d2554230f90338b163bc6380a2a85
        ignore_patterns: ["*.onnx", "original/"]
    keep: 2

- name: Go back to an installed version
  citadel.llm.model_artifact:
    name: phi-3-mini-4k-instruct
    version: 52db92f30f1bfeb4

- name: Hash every file of the active version
  citadel.llm.model_artifact:
    name: phi-3-mini-4k-instruct
    state: verified
"""

RETURN = r"""
path:
  description: The directory of the version. Empty where check mode cannot know the version.
  returned: state is not absent
  type: str
  sample: /opt/citadel/models/smollm2-135m-instruct/52db92f30f1bfeb4
version:
  description: The version. Empty where check mode cannot know it, such as for a new snapshot.
  returned: state is not absent
  type: str
  sample: 52db92f30f1bfeb4
link:
  description: The link that names the active version.
  returned: always
  type: str
  sample: /opt/citadel/models/smollm2-135m-instruct/current
active_version:
  description: The version that the link names after the task. Empty without one.
  returned: always
  type: str
  sample: 52db92f30f1bfeb4
previous_version:
  description: The version that was active before the active one. Empty without one.
  returned: always
  type: str
bytes:
  description: The size of all files together.
  returned: the version is known
  type: int
files:
  description: How many files the version has.
  returned: the version is known
  type: int
manifest:
  description: The version, where it came from and the sha256 of at most 64 files.
  returned: the version is known
  type: dict
removed_versions:
  description: The versions that were removed.
  returned: always
  type: list
  elements: str
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.citadel.llm.plugins.module_utils._model_artifact import (
    ERRORS,
    Artifact,
    Outcome,
    describe,
    summary,
)
from ansible_collections.citadel.llm.plugins.module_utils._model_artifact_arguments import (
    MODEL_ARTIFACT,
    ArgumentError,
    make_request,
)


def result_of(artifact: Artifact, outcome: Outcome, state: str) -> Dict[str, Any]:
    result: Dict[str, Any] = {
        "changed": outcome.changed,
        "link": artifact.store.link,
        "active_version": outcome.after or "",
        "previous_version": outcome.previous or "",
        "removed_versions": outcome.removed,
    }
    if state != "absent":
        result["version"] = outcome.version or ""
        result["path"] = artifact.store.path(outcome.version) if outcome.version else ""
    if outcome.manifest is not None:
        result["bytes"] = outcome.manifest.bytes
        result["files"] = len(outcome.manifest.files)
        result["manifest"] = summary(outcome.manifest)
    if outcome.missing:
        result["transfer"] = {"directory": outcome.upload, "paths": outcome.missing}
    return result


def difference(artifact: Artifact, outcome: Outcome, state: str) -> Dict[str, str]:
    """The active version before and after, as text."""
    after = (
        "" if state == "absent" else describe(outcome.version or "known when it is fetched", outcome.manifest)
    )
    before = describe(outcome.before, outcome.manifest_before)
    if state == "absent" and outcome.version:
        before = describe(outcome.version, outcome.manifest_before)
    return {
        "before_header": artifact.store.directory,
        "after_header": artifact.store.directory,
        "before": before if outcome.changed else "",
        "after": after if outcome.changed else "",
    }


def main() -> None:
    module = AnsibleModule(argument_spec=MODEL_ARTIFACT, supports_check_mode=True)
    state = module.params["state"]
    try:
        artifact = Artifact(make_request(module.params, check_mode=module.check_mode))
        outcome = {"present": artifact.present, "verified": artifact.verified, "absent": artifact.absent}[
            state
        ]()
    except ArgumentError as error:
        module.fail_json(msg=str(error))
    except ERRORS as error:
        module.fail_json(msg=f"{module.params['name']}: {error}")
    for warning in outcome.warnings:
        module.warn(warning)
    result = result_of(artifact, outcome, state)
    if module._diff:  # noqa: SLF001 - the documented way
        result["diff"] = difference(artifact, outcome, state)
    module.exit_json(**result)


if __name__ == "__main__":
    main()

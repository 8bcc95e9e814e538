#!/usr/bin/python
# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds, tries and switches releases of a Python environment."""

from __future__ import annotations

DOCUMENTATION = r"""
module: venv_release
short_description: Build, try and switch releases of a Python environment
version_added: 0.1.0
description:
  - Builds the environment that a lock with hashes describes in a directory of its own beside the running one,
    tries it, and only then switches a link to it in one step.
  - The directory's name is a digest of the lock, of the local wheels' contents and of the Python version, so
    the same inputs are built once.
  - When anything fails (an index that cannot be reached, a hash that does not match, a trial that fails), the
    link still names the release that it named before, and the message says what and why.
  - A run that was interrupted can simply be run again.
author: The Citadel authors (@citadel-llm)
extends_documentation_fragment:
  - citadel.llm.attributes
options:
  state:
    description:
      - V(current) builds and tries the release where it is missing, and switches the link to it.
      - V(present) builds and tries it, and leaves the link alone.
      - V(rolled_back) switches the link to the release that was current before. With O(lock), only while
        the release of that lock is the current one, so that a second run changes nothing; without O(lock),
        one step back in each run.
    type: str
    choices: [current, present, rolled_back]
    default: current
  releases:
    description: Absolute path of the directory that holds the releases.
    type: path
    required: true
  link:
    description: Absolute path of the link that names the current release.
    type: path
    required: true
  lock:
    description:
      - Path, on the host, of a lock in requirements format.
      - Each requirement is pinned with C(==) and has hashes.
      - Required unless O(state=rolled_back).
    type: path
  wheels:
    description:
      - Paths, on the host, of local wheels that are installed after the lock, without their dependencies.
      - Their contents are part of the release's id.
    type: list
    elements: path
    default: []
  controller:
    description:
      - The same lock and wheels on the controller, where they are looked for as by M(ansible.builtin.copy).
      - The release's id then follows from these, and O(lock) and O(wheels) have to be on the host only when
        the release must be built. The task fails when they are others there.
    type: dict
    suboptions:
      lock:
        description: Path of the lock on the controller.
        type: path
        required: true
      wheels:
        description: Paths of the local wheels on the controller.
        type: list
        elements: path
        default: []
  expected:
    description: What the action plugin found in O(controller). Not for use in tasks.
    type: dict
  python:
    description: The interpreter that the environment is made for.
    type: path
    default: /usr/bin/python3
  uv:
    description: Path of C(uv) on the host.
    type: path
    required: true
  index_url:
    description:
      - The package index. Without it, the host's own configuration of C(uv) decides, and then PyPI.
      - It may hold credentials. They appear in no message, log or argument list.
    type: str
  extra_index_urls:
    description: Further package indexes, with the same care for credentials.
    type: list
    elements: str
    default: []
  wheelhouse:
    description: A directory on the host whose wheels are used besides the indexes.
    type: path
  offline:
    description: Whether only O(wheelhouse) is used, and no index.
    type: bool
    default: false
  only_binary:
    description: Whether source distributions, which would run code of theirs at build time, are refused.
    type: bool
    default: true
  cache_dir:
    description:
      - A directory where C(uv) keeps what it downloaded.
        On the file system of O(releases) the files are linked, not copied.
      - Without it, a cache lives beside the release while it is built, and nothing is left behind.
    type: path
  imports:
    description: Modules that the environment must be able to import.
    type: list
    elements: str
    default: []
  commands:
    description:
      - Commands, each a list of arguments, that must exit with 0. C({env}) stands for the release's path.
    type: list
    elements: list
    default: []
  trial_environment:
    description: Environment variables for O(imports) and O(commands). C({env}) stands for the release's path.
    type: dict
    default: {}
  trial_timeout:
    description: Seconds that all imports together, and each command, may take.
    type: int
    default: 300
  build_timeout:
    description: Seconds that each run of C(uv) may take, and for which another run's build is waited for.
    type: int
    default: 3600
  gpu_count:
    description: The number of GPUs that torch must find and be able to compute on. Not looked at without it.
    type: int
  free_space:
    description: MiB that must be free on the file system of O(releases) before a build.
    type: int
    default: 0
  keep:
    description:
      - How many releases are kept, the current one included. The one before it, and those that a running
        process uses, are kept in any case.
    type: int
    default: 3
  freeze_path:
    description:
      - A file with the exact installed versions of the current release.
      - It is a link through O(link) into the release, so that it is right whoever switches O(link).
    type: path
  activate_path:
    description: A shell script that is written for people to source.
    type: path
  owner:
    description: User, by name or number, that owns a new release and the two files.
    type: str
  group:
    description: Group, by name or number, of a new release and the two files.
    type: str
seealso:
  - module: citadel.llm.gated_service
"""

EXAMPLES = r"""
- name: Put the engine's environment in place
  citadel.llm.venv_release:
    releases: /opt/citadel/envs
    link: /opt/citadel/env
    lock: /opt/citadel/src/stacks/cuda/requirements.txt
    uv: /opt/citadel/tools/uv/bin/uv
    python: /usr/bin/python3.12
    imports: [torch, vllm, transformers, fastapi, uvicorn]
    commands:
      - ["{env}/bin/vllm", --version]
    gpu_count: 2
    freeze_path: /opt/citadel/requirements.txt
    activate_path: /opt/citadel/bin/activate_env.sh

- name: Go back to the environment from before this lock
  citadel.llm.venv_release:
    state: rolled_back
    releases: /opt/citadel/envs
    link: /opt/citadel/env
    lock: /opt/citadel/src/stacks/cuda/requirements.txt
    uv: /opt/citadel/tools/uv/bin/uv
"""

RETURN = r"""
id:
  description: Id of the wanted release; null in check mode where an input is not on the host yet.
  returned: success
  type: str
  sample: 3f9c2a7be1d04586
path:
  description: The directory of the wanted release.
  returned: when O(ignore:id) is known
  type: str
  sample: /opt/citadel/envs/3f9c2a7be1d04586
before:
  description: Id of the release that was current when the module started.
  returned: success
  type: str
built:
  description: Whether the release was (or would be) built.
  returned: success
  type: bool
switched:
  description: Whether the link was (or would be) switched.
  returned: success
  type: bool
packages_changed:
  description: Versions that differ between the lock of the release from before and of the wanted one.
  returned: success
  type: list
  elements: str
  sample: ["-torch==2.7.0", "+torch==2.8.0"]
pruned:
  description: Ids of the releases that were (or would be) removed.
  returned: success
  type: list
  elements: str
packages:
  description: The installed versions, by name.
  returned: when the release exists
  type: dict
size_mib:
  description: What the release takes on disk.
  returned: when the release exists
  type: int
build_seconds:
  description: How long the release took to build and try.
  returned: when the release exists
  type: float
reason:
  description: Why the module failed, in one word.
  returned: failure
  type: str
  sample: hash_mismatch
log:
  description: The file on the host that holds everything the failed build said.
  returned: when a build failed
  type: str
note:
  description: In check mode, what is not on the host yet.
  returned: when something is missing
  type: str
"""

import os
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.citadel.llm.plugins.module_utils._command import redact, url_secrets
from ansible_collections.citadel.llm.plugins.module_utils._files import resolve_group, resolve_owner
from ansible_collections.citadel.llm.plugins.module_utils._release import ReleaseError, ReleaseStore
from ansible_collections.citadel.llm.plugins.module_utils._venv_arguments import argument_spec, check_values
from ansible_collections.citadel.llm.plugins.module_utils._venv_plan import Inputs, Spec
from ansible_collections.citadel.llm.plugins.module_utils._venv_release import Outcome, Wanted, deploy


def find_owner(module: AnsibleModule) -> tuple[int, int]:
    try:
        return resolve_owner(module.params["owner"]), resolve_group(module.params["group"])
    except LookupError as error:
        if not module.check_mode:
            module.fail_json(msg=str(error), reason="owner")
        return -1, -1


def make_spec(params: dict[str, t.Any], uid: int, gid: int) -> Spec:
    same = (
        "lock python uv wheels index_url extra_index_urls wheelhouse offline only_binary cache_dir imports"
        " trial_timeout build_timeout gpu_count free_space"
    )
    return Spec(
        commands=[[str(word) for word in command] for command in params["commands"]],
        trial_environment={str(name): str(value) for name, value in params["trial_environment"].items()},
        uid=uid,
        gid=gid,
        expected=None if params["expected"] is None else Inputs(**params["expected"]),
        **{name: params[name] for name in same.split()},
    )


def describe(outcome: Outcome, link: str) -> dict[str, t.Any]:
    before = [line[1:] for line in outcome.packages_changed if line.startswith("-")]
    after = [line[1:] for line in outcome.packages_changed if line.startswith("+")]
    diff = []
    if outcome.switched:
        diff.append(
            {
                "before_header": link,
                "after_header": link,
                "before": "\n".join([f"release {outcome.before or 'none'}", *before, ""]),
                "after": "\n".join([f"release {outcome.id or 'to be built'}", *after, ""]),
            }
        )
    for file in outcome.files:
        diff.append({"before_header": file["path"], "after_header": file["path"], **file})
        del diff[-1]["path"]
    return {"diff": diff}


def main() -> None:
    module = AnsibleModule(
        argument_spec=argument_spec(),
        required_if=[("state", "current", ["lock"]), ("state", "present", ["lock"])],
        supports_check_mode=True,
    )
    params = module.params
    problem = check_values(params)
    if problem is not None:
        module.fail_json(msg=problem, reason="parameters")
    urls = [params["index_url"], *params["extra_index_urls"]]
    secrets = url_secrets(urls)
    # Only the credentials are secret: an address without any may be named in messages.
    module.no_log_values.difference_update(url for url in urls if url and not url_secrets([url]))
    module.no_log_values.update(secrets)
    os.umask(0o022)
    store = ReleaseStore(params["releases"], params["link"])
    wanted = Wanted(params["state"], params["keep"], params["freeze_path"], params["activate_path"])
    try:
        outcome = deploy(make_spec(params, *find_owner(module)), store, wanted, module.check_mode)
    except ReleaseError as error:
        log = {"log": error.log} if error.log else {}
        module.fail_json(msg=redact(str(error), secrets), reason=error.reason, **log)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        module.fail_json(
            msg=f"{where}{error.strerror}", reason="disk_full" if error.errno == 28 else "os_error"
        )
    shown = ("packages", "size_mib", "build_seconds")
    result: dict[str, t.Any] = {
        **{name: value for name, value in outcome.manifest.items() if name in shown},
        "changed": outcome.changed,
        "id": outcome.id,
        "before": outcome.before,
        "built": outcome.built,
        "switched": outcome.switched,
        "packages_changed": outcome.packages_changed,
        "pruned": outcome.pruned,
        **describe(outcome, store.link),
    }
    if outcome.id is not None:
        result["path"] = store.path(outcome.id)
    if outcome.note is not None:
        result["note"] = outcome.note
    module.exit_json(**result)


if __name__ == "__main__":
    main()

# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds a Python environment from a lock with uv and tries it."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from typing import Any, Dict, List, Mapping, Optional

from ansible_collections.citadel.llm.plugins.module_utils._command import Completed, Runner, url_secrets
from ansible_collections.citadel.llm.plugins.module_utils._files import write_atomic
from ansible_collections.citadel.llm.plugins.module_utils._release import ReleaseError, ReleaseStore
from ansible_collections.citadel.llm.plugins.module_utils._uv import canonical_name, explain_failure
from ansible_collections.citadel.llm.plugins.module_utils._venv_plan import FORMAT, Plan, Spec

FREEZE = "requirements.txt"  # in each release: what is installed
_BYTECODE_TIMEOUT = "600"
_INHERITED = re.compile(
    r"\A(?:PYTHON.*|VIRTUAL_ENV|CONDA_PREFIX|UV_(?:DEFAULT_)?INDEX|UV_(?:EXTRA_)?INDEX_URL)\Z"
)

# Names the import that failed, and proves the GPUs in the same process: importing torch twice costs seconds.
_TRIAL = """
import importlib, json, sys
asked = json.loads(sys.argv[1])
for name in asked["imports"]:
    print("importing", name, flush=True)
    importlib.import_module(name)
if asked["gpu_count"] is not None:
    print("counting GPUs", flush=True)
    import torch
    if asked["gpu_count"] and not torch.cuda.is_available():
        sys.exit("torch %s (CUDA %s) finds no usable GPU" % (torch.__version__, torch.version.cuda))
    found = torch.cuda.device_count()
    if found != asked["gpu_count"]:
        sys.exit("torch %s finds %d GPUs, expected %d" % (torch.__version__, found, asked["gpu_count"]))
    for index in range(found):
        torch.ones(8, device="cuda:%d" % index).sum().item()
"""


class Builder:
    """Builds and tries releases in a store."""

    def __init__(self, spec: Spec, store: ReleaseStore) -> None:
        self.spec = spec
        self.store = store
        secrets = url_secrets([spec.index_url, *spec.extra_index_urls])
        descriptors = () if store.lock_fd is None else (store.lock_fd,)
        self.runner = Runner(secrets=secrets, pass_fds=descriptors)

    def _environment(self) -> Dict[str, str]:
        return {name: value for name, value in os.environ.items() if not _INHERITED.match(name)}

    def _uv_environment(self, release: str) -> Dict[str, str]:
        environment = self._environment()
        # The cache lies on the file system of the releases, so that uv links files instead of copying them.
        environment["UV_CACHE_DIR"] = self.spec.cache_dir or self.store.cache_path(release)
        environment["UV_NO_PROGRESS"] = "1"
        environment["UV_PYTHON_DOWNLOADS"] = "never"
        environment.setdefault("UV_SYSTEM_CERTS", "1")
        environment.setdefault("UV_COMPILE_BYTECODE_TIMEOUT", _BYTECODE_TIMEOUT)
        if not self.spec.offline:
            if self.spec.index_url is not None:
                environment["UV_DEFAULT_INDEX"] = self.spec.index_url
            if self.spec.extra_index_urls:
                environment["UV_INDEX"] = " ".join(self.spec.extra_index_urls)
        return environment

    def _uv(self, release: str, plan: Plan, *arguments: str) -> None:
        completed = self.runner.run(
            [self.spec.uv, *arguments], self._uv_environment(release), self.spec.build_timeout
        )
        if completed.returncode is None:
            raise ReleaseError(
                "timeout", f"uv had not finished after {self.spec.build_timeout:.0f} s (build_timeout)"
            )
        if completed.returncode != 0:
            raise ReleaseError(*explain_failure(completed.output, str(plan.python)))

    def build(self, plan: Plan) -> Dict[str, Any]:
        """Build and try the release and mark it complete; its manifest.

        Raises ReleaseError: the release is then gone, what was said is in the log beside it.
        """
        started = time.time()
        self._check_space()
        self.store.remove(plan.id)
        try:
            self._install(plan)
            self.try_out(plan.id)
            packages = installed_packages(self.store.path(plan.id))
            write_atomic(
                os.path.join(self.store.path(plan.id), FREEZE), freeze_text(packages).encode(), mode=0o644
            )
            self._hand_over(plan.id)
            manifest = self._manifest(plan, packages, started)
            self.store.complete(plan.id, manifest)
        except ReleaseError as error:
            self._give_up(plan.id, error)
            raise
        finally:
            shutil.rmtree(self.store.cache_path(plan.id), ignore_errors=True)
        if os.path.exists(self.store.log_path(plan.id)):
            os.unlink(self.store.log_path(plan.id))
        return manifest

    def _give_up(self, release: str, error: ReleaseError) -> None:
        self.store.remove(release)
        error.log = self.store.log_path(release)
        text = "\n".join([*self.runner.log, str(error), ""])
        try:
            write_atomic(error.log, text.encode(), mode=0o640)
        except OSError:  # a full disk: the error itself says enough
            error.log = None

    def _check_space(self) -> None:
        free = shutil.disk_usage(self.store.root).free
        if free < self.spec.free_space << 20:
            raise ReleaseError(
                "disk_full",
                f"{self.store.root} has {free >> 20} MiB free and {self.spec.free_space} MiB are asked for"
                " (free_space): free space, or lower keep",
            )

    def _install(self, plan: Plan) -> None:
        path = self.store.path(plan.id)
        self._uv(plan.id, plan, "venv", "--no-project", "--python", plan.python.executable, path)
        options = ["--python", f"{path}/bin/python", "--compile-bytecode"]
        sources = (
            ["--no-index", "--offline"] if self.spec.offline else ["--index-strategy", "unsafe-best-match"]
        )
        if self.spec.wheelhouse is not None:
            sources += ["--find-links", self.spec.wheelhouse]
        if self.spec.only_binary:
            sources += ["--only-binary", ":all:"]
        copy = os.path.join(path, "requirements.lock")
        shutil.copyfile(str(self.spec.lock), copy)
        # sync: the lock is complete, nothing is resolved again. The hashes make best-match safe.
        self._uv(plan.id, plan, "pip", "sync", "--require-hashes", *options, *sources, copy)
        if self.spec.wheels:
            local = ["--no-deps", "--no-index", "--offline", *self.spec.wheels]
            self._uv(plan.id, plan, "pip", "install", *options, *local)

    def try_out(self, release: str) -> None:
        """Import what is to be imported, count the GPUs, run the commands. Raises ReleaseError."""
        spec, path = self.spec, self.store.path(release)
        with tempfile.TemporaryDirectory(prefix=".trial-", dir=self.store.root) as home:
            environment = {**self._environment(), "HOME": home, "VIRTUAL_ENV": path}
            environment["PATH"] = f"{path}/bin:{environment.get('PATH', os.defpath)}"
            environment.update(
                {name: value.replace("{env}", path) for name, value in spec.trial_environment.items()}
            )
            if spec.imports or spec.gpu_count is not None:
                asked = json.dumps({"imports": spec.imports, "gpu_count": spec.gpu_count})
                argv = [f"{path}/bin/python", "-c", _TRIAL, asked]
                self._judge(self._try(argv, environment, "the imports"), "")
            for command in spec.commands:
                argv = [word.replace("{env}", path) for word in command]
                self._judge(self._try(argv, environment, " ".join(argv)), " ".join(argv))

    def _try(self, argv: List[str], environment: Mapping[str, str], what: str) -> Completed:
        try:
            return self.runner.run(argv, environment, self.spec.trial_timeout)
        except OSError as error:
            raise ReleaseError(
                "trial_failed", f"the trial failed: {what} cannot be run: {error.strerror}"
            ) from error

    def _judge(self, completed: Completed, what: str) -> None:
        if completed.returncode == 0:
            return
        if not what:
            steps = re.findall(r"^(?:importing \S+|counting GPUs)$", completed.output, re.MULTILINE)
            what = steps[-1] if steps else "starting Python"
        if completed.returncode is None:
            ended = f"did not end within {self.spec.trial_timeout:.0f} s (trial_timeout)"
        else:
            ended = f"ended with {completed.returncode}"
        raise ReleaseError("trial_failed", f"the trial failed: {what} {ended}:\n{completed.tail()}")

    def _hand_over(self, release: str) -> None:
        if self.spec.uid == -1 and self.spec.gid == -1:
            return
        path = self.store.path(release)
        os.lchown(path, self.spec.uid, self.spec.gid)
        for folder, folders, files in os.walk(path):
            for name in folders + files:
                os.lchown(os.path.join(folder, name), self.spec.uid, self.spec.gid)

    def _manifest(self, plan: Plan, packages: Dict[str, str], started: float) -> Dict[str, Any]:
        path = self.store.path(plan.id)
        return {
            "id": plan.id,
            "format": FORMAT,
            "lock_sha256": plan.inputs.lock_digest,
            "locked": plan.locked,
            "packages": packages,
            "python": {
                "tag": plan.python.tag,
                "version": plan.python.version,
                "executable": plan.python.executable,
            },
            "wheels": plan.inputs.wheels,
            "built": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
            "build_seconds": round(time.time() - started, 1),
            "size_mib": tree_size(path) >> 20,
        }


def usable(store: ReleaseStore, release: str) -> Optional[Dict[str, Any]]:
    """The manifest of a complete release whose interpreter is still there, else None."""
    manifest = store.manifest(release)
    return manifest if manifest and os.path.exists(os.path.join(store.path(release), "bin/python")) else None


def installed_packages(path: str) -> Dict[str, str]:
    """Version by name of every distribution in the environment."""
    packages: Dict[str, str] = {}
    library = os.path.join(path, "lib")
    for python in os.listdir(library) if os.path.isdir(library) else []:
        folder = os.path.join(library, python, "site-packages")
        for entry in os.listdir(folder) if os.path.isdir(folder) else []:
            if not entry.endswith(".dist-info"):
                continue
            with open(os.path.join(folder, entry, "METADATA"), encoding="utf-8", errors="replace") as stream:
                head = stream.read(4096)
            name = re.search(r"^Name:\s*(\S+)", head, re.MULTILINE)
            version = re.search(r"^Version:\s*(\S+)", head, re.MULTILINE)
            if name and version:
                packages[canonical_name(name.group(1))] = version.group(1)
    return dict(sorted(packages.items()))


def tree_size(path: str) -> int:
    """Bytes on disk; a file with several names counts once."""
    seen, total = set(), 0
    for folder, folders, files in os.walk(path):
        for name in folders + files:
            status = os.lstat(os.path.join(folder, name))
            if status.st_ino not in seen:
                seen.add(status.st_ino)
                total += status.st_blocks * 512
    return total


def freeze_text(packages: Mapping[str, str]) -> str:
    """The exact versions of an environment, in requirements format."""
    return "".join(f"{name}=={version}\n" for name, version in sorted(packages.items()))

# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings a snapshot of a hub into the staging area: several files at a time, each checked and resumable."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

from ansible_collections.citadel.llm.plugins.module_utils import _model_manifest as manifests
from ansible_collections.citadel.llm.plugins.module_utils._files import sha256_file
from ansible_collections.citadel.llm.plugins.module_utils._hub import Hub, HubFile, Snapshot, has_hash
from ansible_collections.citadel.llm.plugins.module_utils._model_manifest import FileEntry, Manifest
from ansible_collections.citadel.llm.plugins.module_utils._model_staging import link_or_copy
from ansible_collections.citadel.llm.plugins.module_utils._model_store import ModelStore


@dataclass(frozen=True)
class HubSource:
    """A pinned revision of a repository and how to fetch it. `token` is secret."""

    repository: str
    revision: str
    endpoint: str
    token: Optional[str] = None
    allow_patterns: Tuple[str, ...] = ()
    ignore_patterns: Tuple[str, ...] = ()
    allow_moving_revision: bool = False
    parallel: int = 4
    timeout_s: float = 30.0

    def client(self) -> Hub:
        return Hub(self.endpoint, self.token, timeout_s=self.timeout_s)

    def origin(self, commit: str) -> Dict[str, Any]:
        """What a manifest says of where it came from."""
        return {
            "kind": "hub",
            "repository": self.repository,
            "revision": commit,
            "allow_patterns": list(self.allow_patterns),
            "ignore_patterns": list(self.ignore_patterns),
        }

    def made(self, manifest: Manifest) -> bool:
        """Whether the manifest came from this very revision, so that the hub need not be asked."""
        return manifest.source == self.origin(self.revision)


def fetch(source: HubSource, store: ModelStore, reserve: int, client: Optional[Hub] = None) -> Manifest:
    """Stage the files of the snapshot that are not there yet, and make its manifest.

    Raises HubError, StoreError for too little space, ManifestError, OSError. What has arrived stays staged.
    """
    hub = client or source.client()
    snapshot = hub.snapshot(
        source.repository,
        source.revision,
        allow_moving=source.allow_moving_revision,
        allow_patterns=source.allow_patterns,
        ignore_patterns=source.ignore_patterns,
    )
    wanted = [file for file in snapshot.files if file.path != manifests.MANIFEST_NAME]
    for file in wanted:
        manifests.check_path(file.path)
    store.staging.make()
    absent = list(_absent(store, wanted).values())
    needed = sum(file.size - min(store.staging.partial_bytes(file.key), file.size) for file in absent)
    store.check_space(needed, reserve)
    _download(hub, snapshot, absent, store, source.parallel)
    return manifests.make_manifest([_entry(store, file) for file in wanted], source.origin(snapshot.commit))


def _staged(store: ModelStore, file: HubFile) -> str:
    return os.path.join(store.staging.directory, file.key)


def _absent(store: ModelStore, files: List[HubFile]) -> Dict[str, HubFile]:
    """The files, by content, that neither the staging area nor an installed version has."""
    held = store.held({file.sha256 for file in files if file.sha256})
    absent = {}
    for file in files:
        if file.sha256:
            here = file.sha256 in held or store.staging.has(FileEntry(file.path, file.size, file.sha256))
        else:
            here = has_hash(_staged(store, file), file)
        if not here:
            absent[file.key] = file
    return absent


def _download(hub: Hub, snapshot: Snapshot, files: List[HubFile], store: ModelStore, parallel: int) -> None:
    def bring(file: HubFile) -> None:
        part = store.staging.part(file.key)
        hub.download(snapshot, file, part)
        os.replace(part, _staged(store, file))
        if file.sha256:
            store.staging.cache.put(_staged(store, file), file.sha256)

    # The largest first, so that the last one does not run alone for long.
    ordered = sorted(files, key=lambda file: (-file.size, file.path))
    with ThreadPoolExecutor(max_workers=max(parallel, 1)) as pool:
        tasks = [pool.submit(bring, file) for file in ordered]
        try:
            for task in as_completed(tasks):
                task.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _entry(store: ModelStore, file: HubFile) -> FileEntry:
    """The file with its sha256, staged under it; a small file has only git's hash until now."""
    if file.sha256:
        return FileEntry(file.path, file.size, file.sha256)
    entry = FileEntry(file.path, file.size, sha256_file(_staged(store, file)))
    if not store.staging.has(entry):
        link_or_copy(_staged(store, file), store.staging.blob(entry))
    return entry

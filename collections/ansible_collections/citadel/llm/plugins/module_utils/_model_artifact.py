# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings one model into the state that a task asks for: the back end of the module model_artifact."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional

from ansible_collections.citadel.llm.plugins.module_utils import _model_manifest as manifests
from ansible_collections.citadel.llm.plugins.module_utils._hub_rules import HubError
from ansible_collections.citadel.llm.plugins.module_utils._model_cache import Cache
from ansible_collections.citadel.llm.plugins.module_utils._model_manifest import Manifest, ManifestError
from ansible_collections.citadel.llm.plugins.module_utils._model_snapshot import HubSource, fetch
from ansible_collections.citadel.llm.plugins.module_utils._model_source import Tree, open_tree
from ansible_collections.citadel.llm.plugins.module_utils._model_staging import StagingError
from ansible_collections.citadel.llm.plugins.module_utils._model_store import (
    ModelStore,
    Owner,
    StoreError,
    check_version,
)
from ansible_collections.citadel.llm.plugins.module_utils._model_uploads import Uploads
from ansible_collections.citadel.llm.plugins.module_utils._model_weights import check_files

ERRORS = (HubError, ManifestError, StagingError, StoreError, LookupError, OSError)
_FEW = 64


@dataclass
class Request:
    """What a task asks for.

    At most one of `pushed`, `directory`, `archive` and `hub` says where the model comes from: the manifest
    of files that the controller transfers, a path on this host, or a hub. `committing` means that the
    transfer to the directory `upload` is done. `uploader` is the user who transfers.
    """

    store: str
    name: str
    version: Optional[str] = None
    pushed: Optional[Manifest] = None
    directory: Optional[str] = None
    archive: Optional[str] = None
    archive_sha256: Optional[str] = None
    hub: Optional[HubSource] = None
    expected: Optional[Manifest] = None
    checksums: Mapping[str, str] = field(default_factory=dict)
    activate: bool = True
    keep: Optional[int] = None
    reserve: int = 0
    owner: Owner = field(default_factory=Owner)
    committing: bool = False
    upload: Optional[str] = None
    uploader: Optional[str] = None
    check_mode: bool = False

    @property
    def has_source(self) -> bool:
        return any(source is not None for source in (self.pushed, self.directory, self.archive, self.hub))


@dataclass
class Outcome:
    """What was done, or would be in check mode. `missing` is what has to be sent to `upload` first."""

    changed: bool = False
    version: Optional[str] = None
    before: Optional[str] = None
    after: Optional[str] = None
    previous: Optional[str] = None
    manifest: Optional[Manifest] = None
    manifest_before: Optional[Manifest] = None
    removed: List[str] = field(default_factory=list)
    warnings: List[str] = field(default_factory=list)
    missing: List[str] = field(default_factory=list)
    upload: Optional[str] = None


class Artifact:
    """One call of the module. Every method raises one of `ERRORS` where it cannot do its work."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.store = ModelStore(request.store, request.name)
        self.uploads = Uploads(self.store.staging)
        if request.version is not None:
            check_version(request.version)
        before = self.store.current()
        self.outcome = Outcome(before=before, after=before, previous=self.store.previous())
        self.outcome.manifest_before = self.store.manifest(before) if before else None

    # present

    def present(self) -> Outcome:
        if self.request.check_mode:
            return self._present()
        with self.store.staging.locked():
            try:
                return self._present()
            finally:
                self.uploads.drop(self.request.upload)

    def _present(self) -> Outcome:
        manifest = self._wanted()
        if manifest is None:  # check mode, and what the version would be can only be known by doing it
            self.outcome.changed = True
            return self.outcome
        self._check_expectations(manifest)
        self.outcome.manifest, self.outcome.version = manifest, manifest.version
        installed = os.path.lexists(self.store.path(manifest.version))
        damage = self.store.damage(manifest.version, thorough=False) if installed else []
        if damage and not self.request.has_source:
            raise StoreError(
                f"{self.store.path(manifest.version)} is damaged: {_few(damage)}; install it again"
            )
        if damage:
            self.outcome.warnings.append(
                f"{self.store.path(manifest.version)} was damaged and is replaced: {_few(damage)}"
            )
        if not installed or damage:
            self.outcome.changed = True
            if not self._install(manifest):
                return self.outcome
        elif not self.request.check_mode:
            self.store.staging.discard()
        self._settle(manifest.version)
        return self.outcome

    def _wanted(self) -> Optional[Manifest]:
        """The manifest of the version that is asked for; None where check mode cannot know it."""
        request = self.request
        if request.pushed is not None:
            return request.pushed
        known = request.version or (request.expected.version if request.expected else None)
        installed = self.store.manifest(known) if known else None
        if installed is not None:
            if not request.has_source or not self.store.damage(installed.version, thorough=False):
                return installed
        if not request.has_source:
            found = ", ".join(self.store.versions()) or "none"
            raise StoreError(
                f"version {known} of {request.name} is not in {request.store} (installed: {found}): "
                "name one that is, or give a source"
            )
        if request.hub is not None:
            return self._wanted_of_hub(request.hub)
        if request.check_mode and not os.path.exists(str(request.directory or request.archive)):
            self.outcome.warnings.append(f"{request.directory or request.archive} is not there yet")
            return None
        tree = open_tree(request.directory, request.archive)
        check_archive(tree, request.archive_sha256, self.store.staging.cache)
        own = tree.own_manifest()
        manifest = tree.manifest(self.store.staging.cache)
        check_same(own, manifest, "its manifest")
        return manifest

    def _wanted_of_hub(self, hub: HubSource) -> Optional[Manifest]:
        for version in self.store.versions():
            installed = self.store.manifest(version)
            if installed and hub.made(installed) and not self.store.damage(version, thorough=False):
                return installed
        if self.request.check_mode:
            return None
        return fetch(hub, self.store, self.request.reserve)

    def _check_expectations(self, manifest: Manifest) -> None:
        check_same(self.request.expected, manifest, "the expected manifest")
        check_checksums(self.request.checksums, manifest)
        if self.request.version not in (None, manifest.version):
            raise ManifestError(
                f"the source makes version {manifest.version}, not {self.request.version}: it is another "
                "model, or files were added, removed or damaged"
            )

    def _install(self, manifest: Manifest) -> bool:
        """Install what is staged; False where the controller has to transfer first, and in check mode."""
        request, staging = self.request, self.store.staging
        if request.check_mode:
            self._predict_space(manifest)
            self._settle(manifest.version)
            return False
        staging.make()
        held = self.store.held({entry.sha256 for entry in manifest.files})
        self.uploads.collect({entry.sha256: entry for entry in staging.missing(manifest)})
        self.uploads.drop_dead()
        missing = [entry for entry in staging.missing(manifest) if entry.sha256 not in held]
        self.store.check_space(sum(entry.size for entry in missing), request.reserve)
        if missing and request.pushed is not None:
            if request.committing:
                raise ManifestError(
                    f"{missing[0].path} was damaged on its way to the host, or did not arrive whole "
                    f"({len(missing)} files in all): run again, the other files are not sent twice"
                )
            self.outcome.missing = [entry.path for entry in missing]
            self.outcome.upload = self.uploads.open(request.uploader)
            return False
        if missing:
            tree = open_tree(request.directory, request.archive)
            by_path = {entry.path: entry for entry in missing}
            for path, file in tree.files(by_path, staging.directory):
                staging.take(file, by_path[path], move=tree.temporary)
        contents = {entry.path: held.get(entry.sha256) or staging.blob(entry) for entry in manifest.files}
        check_files(contents, contents.get)
        self.store.install(manifest, request.owner)
        staging.discard()
        return True

    def _predict_space(self, manifest: Manifest) -> None:
        """Warn of too little space: before a first run the disk of the store can be missing yet."""
        try:
            self.store.check_space(manifest.bytes, self.request.reserve)
        except StoreError as error:
            self.outcome.warnings.append(str(error))

    def _settle(self, version: str) -> None:
        """Owner, modes, the active link and old versions; the same prediction in check mode."""
        request, outcome, check = self.request, self.outcome, self.request.check_mode
        if os.path.isdir(self.store.path(version)):
            outcome.changed |= bool(self.store.drift(version, request.owner, repair=not check))
        if request.activate and outcome.before != version:
            outcome.changed = True
            outcome.after, outcome.previous = version, outcome.before or outcome.previous
            if not check:
                self.store.activate(version)
        outcome.removed = self.store.prunable(request.keep, current=outcome.after, previous=outcome.previous)
        outcome.removed = [old for old in outcome.removed if old != version]
        outcome.changed |= bool(outcome.removed)
        if not check:
            for old in outcome.removed:
                self.store.remove(old)
            self.store.staging.empty_trash()

    # absent and verified

    def absent(self) -> Outcome:
        if self.request.check_mode or not os.path.isdir(self.request.store):
            return self._absent()
        with self.store.staging.locked():
            return self._absent()

    def _absent(self) -> Outcome:
        version, check = self.request.version, self.request.check_mode
        there = os.path.lexists(self.store.directory if version is None else self.store.path(version))
        if version is not None and version == self.outcome.before:
            raise StoreError(
                f"version {version} of {self.request.name} is active: activate another one first, "
                "or leave out the version to remove the model with all its versions"
            )
        self.outcome.version = version
        self.outcome.manifest_before = (
            self.store.manifest(version) if version else self.outcome.manifest_before
        )
        self.outcome.changed = there
        self.outcome.removed = (self.store.versions() if version is None else [version]) if there else []
        if version is None:
            self.outcome.after = self.outcome.previous = None
        if not check and os.path.isdir(self.request.store):
            if version is None:
                self.store.remove_all()
                self.uploads.drop_all()
            elif there:
                self.store.remove(version)
            self.store.staging.empty_trash()
        return self.outcome

    def verified(self) -> Outcome:
        version = self.request.version or self.outcome.before
        if version is None or not os.path.isdir(self.store.path(version)):
            what = "active version" if version is None else f"version {version}"
            raise StoreError(
                f"{self.request.name} has no {what} in {self.request.store}: install it with state=present"
            )
        damage = self.store.damage(version, thorough=True)
        manifest = self.store.manifest(version)
        if damage or manifest is None:
            raise StoreError(
                f"{self.store.path(version)} is damaged: {_few(damage)}; install it again with state=present"
            )
        self._check_expectations(manifest)
        self.outcome.version, self.outcome.manifest = version, manifest
        return self.outcome


def check_archive(tree: Tree, sha256: Optional[str], cache: Cache) -> None:
    """Raise ManifestError unless an archive has this sha256; None, and a directory, are not checked."""
    if sha256 is None or not tree.temporary:
        return
    found = cache.sha256(tree.root)
    if found != sha256.lower():
        raise ManifestError(f"the archive {tree.root} has sha256 {found}, not {sha256}: fetch it again")


def check_same(expected: Optional[Manifest], found: Manifest, what: str) -> None:
    """Raise ManifestError, naming files, unless what was found is what is expected. None expects nothing."""
    lines = manifests.differences(expected, found) if expected else []
    if lines:
        raise ManifestError(
            f"the model is not what {what} says: {_few(lines)}; fetch it again from its publisher"
        )


def check_checksums(checksums: Mapping[str, str], manifest: Manifest) -> None:
    """Raise ManifestError, naming the file, unless each named file is there with its sha256."""
    found = manifest.by_path()
    for path, sha256 in checksums.items():
        if path not in found:
            raise ManifestError(
                f"the model has no file {path!r}, for which a sha256 is given: check the path"
            )
        if found[path].sha256 != sha256.lower():
            raise ManifestError(
                f"{path} has sha256 {found[path].sha256}, not {sha256}: "
                "fetch it again, or correct the checksum"
            )


def _few(lines: List[str]) -> str:
    more = f" and {len(lines) - 3} more" if len(lines) > 3 else ""
    return "; ".join(lines[:3]) + more


def summary(manifest: Manifest) -> Dict[str, Any]:
    """The manifest for a task's result; the hashes of at most 64 files, so that it stays short."""
    hashes = {entry.path: entry.sha256 for entry in manifest.files[:_FEW]}
    return {
        "version": manifest.version,
        "source": manifest.source,
        "sha256": hashes,
        "truncated": len(manifest.files) > _FEW,
    }


def describe(version: Optional[str], manifest: Optional[Manifest]) -> str:
    """A version as text, a line for each file: for the difference that a task shows."""
    if version is None:
        return ""
    rows = [
        f"{entry.path} {entry.size} sha256:{entry.sha256}" for entry in (manifest.files if manifest else ())
    ]
    return "\n".join([f"version: {version}", *rows]) + "\n"

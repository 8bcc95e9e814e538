# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The store of models on a host: ``<store>/<name>/<version>/``, written once, and the link that is active."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import tempfile
import time
from dataclasses import dataclass
from typing import Dict, List, Optional, Set

from ansible_collections.citadel.llm.plugins.module_utils import _model_manifest as manifests
from ansible_collections.citadel.llm.plugins.module_utils._files import (
    replace_link,
    sha256_file,
    sync_directory,
    write_atomic,
)
from ansible_collections.citadel.llm.plugins.module_utils._model_manifest import (
    FileEntry,
    Manifest,
    ManifestError,
)
from ansible_collections.citadel.llm.plugins.module_utils._model_staging import (
    Staging,
    link_or_copy,
    remove_tree,
)

FILE_MODE = 0o444
DIRECTORY_MODE = 0o555
CURRENT = "current"
PREVIOUS = "previous"
_NAME = re.compile(r"\A[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")
_VERSION = re.compile(r"\A[0-9a-f]{16}\Z")


class StoreError(Exception):
    """The store cannot do what was asked; the message says why and what to do."""


@dataclass(frozen=True)
class Owner:
    """Whom installed files belong to; -1 leaves the id of the process."""

    uid: int = -1
    gid: int = -1

    def fits(self, status: os.stat_result) -> bool:
        return self.uid in (-1, status.st_uid) and self.gid in (-1, status.st_gid)

    def give(self, path: str) -> None:
        if not self.fits(os.lstat(path)):
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


def check_name(name: str) -> None:
    """Raise StoreError unless the name can be a directory of the store."""
    if not _NAME.match(name) or name in (CURRENT, PREVIOUS):
        raise StoreError(
            f"the name {name!r} of a model is not valid: use letters, digits, '.', '_' and '-', "
            "not beginning with '.' or '-'"
        )


def check_version(version: str) -> None:
    """Raise StoreError unless the text has the form of a version."""
    if not _VERSION.match(version):
        raise StoreError(
            f"the version {version!r} is not valid: a version is the 16 hexadecimal digits in a manifest"
        )


class ModelStore:
    """The versions of one model. Callers hold the lock of its staging area while they change something."""

    def __init__(self, root: str, name: str) -> None:
        check_name(name)
        self.root = os.path.normpath(root)
        self.name = name
        self.directory = os.path.join(self.root, name)
        self.link = os.path.join(self.directory, CURRENT)
        self.staging = Staging(self.root, name)

    def path(self, version: str) -> str:
        return os.path.join(self.directory, version)

    def versions(self) -> List[str]:
        """The installed versions, the newest first."""
        try:
            names = [name for name in os.listdir(self.directory) if _VERSION.match(name)]
        except FileNotFoundError:
            return []
        return sorted(names, key=lambda name: (-self._installed_at(name), name))

    def _installed_at(self, version: str) -> int:
        try:
            return os.stat(os.path.join(self.path(version), manifests.MANIFEST_NAME)).st_mtime_ns
        except OSError:
            return 0

    def manifest(self, version: str) -> Optional[Manifest]:
        """The manifest of an installed version; None where it is not installed or its manifest is damaged."""
        try:
            manifest = manifests.read_manifest(os.path.join(self.path(version), manifests.MANIFEST_NAME))
        except ManifestError:
            return None
        return manifest if manifest.version == version else None

    def current(self) -> Optional[str]:
        return self._target(CURRENT)

    def previous(self) -> Optional[str]:
        return self._target(PREVIOUS)

    def _target(self, link: str) -> Optional[str]:
        try:
            target = os.readlink(os.path.join(self.directory, link))
        except OSError:
            return None
        return os.path.basename(os.path.normpath(target))

    def damage(self, version: str, *, thorough: bool) -> List[str]:
        """What is wrong with an installed version, one line per file; empty where nothing is.

        Thorough hashes every file. Otherwise sizes are compared, and only a file that was written to after
        the manifest is hashed.
        """
        manifest = self.manifest(version)
        if manifest is None:
            return [f"{manifests.MANIFEST_NAME} is missing or damaged"]
        root = self.path(version)
        try:
            found = dict(manifests.walk(root))
        except (ManifestError, OSError) as error:
            return [str(error)]
        installed_at = self._installed_at(version)
        lines = [f"{path} is not in the manifest" for path in sorted(set(found) - set(manifest.by_path()))]
        for entry in manifest.files:
            status = found.get(entry.path)
            if status is None:
                lines.append(f"{entry.path} is missing")
            elif status.st_size != entry.size:
                lines.append(f"{entry.path} has {status.st_size} bytes, not {entry.size}")
            elif thorough or status.st_mtime_ns > installed_at:
                lines.extend(self._check_content(root, entry))
        return lines

    @staticmethod
    def _check_content(root: str, entry: FileEntry) -> List[str]:
        sha256 = sha256_file(os.path.join(root, entry.path))
        return [] if sha256 == entry.sha256 else [f"{entry.path} has sha256 {sha256}, not {entry.sha256}"]

    def held(self, wanted: Set[str]) -> Dict[str, str]:
        """Which of the wanted sha256 installed versions have, each with a file whose content was checked."""
        found: Dict[str, str] = {}
        for version in self.versions():
            other = self.manifest(version)
            for entry in other.files if other else ():
                if entry.sha256 not in wanted or entry.sha256 in found:
                    continue
                path = os.path.join(self.path(version), entry.path)
                with contextlib.suppress(OSError):
                    if not os.path.islink(path) and self.staging.cache.sha256(path) == entry.sha256:
                        found[entry.sha256] = path
        return found

    def install(self, manifest: Manifest, owner: Owner) -> None:
        """Put the staged files into their place as one version, in one step; a damaged one is replaced.

        Content that an installed version has is given a second name, not copied. Raises OSError; what was
        installed is then as it was.
        """
        held = self.held({entry.sha256 for entry in manifest.files})
        os.makedirs(self.directory, exist_ok=True)
        owner.give(self.directory)
        tree = self.staging.new_tree()
        for entry in manifest.files:
            target = os.path.join(tree, entry.path)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            link_or_copy(held.get(entry.sha256) or self.staging.blob(entry), target)
            owner.give(target)
            os.chmod(target, FILE_MODE)
            if os.stat(target).st_mtime_ns > time.time_ns():
                os.utime(target)  # a later time than the manifest's would look like a change
            _sync_file(target)
        target = os.path.join(tree, manifests.MANIFEST_NAME)
        write_atomic(target, manifest.to_json().encode(), mode=FILE_MODE, uid=owner.uid, gid=owner.gid)
        for folder, _folders, _files in os.walk(tree, topdown=False):
            owner.give(folder)
            os.chmod(
                folder, DIRECTORY_MODE if folder != tree else 0o755
            )  # a directory moves if it is writable
            sync_directory(folder)
        final = self.path(manifest.version)
        damaged = self._set_aside(final) if os.path.lexists(final) else None
        os.rename(tree, final)
        os.chmod(final, DIRECTORY_MODE)
        sync_directory(self.directory)
        if damaged is not None:
            remove_tree(damaged)

    def drift(self, version: str, owner: Owner, *, repair: bool) -> List[str]:
        """The paths of an installed version whose owner or mode is not right; put right with `repair`."""
        root = self.path(version)
        wrong = []
        for folder, _folders, names in os.walk(root):
            for path, mode in [(folder, DIRECTORY_MODE)] + [
                (os.path.join(folder, n), FILE_MODE) for n in names
            ]:
                status = os.lstat(path)
                if stat.S_ISLNK(status.st_mode) or (
                    owner.fits(status) and stat.S_IMODE(status.st_mode) == mode
                ):
                    continue
                wrong.append(os.path.relpath(path, self.directory))
                if repair:
                    owner.give(path)
                    os.chmod(path, mode)
        return wrong

    def activate(self, version: str) -> None:
        """Point the active link at an installed version, and keep what it named before as the previous."""
        if os.path.lexists(self.link) and not os.path.islink(self.link):
            raise StoreError(f"{self.link} is not a link: move it away, it belongs to the store")
        before = self.current()
        if before not in (None, version) and os.path.isdir(self.path(str(before))):
            replace_link(os.path.join(self.directory, PREVIOUS), str(before))
        replace_link(self.link, version)

    def prunable(self, keep: Optional[int], *, current: Optional[str], previous: Optional[str]) -> List[str]:
        """The versions beyond the newest `keep`, never the current and the previous one; None keeps all."""
        if keep is None:
            return []
        held = [version for version in (current, previous) if version is not None]
        others = [version for version in self.versions() if version not in held]
        return others[max(keep - len(held), 0) :]

    def remove(self, version: str) -> None:
        """Remove one version: at once out of sight, then from the disk."""
        if self.previous() == version:
            os.unlink(os.path.join(self.directory, PREVIOUS))
        remove_tree(self._set_aside(self.path(version)))

    def remove_all(self) -> None:
        """Remove the model with all its versions and what was staged for it."""
        if os.path.lexists(self.directory):
            remove_tree(self._set_aside(self.directory))
        self.staging.discard()

    def _set_aside(self, path: str) -> str:
        aside = tempfile.mkdtemp(dir=self.staging.trash())
        with contextlib.suppress(PermissionError):  # moving a directory needs the right to write to it
            os.chmod(path, 0o700)
        os.rename(path, os.path.join(aside, "removed"))
        sync_directory(os.path.dirname(path))
        return aside

    def free_bytes(self) -> int:
        """The bytes that can still be written to the file system of the store, or of where it will be."""
        path = self.root
        while not os.path.isdir(path):
            path = os.path.dirname(path)
        status = os.statvfs(path)
        return status.f_bavail * status.f_frsize

    def check_space(self, needed: int, reserve: int) -> None:
        """Raise StoreError unless `needed` bytes fit and `reserve` bytes stay free."""
        free = self.free_bytes()
        if needed + reserve > free:
            raise StoreError(
                f"the file system of {self.root} has {free} bytes free ({human(free)}), but the model needs "
                f"{needed} more ({human(needed)}) and {reserve} stay in reserve ({human(reserve)}): "
                "make room, remove old versions (keep), or put the store on another disk"
            )


def human(count: int) -> str:
    """A number of bytes for people, such as ``1.5 GB``."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def _sync_file(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

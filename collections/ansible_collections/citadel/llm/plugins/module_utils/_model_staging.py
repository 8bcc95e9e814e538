# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What arrives for a model before it is installed: files named by their content, so that a run can go on."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from typing import Iterator, List, Optional

from ansible_collections.citadel.llm.plugins.module_utils._files import sha256_file
from ansible_collections.citadel.llm.plugins.module_utils._model_cache import Cache
from ansible_collections.citadel.llm.plugins.module_utils._model_manifest import (
    FileEntry,
    Manifest,
    ManifestError,
)

INCOMING = ".incoming"
BLOCK = 1 << 20
_LOCK_WAIT_S = 20.0


class StagingError(Exception):
    """The staging area cannot be used; the message says why and what to do."""


class Staging:
    """``<store>/.incoming/<name>/``: one file per content, named by its sha256. Survives interruptions."""

    def __init__(self, store: str, name: str) -> None:
        self.incoming = os.path.join(store, INCOMING)
        self.directory = os.path.join(self.incoming, name)
        self._base = os.path.join(self.incoming, f".{name}")
        self._cache: Optional[Cache] = None

    @property
    def cache(self) -> Cache:
        """The hashes of staged files and of the model's sources on this host."""
        if self._cache is None:
            self._cache = Cache(self._base + ".hashes")
        return self._cache

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the model. Raises StagingError where another run keeps it."""
        os.makedirs(self.incoming, mode=0o755, exist_ok=True)
        if os.path.islink(self.incoming):
            raise StagingError(f"{self.incoming} is a link: remove it, the store makes its own directory")
        with open(self._base + ".lock", "w") as stream:
            deadline = time.monotonic() + _LOCK_WAIT_S
            while True:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise StagingError(
                            f"another run is at work on this model (it holds {self._base}.lock): "
                            "wait until it has ended, then run again"
                        ) from None
                    time.sleep(0.2)
            try:
                yield
            finally:
                self.cache.save()

    def make(self) -> None:
        """Make the staging directory, which nobody but this process's user may enter."""
        os.makedirs(self.directory, mode=0o700, exist_ok=True)

    def blob(self, entry: FileEntry) -> str:
        """The path of the entry's content in the staging area."""
        return os.path.join(self.directory, entry.sha256)

    def part(self, key: str) -> str:
        """The path of a download that is not complete."""
        return os.path.join(self.directory, f"{key}.part")

    def has(self, entry: FileEntry) -> bool:
        """Whether the entry's content is staged and right. A wrong one is removed."""
        path = self.blob(entry)
        if not os.path.lexists(path):
            return False
        if os.path.isfile(path) and not os.path.islink(path) and os.path.getsize(path) == entry.size:
            if self.cache.sha256(path) == entry.sha256:
                return True
        os.unlink(path)
        return False

    def take(self, path: str, entry: FileEntry, *, move: bool) -> None:
        """Stage the content of a file on this host. Raises ManifestError where it is not the entry's."""
        part = self.part(entry.sha256)
        if move:
            os.replace(path, part)
            sha256 = sha256_file(part)
        else:
            sha256 = _copy_hashed(path, part)
        if sha256 != entry.sha256:
            os.unlink(part)
            raise ManifestError(
                f"{entry.path} has sha256 {sha256}, not {entry.sha256}: the source changed or is damaged"
            )
        os.replace(part, self.blob(entry))
        self.cache.put(self.blob(entry), sha256)

    def missing(self, manifest: Manifest) -> List[FileEntry]:
        """The entries whose content is not staged, one for each content."""
        absent = {entry.sha256: entry for entry in manifest.files if not self.has(entry)}
        return sorted(absent.values(), key=lambda entry: entry.path)

    def new_tree(self) -> str:
        """An empty directory to build a version in."""
        tree = os.path.join(self.directory, "tree")
        if os.path.lexists(tree):
            remove_tree(tree)
        os.mkdir(tree)
        return tree

    def partial_bytes(self, key: str) -> int:
        try:
            return os.path.getsize(self.part(key))
        except OSError:
            return 0

    def trash(self) -> str:
        """The directory for what is being removed."""
        path = self._base + ".removed"
        os.makedirs(path, mode=0o700, exist_ok=True)
        return path

    def empty_trash(self) -> None:
        """Remove what an interrupted removal left."""
        if os.path.isdir(self._base + ".removed"):
            remove_tree(self._base + ".removed")

    def discard(self) -> None:
        """Remove everything that is staged for the model, but not the lock: then two could hold it."""
        if os.path.isdir(self.directory):
            remove_tree(self.directory)


def remove_tree(path: str) -> None:
    """Remove a tree, read-only directories included. Raises OSError."""
    for folder, _folders, _files in os.walk(path):
        with contextlib.suppress(PermissionError):
            os.chmod(folder, 0o700)
    shutil.rmtree(path)


def link_or_copy(source: str, target: str) -> None:
    """Give a file a second name, or copy it where the file system has no second names."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copyfile(source, target, follow_symlinks=False)


def _copy_hashed(source: str, target: str) -> str:
    digest = hashlib.sha256()
    with open(source, "rb") as reader, open(target, "wb") as writer:
        for block in iter(lambda: reader.read(BLOCK), b""):
            digest.update(block)
            writer.write(block)
    return digest.hexdigest()

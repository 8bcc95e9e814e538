# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a model comes from: a directory or an archive, on the controller or on the host."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import lzma
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
import zipfile
import zlib
from typing import IO, Collection, Dict, Iterator, List, Optional, Tuple, Union

from ansible_collections.citadel.llm.plugins.module_utils import _model_manifest as manifests
from ansible_collections.citadel.llm.plugins.module_utils._model_cache import Cache
from ansible_collections.citadel.llm.plugins.module_utils._model_manifest import (
    FileEntry,
    Manifest,
    ManifestError,
)

BLOCK = 1 << 20
TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
ZSTANDARD_ENDINGS = (".tar.zst", ".tar.zstd")
ENDINGS = (*TAR_ENDINGS, *ZSTANDARD_ENDINGS, ".zip")
_OTHER_ERRORS = (EOFError, NotImplementedError, zlib.error, lzma.LZMAError)
Member = Tuple[str, int, IO[bytes]]


class DirectoryTree:
    """A model in a directory."""

    #: Whether the files that `files` yields are copies that the caller may take away.
    temporary = False

    def __init__(self, root: str) -> None:
        self.root = os.path.realpath(root)

    def own_manifest(self) -> Optional[Manifest]:
        """The manifest that lies in the directory; None where there is none, or one of another kind.

        Raises ManifestError for one that does not agree with itself.
        """
        path = os.path.join(self.root, manifests.MANIFEST_NAME)
        if not os.path.isfile(path):
            return None
        content = None
        with contextlib.suppress(OSError, ValueError), open(path, encoding="utf-8") as stream:
            content = json.load(stream)
        if not isinstance(content, dict) or "schema" not in content or "files" not in content:
            return None
        return manifests.read_manifest(path)

    def manifest(self, cache: Cache) -> Manifest:
        """The manifest of the files as they are. Raises ManifestError, OSError."""
        own = self.own_manifest()
        source = own.source if own else {"kind": "directory"}
        return manifests.scan(self.root, lambda path, _status: cache.sha256(path), source)

    def locate(self, path: str) -> str:
        return os.path.join(self.root, path)

    def files(self, paths: Collection[str], _scratch: str) -> Iterator[Tuple[str, str]]:
        """Each wanted path of the model, with the file on this machine that has its content."""
        for path in sorted(paths):
            yield path, self.locate(path)


class ArchiveTree:
    """A model in a tar or zip archive. A single directory that holds everything is left out of the paths."""

    temporary = True

    def __init__(self, path: str) -> None:
        self.root = os.path.realpath(path)
        self._directory: Optional[str] = None
        if not self.root.endswith(ENDINGS):
            raise ManifestError(f"{path} is no archive that can be read: none of {', '.join(ENDINGS)}")
        if not os.path.isfile(self.root):
            raise ManifestError(f"the archive {path} does not exist or is not a file")

    def own_manifest(self) -> Optional[Manifest]:
        return None

    def manifest(self, cache: Cache) -> Manifest:
        """The manifest of the files inside, which are all read once. Raises ManifestError, OSError."""
        key = "manifest\0" + self.root
        manifest = manifests.parse_manifest(cache.value(key, self.root, self._scan), self.root)
        self._directory = str(manifest.source["directory"])
        return manifest

    def _scan(self, _path: str) -> str:
        with self._explained():
            found = [FileEntry(name, size, _sha256_stream(stream)) for name, size, stream in self._members()]
        directory = common_directory([entry.path for entry in found])
        files = [
            FileEntry(entry.path[len(directory) :], entry.size, entry.sha256)
            for entry in found
            if entry.path != directory + manifests.MANIFEST_NAME
        ]
        return manifests.make_manifest(files, {"kind": "archive", "directory": directory}).to_json()

    def locate(self, path: str) -> None:
        """No file on this machine has the content of a path."""

    def files(self, paths: Collection[str], scratch: str) -> Iterator[Tuple[str, str]]:
        """Each wanted path with a copy of its content in a file below `scratch`, gone after the next step."""
        directory = (
            str(self.manifest(Cache()).source["directory"]) if self._directory is None else self._directory
        )
        with self._explained():
            for name, _size, stream in self._members():
                path = name[len(directory) :]
                if path not in paths:
                    continue
                descriptor, copy = tempfile.mkstemp(dir=scratch, prefix=".member-")
                try:
                    with os.fdopen(descriptor, "wb") as target:
                        shutil.copyfileobj(stream, target, BLOCK)
                    yield path, copy
                finally:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(copy)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Name the archive in what its content makes the libraries raise."""
        try:
            yield
        except (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, *_OTHER_ERRORS) as error:
            raise ManifestError(
                f"the archive {self.root} is damaged or cut off ({error}): fetch it again"
            ) from error

    def _members(self) -> Iterator[Member]:
        return self._zip_members() if self.root.endswith(".zip") else self._tar_members()

    def _tar_members(self) -> Iterator[Member]:
        with contextlib.ExitStack() as stack:
            if self.root.endswith(ZSTANDARD_ENDINGS):
                archive = tarfile.open(fileobj=stack.enter_context(zstandard(self.root)), mode="r|")
            else:
                archive = tarfile.open(self.root, mode="r|*")
            for member in stack.enter_context(archive):
                name = plain_name(member.name)
                if member.isdir():
                    continue
                if not member.isreg():
                    raise ManifestError(
                        f"{member.name!r} in the archive {self.root} is a {_tar_kind(member)}, not a file: "
                        "pack the model again without it"
                    )
                manifests.check_path(name)
                stream = archive.extractfile(member)
                if stream is not None and not is_beside(name):
                    yield name, member.size, stream

    def _zip_members(self) -> Iterator[Member]:
        with zipfile.ZipFile(self.root) as archive:
            for member in archive.infolist():
                name = plain_name(member.filename)
                if member.is_dir():
                    continue
                kind = stat.S_IFMT(member.external_attr >> 16)
                if kind not in (0, stat.S_IFREG) or member.flag_bits & 1:
                    what = "encrypted" if member.flag_bits & 1 else "a link or a device, not a file"
                    raise ManifestError(
                        f"{member.filename!r} in the archive {self.root} is {what}: pack again without it"
                    )
                manifests.check_path(name)
                if not is_beside(name):
                    with archive.open(member) as stream:
                        yield name, member.file_size, stream


Tree = Union[DirectoryTree, ArchiveTree]


def open_tree(directory: Optional[str], archive: Optional[str]) -> Tree:
    """The tree for whichever of the two paths is given. Raises ManifestError where it is not there."""
    if archive is not None:
        return ArchiveTree(archive)
    if directory is None or not os.path.isdir(directory):
        raise ManifestError(f"the model's directory {directory} does not exist or is not a directory")
    return DirectoryTree(directory)


def plain_name(name: str) -> str:
    """The name of an archive's member without the ``./`` that packers put before it."""
    while name.startswith("./"):
        name = name[2:]
    return name


def is_beside(name: str) -> bool:
    return bool(manifests.BESIDE.intersection(name.split("/")[:2]))


def common_directory(paths: List[str]) -> str:
    """The directory, with its slash, that holds all paths; empty where some lie outside of one."""
    first = {path.split("/")[0] for path in paths}
    return first.pop() + "/" if len(first) == 1 and all("/" in path for path in paths) else ""


def _tar_kind(member: tarfile.TarInfo) -> str:
    kinds: Dict[bytes, str] = {
        tarfile.SYMTYPE: f"link to {member.linkname!r}",
        tarfile.LNKTYPE: f"hard link to {member.linkname!r}",
        tarfile.CHRTYPE: "character device",
        tarfile.BLKTYPE: "block device",
        tarfile.FIFOTYPE: "named pipe",
    }
    return kinds.get(member.type, f"member of type {member.type!r}")


def _sha256_stream(stream: IO[bytes]) -> str:
    digest = hashlib.sha256()
    for block in iter(lambda: stream.read(BLOCK), b""):
        digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def zstandard(path: str) -> Iterator[IO[bytes]]:
    """The decompressed content of a file, by the ``zstd`` command. Raises ManifestError where it fails."""
    command = shutil.which("zstd")
    if command is None:
        raise ManifestError(
            f"{path} needs the command 'zstd', which is missing: install the package zstd, or pack a .tar.gz"
        )
    process = subprocess.Popen([command, "-dcq", "--", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if process.stdout is None or process.stderr is None:
        raise AssertionError("both are pipes")
    try:
        yield process.stdout
        process.stdout.read()
        if process.wait() != 0:
            raise ManifestError(f"the archive {path} is damaged: {process.stderr.read().decode().strip()}")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()

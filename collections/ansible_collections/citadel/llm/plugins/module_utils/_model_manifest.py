# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest of a model version: which files it has, how large they are and what they hash to."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import unicodedata
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

from ansible_collections.citadel.llm.plugins.module_utils._files import sha256_file

MANIFEST_NAME = "manifest.json"
SCHEMA = 1
# What version control and download tools leave beside a model; never a part of it.
BESIDE = frozenset({".cache", ".git"})
_SHA256 = re.compile(r"\A[0-9a-f]{64}\Z")
_LONGEST_PATH = 1024


class ManifestError(Exception):
    """A manifest, or the tree that it describes, cannot be used; the message names file and remedy."""


@dataclass(frozen=True)
class FileEntry:
    """One file of a model: its path below the root (with ``/``), its size in bytes and its sha256."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The files of one model version, sorted by path. `source` says where they came from, unhashed."""

    files: Tuple[FileEntry, ...]
    source: Dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def version(self) -> str:
        """The first 16 hexadecimal digits of the sha256 over all paths, sizes and hashes."""
        rows = [[entry.path, entry.size, entry.sha256] for entry in self.files]
        text = json.dumps(rows, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def bytes(self) -> int:
        return sum(entry.size for entry in self.files)

    def by_path(self) -> Dict[str, FileEntry]:
        return {entry.path: entry for entry in self.files}

    def as_dict(self) -> Dict[str, Any]:
        rows = [{"path": entry.path, "size": entry.size, "sha256": entry.sha256} for entry in self.files]
        return {"schema": SCHEMA, "version": self.version, "source": self.source, "files": rows}

    def to_json(self) -> str:
        return json.dumps(self.as_dict(), indent=2, sort_keys=True) + "\n"


def make_manifest(files: List[FileEntry], source: Optional[Mapping[str, Any]] = None) -> Manifest:
    """A manifest of these files. Raises ManifestError for none, for a bad path and for a path named twice."""
    if not files:
        raise ManifestError("the model has no files: check the path of the source and its patterns")
    seen: Dict[str, str] = {}
    for entry in files:
        check_path(entry.path)
        if entry.path in seen:
            raise ManifestError(f"the file {entry.path!r} is named twice")
        seen[entry.path] = entry.path
    for path in seen:
        parent = os.path.dirname(path)
        while parent:
            if parent in seen:
                raise ManifestError(f"{parent!r} is named as a file and as the directory of {path!r}")
            parent = os.path.dirname(parent)
    return Manifest(tuple(sorted(files, key=lambda entry: entry.path)), dict(source or {}))


def check_path(path: str) -> None:
    """Raise ManifestError unless the path stays below the root of a model and is not the manifest itself."""
    if not path or len(path) > _LONGEST_PATH:
        raise ManifestError(
            f"the path {path[:80]!r} of a file is empty or longer than {_LONGEST_PATH} characters"
        )
    parts = path.split("/")
    if path.startswith("/") or any(part in ("", ".", "..") for part in parts) or "\\" in path:
        raise ManifestError(
            f"the path {path!r} leaves the model's directory: only plain relative paths are accepted"
        )
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in path):
        raise ManifestError(f"the path {path!r} contains control characters: rename the file")
    if path == MANIFEST_NAME:
        raise ManifestError(f"the path {path!r} is reserved for the manifest of the store")


def parse_manifest(text: str, origin: str) -> Manifest:
    """The manifest in this JSON text. `origin` names it in the ManifestError that anything wrong raises."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ManifestError(f"{origin} is not valid JSON ({error}): write it again from the model") from error
    if not isinstance(data, dict) or data.get("schema") != SCHEMA or not isinstance(data.get("files"), list):
        raise ManifestError(
            f"{origin} is not a manifest of a model: 'schema' must be {SCHEMA}, 'files' a list"
        )
    try:
        manifest = make_manifest([_parse_entry(row) for row in data["files"]], data.get("source") or {})
    except ManifestError as error:
        raise ManifestError(f"{origin}: {error}") from error
    if data.get("version", manifest.version) != manifest.version:
        raise ManifestError(
            f"{origin} says version {data['version']!r}, but its files make {manifest.version}: it is altered"
        )
    return manifest


def _parse_entry(row: Any) -> FileEntry:
    if not isinstance(row, dict):
        raise ManifestError(f"{row!r} in 'files' is not a mapping of path, size and sha256")
    path, size, sha256 = row.get("path"), row.get("size"), row.get("sha256")
    if not isinstance(path, str):
        raise ManifestError(f"{row!r} in 'files' has no path")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ManifestError(f"the size {size!r} of {path!r} is not a number of bytes")
    if not isinstance(sha256, str) or not _SHA256.match(sha256):
        raise ManifestError(f"the sha256 {sha256!r} of {path!r} is not 64 hexadecimal digits in lower case")
    return FileEntry(path, size, sha256)


def read_manifest(path: str) -> Manifest:
    """The manifest in this file. Raises ManifestError, also where the file cannot be read."""
    try:
        with open(path, encoding="utf-8") as stream:
            return parse_manifest(stream.read(), path)
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"the manifest {path} cannot be read: {error}") from error


def walk(root: str) -> Iterator[Tuple[str, os.stat_result]]:
    """Each file of a model below `root`, with its path relative to it and its status, sorted by directory.

    A link to a file inside the tree counts as that file. Raises ManifestError for a link that leads out of
    the tree or to a directory, for a device, socket or pipe, and OSError where the tree cannot be read.
    """
    resolved = os.path.realpath(root)
    if not os.path.isdir(resolved):
        raise ManifestError(f"the model's directory {root} does not exist or is not a directory")
    yield from _walk_directory(resolved, resolved, "")


def _walk_directory(root: str, directory: str, prefix: str) -> Iterator[Tuple[str, os.stat_result]]:
    with os.scandir(directory) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        relative = prefix + entry.name
        if not prefix and (entry.name in BESIDE or entry.name == MANIFEST_NAME):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk_directory(root, entry.path, relative + "/")
            continue
        check_path(relative)
        yield relative, _status_of(root, entry, relative)


def _status_of(root: str, entry: "os.DirEntry[str]", relative: str) -> os.stat_result:
    if entry.is_symlink():
        target = os.path.realpath(entry.path)
        if os.path.commonpath([root, target]) != root:
            raise ManifestError(
                f"{relative!r} in {root} is a link that leads out of the model, to {target}: "
                "copy the model with 'cp -rL' first, so that it has the file itself"
            )
        if not os.path.isfile(target):
            raise ManifestError(
                f"{relative!r} in {root} is a link to {target}, which is not a file: remove it"
            )
    status = entry.stat()
    if not stat.S_ISREG(status.st_mode):
        kind = stat.filemode(status.st_mode)
        raise ManifestError(
            f"{relative!r} in {root} is not a regular file ({kind}): remove it from the model"
        )
    return status


def scan(
    root: str,
    hash_file: Callable[[str, os.stat_result], str] = lambda path, _status: sha256_file(path),
    source: Optional[Mapping[str, Any]] = None,
) -> Manifest:
    """The manifest of the tree below `root`; `hash_file` may answer from a cache.

    Raises ManifestError for what `walk` refuses and for a tree without files, and OSError.
    """
    files = [
        FileEntry(relative, status.st_size, hash_file(os.path.join(root, relative), status))
        for relative, status in walk(root)
    ]
    return make_manifest(files, source)


def differences(expected: Manifest, found: Manifest) -> List[str]:
    """What differs, one line per file, sorted by path; empty where both have the same files."""
    lines = []
    wanted, given = expected.by_path(), found.by_path()
    for path in sorted(set(wanted) | set(given)):
        if path not in given:
            lines.append(f"{path} is missing")
        elif path not in wanted:
            lines.append(f"{path} is not in the manifest")
        elif wanted[path].size != given[path].size:
            lines.append(f"{path} has {given[path].size} bytes, not {wanted[path].size}")
        elif wanted[path].sha256 != given[path].sha256:
            lines.append(f"{path} has sha256 {given[path].sha256}, not {wanted[path].sha256}")
    return lines

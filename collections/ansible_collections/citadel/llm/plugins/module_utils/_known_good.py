# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a unit reads, when it changed last, and what it was when the unit was known to be good."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import stat
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Mapping, Optional

from ansible_collections.citadel.llm.plugins.module_utils._files import (
    replace_link,
    sha256_file,
    write_atomic,
)

FORMAT = 1


@dataclass(frozen=True)
class StoredFile:
    """A whole regular file."""

    content: bytes
    mode: int
    uid: int
    gid: int


def read_file(path: str) -> Optional[StoredFile]:
    """The file as it is; None where there is none. A link counts as the file that it names."""
    try:
        with open(path, "rb") as stream:
            status = os.fstat(stream.fileno())
            return StoredFile(stream.read(), stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
    except FileNotFoundError:
        return None


def read_link(path: str) -> Optional[str]:
    """Where the link points; None where there is no link."""
    try:
        return os.readlink(path)
    except OSError:
        return None


def _members(path: str) -> Iterator[str]:
    """The path itself and, where it is a real directory, everything below it."""
    yield path
    if os.path.isdir(path) and not os.path.islink(path):
        for folder, folders, files in os.walk(path):
            folders.sort()
            for name in sorted(folders + files):
                yield os.path.join(folder, name)


def changed_at(path: str) -> Optional[float]:
    """The newest ctime of an input in seconds; None where it is missing.

    A link counts itself (it was pointed elsewhere) and the regular file that it names (that was rewritten);
    what a link to a directory holds does not count. A real directory counts with everything below it.
    """
    newest = None
    for member in _members(path):
        with contextlib.suppress(OSError):
            times = [os.lstat(member).st_ctime_ns]
            if os.path.islink(member) and os.path.isfile(member):
                times.append(os.stat(member).st_ctime_ns)
            newest = max([*times, *([newest] if newest is not None else [])])
    return None if newest is None else newest / 1e9


def fingerprint(path: str) -> Optional[str]:
    """A digest of what `changed_at` watches: contents and link targets, not times, modes or owners."""
    digest, found = hashlib.sha256(), False
    for member in _members(path):
        with contextlib.suppress(OSError):
            status = os.lstat(member)
            found = True
            parts = [os.path.relpath(member, path), stat.filemode(status.st_mode)[0]]
            if stat.S_ISLNK(status.st_mode):
                parts.append(os.readlink(member))
            if os.path.isfile(member):
                parts.append(sha256_file(member))
            digest.update("\0".join([*parts, ""]).encode("utf-8", "surrogateescape"))
    return digest.hexdigest() if found else None


@dataclass
class Record:
    """What was in place when a unit last passed its gate."""

    unit: str
    time: float
    invocation: str = ""
    reloaded: float = 0.0
    files: Dict[str, StoredFile] = field(default_factory=dict)
    links: Dict[str, str] = field(default_factory=dict)
    inputs: Dict[str, str] = field(default_factory=dict)
    watched: List[str] = field(default_factory=list)

    def holds(self, files: Mapping[str, Optional[StoredFile]], links: Mapping[str, Optional[str]]) -> bool:
        """Whether the record holds exactly these contents and link targets."""
        contents = {path: file.content for path, file in files.items() if file is not None}
        targets = {path: target for path, target in links.items() if target is not None}
        return contents == {path: file.content for path, file in self.files.items()} and targets == self.links


class KnownGood:
    """The records, one file for each unit, readable by root only: configuration can hold secrets."""

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def _path(self, unit: str) -> str:
        return os.path.join(self.directory, unit, "record.json")

    def load(self, unit: str) -> Optional[Record]:
        """The unit's record; None where there is none or it cannot be read (it is then written anew)."""
        try:
            with open(self._path(unit), "rb") as stream:
                data = json.load(stream)
            if data["format"] != FORMAT:
                return None
            files = {path: _decode_file(file) for path, file in data["files"].items()}
            names = ("unit", "time", "invocation", "reloaded", "links", "inputs", "watched")
            return Record(files=files, **{name: data[name] for name in names})
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def save(self, record: Record) -> None:
        os.makedirs(self.directory, mode=0o755, exist_ok=True)
        os.makedirs(os.path.join(self.directory, record.unit), mode=0o700, exist_ok=True)
        data = {
            "format": FORMAT,
            "unit": record.unit,
            "time": record.time,
            "invocation": record.invocation,
            "reloaded": record.reloaded,
            "files": {path: _encode_file(file) for path, file in record.files.items()},
            "links": record.links,
            "inputs": record.inputs,
            "watched": record.watched,
        }
        write_atomic(self._path(record.unit), json.dumps(data, indent=1).encode() + b"\n", mode=0o600)

    def forget(self, unit: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(unit))
            os.rmdir(os.path.join(self.directory, unit))


def _encode_file(file: StoredFile) -> Dict[str, Any]:
    content = base64.b64encode(file.content).decode()
    return {"content": content, "mode": file.mode, "uid": file.uid, "gid": file.gid}


def _decode_file(data: Mapping[str, Any]) -> StoredFile:
    return StoredFile(base64.b64decode(data["content"]), data["mode"], data["uid"], data["gid"])


def put_file(path: str, file: Optional[StoredFile]) -> bool:
    """Make the path hold this file, or nothing for None. True when something had to be changed."""
    present = read_file(path)
    if file is None:
        if present is None:
            return False
        os.unlink(path)
        return True
    if present is not None and present.content == file.content:
        return _put_attributes(path, present, file)
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    write_atomic(path, file.content, mode=file.mode, uid=file.uid, gid=file.gid)
    return True


def _put_attributes(path: str, present: StoredFile, file: StoredFile) -> bool:
    changed = False
    if file.uid not in (-1, present.uid) or file.gid not in (-1, present.gid):
        os.chown(path, file.uid, file.gid)
        changed = True
    if changed or present.mode != file.mode:
        os.chmod(path, file.mode)
        changed = True
    return changed


def put_links(links: Mapping[str, str]) -> List[str]:
    """Point the links at these targets; the links that had to be changed."""
    changed = [link for link, target in links.items() if read_link(link) != target]
    for link in changed:
        replace_link(link, links[link])
    return changed

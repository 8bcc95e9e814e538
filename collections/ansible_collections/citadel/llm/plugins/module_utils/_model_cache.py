# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remembers hashes of files that have not changed, so that a run without a change reads no gigabytes."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from typing import Any, Callable, Dict, Iterator, List, Optional

from ansible_collections.citadel.llm.plugins.module_utils._files import sha256_file, write_atomic
from ansible_collections.citadel.llm.plugins.module_utils._model_manifest import ManifestError


class Cache:
    """What was computed from a file, valid until the file changes; kept in a JSON file.

    A file counts as unchanged while its size, times, inode and device are. Without a `path` the cache lives
    as long as the object. One that cannot be read or written costs time, nothing else.
    """

    def __init__(self, path: Optional[str] = None) -> None:
        self._path = path
        self._rows: Dict[str, List[Any]] = {}
        self._changed = False
        if path is not None:
            with contextlib.suppress(OSError, ValueError), open(path, encoding="utf-8") as stream:
                rows = json.load(stream)
                self._rows = rows if isinstance(rows, dict) else {}

    def value(self, key: str, path: str, compute: Callable[[str], str]) -> str:
        """`compute(path)`, or what it gave the last time. Raises ManifestError where the file changes."""
        identity = self._identity(path)
        row = self._rows.get(key)
        if isinstance(row, list) and row[:-1] == identity:
            return str(row[-1])
        result = compute(path)
        if self._identity(path) != identity:
            raise ManifestError(
                f"{path} was changed while it was read: let the writer finish, then run again"
            )
        self._rows[key] = [*identity, result]
        self._changed = True
        return result

    def sha256(self, path: str) -> str:
        return self.value(path, path, sha256_file)

    def put(self, path: str, sha256: str) -> None:
        """Note a hash that the caller has computed from the file as it is now."""
        self._rows[path] = [*self._identity(path), sha256]
        self._changed = True

    def save(self) -> None:
        if self._path is None or not self._changed:
            return
        rows = {key: row for key, row in self._rows.items() if os.path.exists(key.split("\0")[-1])}
        with contextlib.suppress(OSError):
            write_atomic(self._path, json.dumps(rows).encode(), mode=0o600)
            self._changed = False

    @staticmethod
    def _identity(path: str) -> List[Any]:
        status = os.stat(path)
        return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev]


@contextlib.contextmanager
def shared_cache(directory: str, subject: str) -> Iterator[Cache]:
    """The cache for one source, held alone: who comes second waits, and then finds all the hashes."""
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        base = os.path.join(directory, hashlib.sha256(subject.encode()).hexdigest()[:24])
        lock = open(base + ".lock", "w")
    except OSError:
        yield Cache()
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        cache = Cache(base + ".json")
        try:
            yield cache
        finally:
            cache.save()

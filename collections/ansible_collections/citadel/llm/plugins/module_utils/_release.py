# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases: complete directories side by side, one of them named by a link that is switched atomically.

Layout under the root: ``<id>/`` with a marker ``release.json`` that is written last, ``<id>.log`` of a failed
build, ``history.json`` (what was current, oldest first), and ``.lock``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import time
from typing import Any, Dict, Iterator, List, Optional, Set

from ansible_collections.citadel.llm.plugins.module_utils._files import replace_link, write_atomic

MARKER = "release.json"
_HISTORY = 50  # entries that are kept
_ID = re.compile(r"\A[0-9a-f]{16}\Z")
_REMAINS = re.compile(r"\A\.(?:trash|cache|trial)-\w+\Z")


class ReleaseError(Exception):
    """Something about a release is wrong. `reason` is one word for machines, the message is for people."""

    def __init__(self, reason: str, message: str, log: Optional[str] = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.log = log


class ReleaseStore:
    """The releases under `root` and the link that names the current one."""

    def __init__(self, root: str, link: str, proc: str = "/proc") -> None:
        self.root = root.rstrip("/") or "/"
        self.link = link.rstrip("/")
        self._proc = proc
        self.lock_fd: Optional[int] = None

    def path(self, release: str) -> str:
        return os.path.join(self.root, release)

    def log_path(self, release: str) -> str:
        return os.path.join(self.root, f"{release}.log")

    def cache_path(self, release: str) -> str:
        return os.path.join(self.root, f".cache-{release}")

    @contextlib.contextmanager
    def locked(self, timeout: float) -> Iterator[None]:
        """Hold the store for one writer. `lock_fd` can be handed to children, which then keep the lock while
        they live: a build that outlives its killed parent is waited for, never removed under its feet.

        Raises ReleaseError when the lock is still taken after `timeout` seconds.
        """
        os.makedirs(self.root, mode=0o755, exist_ok=True)
        descriptor = os.open(os.path.join(self.root, ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + timeout
            while not _try_lock(descriptor):
                if time.monotonic() >= deadline:
                    raise ReleaseError(
                        "busy",
                        f"another run has worked under {self.root} for more than {timeout:.0f} s: wait for it"
                        f" or end it ('fuser {self.root}/.lock' names its process)",
                    )
                time.sleep(0.2)
            self.lock_fd = descriptor
            yield
        finally:
            self.lock_fd = None
            os.close(descriptor)

    def current(self) -> Optional[str]:
        """The id that the link names; None where there is no link or it names something else.

        Raises ReleaseError where a real file or directory is in the link's place.
        """
        try:
            target = os.readlink(self.link)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise ReleaseError(
                "link", f"{self.link} is not a link: move it away, and a link to a release is put there"
            ) from error
        target = os.path.normpath(os.path.join(os.path.dirname(self.link), target))
        folder, name = os.path.split(target)
        return name if folder == os.path.normpath(self.root) and _ID.match(name) else None

    def manifest(self, release: Optional[str]) -> Optional[Dict[str, Any]]:
        """What the marker of a complete release says; None where the release is missing or incomplete."""
        if release is None:
            return None
        try:
            with open(os.path.join(self.path(release), MARKER), "rb") as stream:
                manifest = json.load(stream)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        return manifest if isinstance(manifest, dict) and manifest.get("id") == release else None

    def complete(self, release: str, manifest: Dict[str, Any]) -> None:
        """Write the marker: from here on the release counts."""
        data = json.dumps(manifest, indent=2, sort_keys=True).encode() + b"\n"
        write_atomic(os.path.join(self.path(release), MARKER), data, mode=0o644)

    def releases(self) -> List[str]:
        """The ids of all release directories, complete or not."""
        try:
            return sorted(name for name in os.listdir(self.root) if _ID.match(name))
        except FileNotFoundError:
            return []

    def history(self) -> List[Dict[str, Any]]:
        """What was current, oldest first: ``{"id": str, "time": seconds since the epoch}``."""
        try:
            with open(os.path.join(self.root, "history.json"), "rb") as stream:
                entries = json.load(stream)["history"]
            return [entry for entry in entries if _ID.match(entry["id"])]
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError) as error:
            raise ReleaseError(
                "history",
                f"{self.root}/history.json cannot be read ({error}): remove it to forget the history",
            ) from error

    def _write_history(self, entries: List[Dict[str, Any]]) -> None:
        data = json.dumps({"history": entries[-_HISTORY:]}, indent=2).encode() + b"\n"
        write_atomic(os.path.join(self.root, "history.json"), data, mode=0o644)

    def previous(self) -> Optional[str]:
        """The complete release that was current before the one that is current now.

        Where something else has put the link back already, what came after the current one does not count.
        """
        ids = [entry["id"] for entry in self.history()]
        current = self.current()
        if current in ids:
            ids = ids[: len(ids) - 1 - ids[::-1].index(current)]
        for release in reversed(ids):
            if release != current and self.manifest(release) is not None:
                return str(release)
        return None

    def switch(self, release: str, now: float) -> None:
        """Point the link at a complete release and note it in the history."""
        current = self.current()
        entries = self.history()
        if current is not None and (not entries or entries[-1]["id"] != current):
            # Somebody else moved the link since: what really was current counts.
            entries.append({"id": current, "time": int(now)})
        os.makedirs(os.path.dirname(self.link), mode=0o755, exist_ok=True)
        if not entries or entries[-1]["id"] != release:
            self._write_history([*entries, {"id": release, "time": int(now)}])
        replace_link(self.link, self.path(release))

    def roll_back(self, release: str) -> None:
        """Point the link at an earlier release and forget what came after it."""
        entries = self.history()
        while entries and entries[-1]["id"] != release:
            entries.pop()
        replace_link(self.link, self.path(release))
        self._write_history(entries)

    def in_use(self) -> Set[str]:
        """The releases from which a running process has mapped a file or was started."""
        prefix = os.path.normpath(self.root).encode() + b"/"
        pattern = re.compile(re.escape(prefix) + rb"([0-9a-f]{16})/")
        found: Set[str] = set()
        for pid in os.listdir(self._proc):
            if not pid.isdigit() or pid == str(os.getpid()):
                continue
            for name in ("cmdline", "maps"):
                with contextlib.suppress(OSError), open(os.path.join(self._proc, pid, name), "rb") as stream:
                    found.update(match.decode() for match in pattern.findall(stream.read()))
        return found

    def prunable(self, keep: int, also: Optional[str] = None) -> List[str]:
        """What goes when the `keep` most recent releases stay.

        The current one, the one before it, `also`, and what a process uses stay in any case; remains of
        interrupted builds go in any case.
        """
        current, ids = self.current(), [entry["id"] for entry in self.history()]
        protected = {current, self.previous(), also}
        complete = {release: self.manifest(release) for release in self.releases()}

        def rank(release: str) -> tuple[int, str]:
            position = len(ids) - ids[::-1].index(release) if release in ids else 0
            return (position, str((complete[release] or {}).get("built", "")))

        candidates = [release for release, manifest in complete.items() if manifest is not None]
        ordered = sorted(candidates, key=rank, reverse=True)
        ordered.sort(key=lambda release: release not in protected)  # stable: the protected ones come first
        broken = [
            release for release, manifest in complete.items() if manifest is None and release not in protected
        ]
        doomed = broken + [release for release in ordered[keep:] if release not in protected]
        used = self.in_use() if doomed else set()
        return sorted(release for release in doomed if release not in used)

    def prune(self, keep: int, also: Optional[str] = None) -> List[str]:
        """Remove what `prunable` names and what interrupted runs left behind; the removed releases' ids."""
        doomed = self.prunable(keep, also)
        for release in doomed:
            self.remove(release)
        for name in os.listdir(self.root):
            if _REMAINS.match(name):
                shutil.rmtree(os.path.join(self.root, name))
        entries = self.history()
        kept = [entry for entry in entries if os.path.isdir(self.path(entry["id"]))]
        if kept != entries:
            self._write_history(kept)
        self._prune_logs(keep)
        return doomed

    def _prune_logs(self, keep: int) -> None:
        logs = [
            os.path.join(self.root, name)
            for name in os.listdir(self.root)
            if _ID.match(name[:-4]) and name[16:] == ".log"
        ]
        for path in sorted(logs, key=os.path.getmtime, reverse=True)[keep:]:
            os.unlink(path)

    def remove(self, release: str) -> None:
        """Remove a release, whole or interrupted. It stops counting with one rename, so that half of it is
        never taken for a release."""
        trash = os.path.join(self.root, f".trash-{release}")
        if os.path.isdir(trash):
            shutil.rmtree(trash)
        with contextlib.suppress(FileNotFoundError):
            os.rename(self.path(release), trash)
            shutil.rmtree(trash)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

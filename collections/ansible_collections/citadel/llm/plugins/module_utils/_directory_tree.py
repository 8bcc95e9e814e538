# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings a tree of directories and links to its wanted state; all is planned before anything changes."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Callable, Union

from ansible_collections.citadel.llm.plugins.module_utils import _files
from ansible_collections.citadel.llm.plugins.module_utils._mountinfo import read_mountinfo


class TreeError(Exception):
    """The wanted tree contradicts itself or the host. The message names the path and the remedy."""


@dataclass(frozen=True)
class Access:
    """Owner and group as given (None: leave as it is), mode as a number."""

    owner: str | None
    group: str | None
    mode: int


@dataclass(frozen=True)
class Directory:
    """A directory that is to exist with this access."""

    path: str
    access: Access


@dataclass(frozen=True)
class Removal:
    """A directory that is not to exist; with force, whatever is in it goes as well."""

    path: str
    force: bool = False


@dataclass(frozen=True)
class Link:
    """A symbolic link; a target of None says that it is not to exist."""

    path: str
    target: str | None


Entry = Union[Directory, Removal, Link]


@dataclass
class Change:
    """One difference: what is and what will be (only the properties that differ), and how to get there."""

    path: str
    before: dict[str, str]
    after: dict[str, str]
    apply: Callable[[], None]


@dataclass
class Tree:
    """The wanted state. `defaults` is the access of missing ancestors."""

    defaults: Access
    directories: Sequence[Directory] = ()
    removals: Sequence[Removal] = ()
    links: Sequence[Link] = ()


def clean_path(path: str) -> str:
    """The path without superfluous slashes. Raises TreeError for a relative one or one with ``..``."""
    if not path.startswith("/"):
        raise TreeError(f"path {path!r} is not absolute: start it with a slash")
    if ".." in path.split("/"):
        raise TreeError(f"path {path!r} contains '..': write the directory that is meant")
    return "/" + os.path.normpath(path).lstrip("/")


def check_tree(tree: Tree) -> None:
    """Raise TreeError where entries contradict each other."""
    seen: dict[str, Entry] = {}
    entries: list[Entry] = [*tree.directories, *tree.removals, *tree.links]
    for entry in entries:
        if seen.setdefault(entry.path, entry) != entry:
            raise TreeError(f"{entry.path} is given twice with different settings: keep one of the entries")
    gone = {removal.path for removal in tree.removals}
    links = {link.path for link in tree.links}
    if "/" in gone | links:
        raise TreeError("/ cannot be removed or be a link: remove its entry")
    for entry in entries:
        if isinstance(entry, Removal) or (isinstance(entry, Link) and entry.target is None):
            continue
        for ancestor in ancestors(entry.path):
            if ancestor in gone:
                raise TreeError(
                    f"{ancestor} is to be absent, but {entry.path} below it is to exist: remove one entry"
                )
            if ancestor in links:
                raise TreeError(
                    f"{entry.path} lies below the link {ancestor}: name it by the link's target instead"
                )


def ancestors(path: str) -> list[str]:
    """The directories above the path, from the top down, without ``/``."""
    parts = path.strip("/").split("/")[:-1]
    return ["/" + "/".join(parts[: count + 1]) for count in range(len(parts))]


def plan(tree: Tree, *, check: bool) -> list[Change]:
    """What has to be done, in order. Raises TreeError.

    With `check`, owners and groups that do not exist yet count as ones that will.
    """
    check_tree(tree)
    return _Planner(tree.defaults, check).plan(tree)


def apply(changes: Sequence[Change]) -> None:
    """Make the changes in order. Raises TreeError that names the path where the system refuses one."""
    for change in changes:
        try:
            change.apply()
        except OSError as error:
            raise TreeError(
                f"cannot bring {change.path} to its state: {error.strerror}: remove the cause and run again"
            ) from error


@dataclass
class _Planner:
    defaults: Access
    check: bool
    changes: list[Change] = field(default_factory=list)
    made: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)

    def plan(self, tree: Tree) -> list[Change]:
        for removal in sorted(set(tree.removals), key=lambda entry: entry.path, reverse=True):
            self._remove(removal)
        for directory in sorted(set(tree.directories), key=lambda entry: entry.path.split("/")):
            self._make_ancestors(directory.path)
            self._directory(directory)
        for link in dict.fromkeys(tree.links):
            self._link(link)
        return self.changes

    def _status(self, path: str) -> os.stat_result | None:
        if path in self.removed:
            return None
        try:
            return os.lstat(path)
        except FileNotFoundError:
            return None
        except NotADirectoryError as error:
            raise TreeError(f"{path}: something above it is not a directory: move that away") from error
        except OSError as error:
            raise TreeError(f"{path} cannot be looked at: {error.strerror}") from error

    def _make_ancestors(self, path: str) -> None:
        for ancestor in ancestors(path):
            if ancestor in self.made:
                continue
            status = self._status(ancestor)
            if status is None:
                self._create(Directory(ancestor, self.defaults))
            elif stat.S_ISLNK(status.st_mode):
                self._check_link_above(ancestor, status.st_uid, path)
            elif not stat.S_ISDIR(status.st_mode):
                raise TreeError(
                    f"{ancestor} is {_kind(status)}, not a directory: move it away, then run again"
                )

    def _check_link_above(self, ancestor: str, uid: int, path: str) -> None:
        # Whoever owns a link above the path decides which directory is made and handed over.
        if uid not in (0, os.geteuid()):
            raise TreeError(
                f"{ancestor}, above {path}, is a link of the user {_files.owner_name(uid)}, who can point it"
                " anywhere: name the directory that it leads to"
            )
        if not os.path.isdir(ancestor):
            raise TreeError(
                f"{ancestor}, above {path}, is a link that leads to no directory: remove or mend it"
            )

    def _directory(self, entry: Directory) -> None:
        status = self._status(entry.path)
        if status is None:
            if entry.path not in self.made:
                self._create(entry)
            return
        if not stat.S_ISDIR(status.st_mode):
            remedy = "name the directory that it leads to" if stat.S_ISLNK(status.st_mode) else "move it away"
            raise TreeError(f"{entry.path} is {_kind(status)}, not a directory: {remedy}, then run again")
        uid, gid = self._ids(entry)
        before: dict[str, str] = {}
        after: dict[str, str] = {}
        if entry.access.owner is not None and uid != status.st_uid:
            before["owner"], after["owner"] = _files.owner_name(status.st_uid), entry.access.owner
        if entry.access.group is not None and gid != status.st_gid:
            before["group"], after["group"] = _files.group_name(status.st_gid), entry.access.group
        if stat.S_IMODE(status.st_mode) != entry.access.mode:
            before["mode"] = _files.format_mode(status.st_mode)
            after["mode"] = _files.format_mode(entry.access.mode)
        if after:

            def change() -> None:
                _files.set_access(entry.path, mode=entry.access.mode, uid=uid, gid=gid)

            self.changes.append(Change(entry.path, before, after, change))

    def _create(self, entry: Directory) -> None:
        uid, gid = self._ids(entry)
        after = {"state": "directory", "mode": _files.format_mode(entry.access.mode)}
        if entry.access.owner is not None:
            after["owner"] = entry.access.owner
        if entry.access.group is not None:
            after["group"] = entry.access.group

        def change() -> None:
            _files.make_directory(entry.path, mode=entry.access.mode, uid=uid, gid=gid)

        self.made.add(entry.path)
        self.changes.append(Change(entry.path, {"state": "absent"}, after, change))

    def _ids(self, entry: Directory) -> tuple[int, int]:
        ids = []
        for resolve, name in (
            (_files.resolve_owner, entry.access.owner),
            (_files.resolve_group, entry.access.group),
        ):
            try:
                ids.append(resolve(name))
            except LookupError as error:
                if not self.check:
                    raise TreeError(f"{entry.path}: {error.args[0]}") from error
                ids.append(-1)
        return ids[0], ids[1]

    def _link(self, entry: Link) -> None:
        status = self._status(entry.path) if entry.target is None else self._status_of_wanted_link(entry)
        if status is not None and not stat.S_ISLNK(status.st_mode):
            raise TreeError(f"{entry.path} is {_kind(status)}, not a link: move it away, then run again")
        before = {"state": "absent"} if status is None else {"target": os.readlink(entry.path)}
        after = {"state": "absent"} if entry.target is None else {"target": entry.target}
        if before == after:
            return

        def change() -> None:
            if entry.target is None:
                os.unlink(entry.path)
            else:
                _files.replace_link(entry.path, entry.target)

        self.changes.append(Change(entry.path, before, after, change))

    def _status_of_wanted_link(self, entry: Link) -> os.stat_result | None:
        self._make_ancestors(entry.path)
        return self._status(entry.path)

    def _remove(self, entry: Removal) -> None:
        status = self._status(entry.path)
        if status is None:
            return
        if not stat.S_ISDIR(status.st_mode):
            raise TreeError(
                f"{entry.path} is {_kind(status)}, not a directory: remove it yourself, or remove the entry"
            )
        content = {os.path.join(entry.path, name) for name in os.listdir(entry.path)} - self.removed
        if content and not entry.force:
            raise TreeError(
                f"{entry.path} is not empty (it holds {os.path.basename(min(content))!r}):"
                " empty it, or give its entry force: true to remove all of it"
            )
        mounted = [m.path for m in read_mountinfo() if (m.path + "/").startswith(entry.path + "/")]
        if mounted:
            raise TreeError(f"{entry.path} cannot be removed: {mounted[0]} is mounted: unmount it first")
        self.removed.add(entry.path)
        before = {"state": "directory with content" if content else "empty directory"}
        self.changes.append(
            Change(
                entry.path,
                before,
                {"state": "absent"},
                (lambda: shutil.rmtree(entry.path)) if entry.force else (lambda: os.rmdir(entry.path)),
            )
        )


def _kind(status: os.stat_result) -> str:
    kinds = {
        stat.S_IFREG: "a file",
        stat.S_IFLNK: "a link",
        stat.S_IFDIR: "a directory",
        stat.S_IFSOCK: "a socket",
        stat.S_IFIFO: "a pipe",
    }
    return kinds.get(stat.S_IFMT(status.st_mode), "a device")

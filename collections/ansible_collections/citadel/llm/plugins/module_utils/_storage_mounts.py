# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings file systems, fstab and mounts to their wanted state; all is examined before anything changes."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field

from ansible_collections.citadel.llm.plugins.module_utils import _directory_tree, _files, _fstab
from ansible_collections.citadel.llm.plugins.module_utils._directory_tree import (
    Access,
    Directory,
    Tree,
    TreeError,
)
from ansible_collections.citadel.llm.plugins.module_utils._filesystem import (
    KINDS,
    Content,
    FilesystemError,
    Host,
)
from ansible_collections.citadel.llm.plugins.module_utils._mountinfo import Mount

_TAGS = ("UUID", "LABEL", "PARTUUID", "PARTLABEL")


@dataclass(frozen=True)
class Wanted:
    """The wanted state of one mount point. The device may be empty where the state is not ``mounted``."""

    path: str
    state: str
    device: str = ""
    fstype: str = "ext4"
    options: tuple[str, ...] = ()
    format: bool = False
    label: str | None = None


@dataclass
class Mounting:
    """What has to be done for one mount that is wanted. `device` is empty where check mode finds none yet."""

    wanted: Wanted
    device: str
    content: Content
    make: bool = False
    mount: bool = False
    remount: tuple[str, ...] = ()
    was: tuple[str, ...] = ()

    @property
    def entry(self) -> _fstab.Entry:
        """The line of fstab."""
        spec = self.wanted.device
        if self.content.uuid:
            spec = f"UUID={self.content.uuid}"
        elif self.wanted.format and spec.startswith("/"):
            spec = "UUID=(made-with-the-file-system)"
        passno = KINDS[self.wanted.fstype][2] if self.wanted.fstype in KINDS else 0
        return _fstab.Entry(spec, self.wanted.path, self.wanted.fstype, self.wanted.options, passno)


@dataclass
class Plan:
    """What has to be done to all mounts."""

    fstab: str
    unmount: list[str] = field(default_factory=list)
    drop: list[str] = field(default_factory=list)
    mountings: list[Mounting] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def new_fstab(self) -> str:
        """The wanted text of fstab, as far as the UUIDs are known."""
        text = self.fstab
        for path in self.drop:
            text = _fstab.drop(text, path)
        for mounting in self.mountings:
            text = _fstab.put(text, mounting.entry)
        return text

    def changed_paths(self) -> list[str]:
        """The mount points for which anything has to be done."""
        before = _fstab.entries(self.fstab)
        paths = {*self.unmount, *self.drop}
        for todo in self.mountings:
            known = [entry for entry in before if entry.path == todo.wanted.path]
            if todo.make or todo.mount or todo.remount or len(known) != 1 or not known[0].same(todo.entry):
                paths.add(todo.wanted.path)
        return sorted(paths)


def check_wanted(wanted: Sequence[Wanted]) -> None:
    """Raise FilesystemError where the entries are unusable or contradict each other."""
    paths = [entry.path for entry in wanted]
    devices = [entry.device for entry in wanted if entry.state == "mounted" and entry.fstype != "btrfs"]
    for what, values in (("path", paths), ("device", devices)):
        twice = {value for value in values if values.count(value) > 1}
        if twice:
            raise FilesystemError(f"the {what} {min(twice)} is given twice: keep one of the entries")
    for entry in wanted:
        if entry.path == "/":
            raise FilesystemError("/ is mounted by the system: name another path")
        if entry.state == "mounted":
            _check_mounted(entry)


def _check_mounted(entry: Wanted) -> None:
    tag, equals, value = entry.device.partition("=")
    if not entry.device.startswith("/dev/") and not (tag in _TAGS and equals and value):
        raise FilesystemError(
            f"{entry.path}: device {entry.device!r} is neither below /dev/ nor UUID=… nor LABEL=…: name it so"
        )
    for option in entry.options:
        if not option or "," in option or option.strip() != option:
            raise FilesystemError(
                f"{entry.path}: option {option!r} is not one option: give each as an item of its own"
            )
    if not entry.format:
        return
    if entry.fstype not in KINDS:
        raise FilesystemError(f"{entry.path}: {entry.fstype} cannot be made: give one of {', '.join(KINDS)}")
    longest = KINDS[entry.fstype][1]
    if entry.label and len(entry.label.encode()) > longest:
        raise FilesystemError(
            f"{entry.path}: label {entry.label!r} is too long for {entry.fstype}: {longest} bytes at most"
        )


def plan(wanted: Sequence[Wanted], fstab: str, *, check: bool, host: Host) -> Plan:
    """Compare the host with what is wanted; `fstab` is the present text. Raises FilesystemError.

    With `check`, devices and tools that are not there yet count as ones that will be.
    """
    check_wanted(wanted)
    return _Planner(wanted, fstab, check, host).plan()


class _Planner:
    def __init__(self, wanted: Sequence[Wanted], fstab: str, check: bool, host: Host) -> None:
        self._wanted = wanted
        self._check = check
        self._host = host
        self._mounts = host.mounts()
        self._entries = _fstab.entries(fstab)
        self._leaving = {entry.path for entry in wanted if entry.state != "mounted"}
        self._absent = {entry.path for entry in wanted if entry.state == "absent"}
        self._result = Plan(fstab)

    def plan(self) -> Plan:
        for entry in sorted(self._wanted, key=lambda entry: entry.path, reverse=True):
            if entry.state != "mounted":
                self._result.unmount += [entry.path] * len(self._mounted_at(entry.path))
            if entry.state == "absent" and any(known.path == entry.path for known in self._entries):
                self._result.drop.append(entry.path)
        for entry in sorted(self._wanted, key=lambda entry: entry.path):
            if entry.state == "mounted":
                self._result.mountings.append(self._mounting(entry))
        return self._result

    def _mounted_at(self, path: str) -> list[Mount]:
        return [mount for mount in self._mounts if mount.path == path and mount.fstype != "autofs"]

    def _mounting(self, entry: Wanted) -> Mounting:
        self._check_mount_point(entry.path)
        device = self._host.find(entry.device)
        if device is None:
            if not self._check:
                raise FilesystemError(
                    f"{entry.path}: the device {entry.device} is not on this host: see 'lsblk -f'"
                )
            return Mounting(entry, "", Content(), make=entry.format, mount=True)
        todo = Mounting(entry, device, self._host.content(device))
        self._plan_make(todo)
        self._check_other_entries(todo)
        self._plan_mount(todo)
        return todo

    def _check_mount_point(self, path: str) -> None:
        try:
            status = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        if not stat.S_ISDIR(status.st_mode):
            raise FilesystemError(f"{path} is not a directory: move it away, or name another path")
        if not self._mounted_at(path) and os.listdir(path):
            self._result.warnings.append(f"{path} holds files, which the mount hides")

    def _plan_make(self, todo: Mounting) -> None:
        entry, content = todo.wanted, todo.content
        if content.fstype == entry.fstype:
            return
        if not content.empty:
            raise FilesystemError(
                f"{entry.path}: {todo.device} carries {content.signatures}, not {entry.fstype}:"
                f" give its own fstype, or, when nothing on it is needed, run 'wipefs -a {todo.device}'"
            )
        if not entry.format:
            raise FilesystemError(f"{entry.path}: {todo.device} is empty: set format: true")
        if not self._check and not self._host.can_make(entry.fstype):
            package = KINDS[entry.fstype][0]
            raise FilesystemError(f"{entry.path}: there is no mkfs.{entry.fstype}: install {package}")
        todo.make = True

    def _check_other_entries(self, todo: Mounting) -> None:
        specs = {todo.wanted.device, todo.device, todo.entry.spec}
        for known in self._entries:
            if known.path == todo.wanted.path or known.path in self._absent or todo.wanted.fstype == "btrfs":
                continue
            if known.spec in specs and "bind" not in known.options:
                raise FilesystemError(
                    f"{todo.wanted.path}: fstab mounts {todo.wanted.device} at {known.path}:"
                    f" give {known.path} with state: absent, or name it as the path"
                )

    def _plan_mount(self, todo: Mounting) -> None:
        path, options = todo.wanted.path, todo.wanted.options
        here = self._mounted_at(path)
        mine = [mount for mount in self._mounts if self._shows(mount, todo.device)]
        if not here:
            shared = todo.wanted.fstype == "btrfs"  # its subvolumes are mounted side by side
            elsewhere = [mount.path for mount in mine if mount.path not in self._leaving and not shared]
            if elsewhere:
                raise FilesystemError(
                    f"{path}: {todo.device} is mounted at {elsewhere[0]}: unmount it there, or give that path"
                )
            todo.mount = True
            return
        current = here[-1]
        if current not in mine:
            raise FilesystemError(
                f"{path}: {current.source} is mounted there, not {todo.device}: unmount it first"
            )
        generic, specific = _fstab.generic_options(options), _fstab.specific_options(options)
        known = next((entry.options for entry in self._entries if entry.path == path), ())
        # The kernel does not tell all options of a file system, so for those the line of fstab has to tell.
        if _fstab.live_options(current) != generic or set(_fstab.specific_options(known)) != set(specific):
            todo.remount = (*generic, *specific)
            todo.was = (*_fstab.live_options(current), *_fstab.specific_options(known))

    def _shows(self, mount: Mount, device: str) -> bool:
        return mount.device == self._host.number(device) or mount.source == device


def apply(todo: Plan, fstab_path: str, host: Host) -> None:
    """Do what is planned. Raises FilesystemError.

    Options are changed before fstab tells of them, and mounts come after fstab, as systemd wants it; so an
    interrupted run can be run again.
    """
    try:
        for path in todo.unmount:
            host.unmount(path)
        for mounting in todo.mountings:
            if mounting.make:
                host.make(mounting.device, mounting.wanted.fstype, mounting.wanted.label)
                mounting.content = host.content(mounting.device)
            if mounting.remount:
                host.remount(mounting.device, mounting.wanted.path, mounting.remount)
        text = todo.new_fstab()
        if text != todo.fstab:
            write_fstab(fstab_path, text)
            host.reload()
        for mounting in todo.mountings:
            if mounting.mount:
                _make_mount_point(mounting.wanted.path)
                wanted = mounting.wanted
                host.mount(mounting.device, wanted.path, wanted.fstype, wanted.options or ("defaults",))
    except OSError as error:
        raise FilesystemError(
            f"{error.filename}: {error.strerror}: remove the cause and run again"
        ) from error


def read_fstab(path: str) -> str:
    """The text of fstab, empty where there is none. Bytes that are no UTF-8 survive a round trip."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as stream:
            return stream.read()
    except FileNotFoundError:
        return ""


def write_fstab(path: str, text: str) -> None:
    """Replace fstab, with its access and, where it is a link, behind the link."""
    target = os.path.realpath(path)
    mode, uid, gid = 0o644, -1, -1
    if os.path.exists(target):
        status = os.stat(target)
        mode, uid, gid = stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid
    _files.write_atomic(target, text.encode("utf-8", "surrogateescape"), mode=mode, uid=uid, gid=gid)


def _make_mount_point(path: str) -> None:
    if os.path.isdir(path):
        return
    access = Access(None, None, 0o755)
    try:
        _directory_tree.apply(_directory_tree.plan(Tree(access, [Directory(path, access)]), check=False))
    except TreeError as error:
        raise FilesystemError(str(error)) from error

# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an expected mount looks like on the host, gathered without ever waiting for a dead file system."""

from __future__ import annotations

import errno
import functools
import grp
import os
import pwd
import secrets
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional

from ansible_collections.citadel.llm.plugins.module_utils import _storage_info, _storage_info_probe
from ansible_collections.citadel.llm.plugins.module_utils._host_info_tree import Tree
from ansible_collections.citadel.llm.plugins.module_utils._mountinfo import Mount
from ansible_collections.citadel.llm.plugins.module_utils._storage_info import FstabEntry
from ansible_collections.citadel.llm.plugins.module_utils._storage_info_devices import Devices

HANGING = "hanging"
MISSING = "missing"
BROKEN = "broken"
DENIED = "denied"
MOUNTED = "mounted"
DEAD_ERRORS = (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN, errno.ETIMEDOUT)
UNSUPPORTED = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOSYS)


@dataclass
class Sight:
    """One expected mount (``wanted``, the module's options) and what is there."""

    wanted: Dict[str, Any]
    state: str
    mount: Optional[Mount] = None
    device: Optional[str] = None
    kind: Optional[str] = None
    size_mib: Optional[int] = None
    space: Dict[str, Any] = field(default_factory=dict)
    uid: Optional[int] = None
    gid: Optional[int] = None
    errno: Optional[int] = None
    fstab: Optional[FstabEntry] = None
    write: Optional[_storage_info_probe.Answer] = None

    @property
    def path(self) -> str:
        return str(self.wanted["path"])

    @property
    def owner(self) -> Optional[str]:
        return None if self.uid is None else user_name(self.uid)

    @property
    def group(self) -> Optional[str]:
        return None if self.gid is None else group_name(self.gid)

    def as_dict(self) -> Dict[str, Any]:
        """Plain values for the module's result."""
        mount = self.mount
        return {
            "path": self.path,
            "role": self.wanted.get("role"),
            "state": self.state,
            "source": mount.source if mount else None,
            "fstype": mount.fstype if mount else None,
            "options": sorted(set(mount.options + mount.super_options)) if mount else None,
            "device": self.device,
            "device_class": self.kind,
            "size_mib": self.size_mib,
            "available_mib": self.space.get("available_mib"),
            "available_percent": self.space.get("available_percent"),
            "inodes_free_percent": self.space.get("inodes_free_percent"),
            "owner": self.owner,
            "group": self.group,
            "fstab": self.fstab.as_dict() if self.fstab else None,
        }


def user_name(uid: int) -> str:
    """The name of a user, or its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    """The name of a group, or its number where it has none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def look(path: str, state: _storage_info.State = _storage_info.space) -> Dict[str, Any]:
    """What only the file system itself can tell. Raises OSError."""
    status = os.stat(path)
    return {
        "real": os.path.realpath(path),
        "uid": status.st_uid,
        "gid": status.st_gid,
        "space": state(path),
    }


def try_write(folder: str) -> bool:
    """Create a file, write a block and remove it again. Raises OSError where one of these fails."""
    try:
        handle = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        name = None
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        name = os.path.join(folder, ".citadel-check-" + secrets.token_hex(8))
        handle = os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, bytes(4096))
    finally:
        os.close(handle)
        if name is not None:
            os.unlink(name)
    return True


def see(
    wanted: List[Dict[str, Any]],
    root: str = "/",
    timeout: float = 2.0,
    state: _storage_info.State = _storage_info.space,
) -> List[Sight]:
    """The sights of the wanted mounts, in their order. Raises OSError where the mounts cannot be read."""
    tree = Tree(root)
    looks = [functools.partial(look, tree.path(want["path"]), state) for want in wanted]
    answers = _storage_info_probe.run(looks, timeout)  # before the mounts are read: a look may mount
    devices = Devices(tree)
    mounts = _storage_info.mounts(tree)
    entries = _storage_info.fstab(tree)
    sights = [
        _sight(tree, devices, mounts, want, answer)
        for want, answer in zip(wanted, answers)  # noqa: B905 (Python 3.9 has no strict)
    ]
    for sight in sights:
        sight.fstab = next((entry for entry in reversed(entries) if entry.path == _normal(sight.path)), None)
    _try_writing(tree, sights, timeout)
    return sights


def _normal(path: str) -> str:
    return os.path.normpath(path)


def _sight(
    tree: Tree,
    devices: Devices,
    mounts: List[Mount],
    want: Dict[str, Any],
    answer: _storage_info_probe.Answer,
) -> Sight:
    found = answer.value or {}
    path = _normal(want["path"])
    if not want.get("mount_point", True) and found:
        path = _normal("/" + os.path.relpath(found["real"], os.path.realpath(tree.root)))
    mount = _holding(mounts, path, want.get("mount_point", True))
    sight = Sight(wanted=want, state=_state(answer, mount), mount=mount, errno=answer.errno)
    if mount is not None:
        sight.device = devices.of_mount(mount.device, mount.source)
        sight.kind = devices.kind(sight.device) if sight.device else None
        sight.size_mib = devices.size_mib(sight.device) if sight.device else None
    if found:
        sight.space, sight.uid, sight.gid = found["space"], found["uid"], found["gid"]
        if sight.size_mib is None:
            sight.size_mib = found["space"]["size_mib"]
    return sight


def _holding(mounts: List[Mount], path: str, exactly: bool) -> Optional[Mount]:
    if exactly:
        return next((mount for mount in mounts if mount.path == path and mount.fstype != "autofs"), None)
    above = [mount for mount in mounts if mount.path == "/" or (path + "/").startswith(mount.path + "/")]
    return max(above, key=lambda mount: len(mount.path), default=None)


def _state(answer: _storage_info_probe.Answer, mount: Optional[Mount]) -> str:
    if not answer.in_time:
        return HANGING
    if answer.errno in DEAD_ERRORS:
        return BROKEN
    if mount is None:
        return MISSING
    if answer.errno == errno.ENOENT:
        return MISSING
    return DENIED if answer.errno is not None else MOUNTED


def _try_writing(tree: Tree, sights: List[Sight], timeout: float) -> None:
    tried: List[Sight] = []
    tasks: List[Callable[[], Any]] = []
    for sight in sights:
        user = sight.wanted.get("writable_by")
        who = _storage_info_probe.identity(user) if user and sight.state in (MOUNTED, DENIED) else None
        if who is not None and _storage_info_probe.can_become(who):
            tried.append(sight)
            attempt = functools.partial(try_write, tree.path(sight.path))
            tasks.append(_storage_info_probe.as_user(who, attempt))
    for sight, answer in zip(tried, _storage_info_probe.run(tasks, timeout)):  # noqa: B905 (Python 3.9)
        sight.write = answer

# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Storage of a host: block devices, mounted file systems and fstab. No mount can hang it."""

from __future__ import annotations

import functools
import os
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from ansible_collections.citadel.llm.plugins.module_utils import _storage_info_probe
from ansible_collections.citadel.llm.plugins.module_utils._host_info_tree import Tree
from ansible_collections.citadel.llm.plugins.module_utils._mountinfo import Mount, parse_mountinfo, unescape
from ansible_collections.citadel.llm.plugins.module_utils._storage_info_devices import Devices

MIB = 1 << 20
# File systems that hold no data of their own, and automount points, which a look would mount.
PSEUDO = frozenset(
    "autofs binfmt_misc bpf cgroup cgroup2 configfs debugfs devpts devtmpfs efivarfs fuse.gvfsd-fuse "
    "fuse.lxcfs fuse.portal fusectl hugetlbfs mqueue nsfs overlay proc pstore ramfs rpc_pipefs securityfs "
    "selinuxfs squashfs sysfs tracefs".split()
)
KERNEL_FOLDERS = ("/proc/", "/sys/", "/run/credentials/")
NETWORK = frozenset("9p afs beegfs ceph cifs gpfs lustre nfs nfs4 smb3 smbfs virtiofs".split())
State = Callable[[str], Dict[str, Any]]
STABLE_TAGS = ("UUID=", "LABEL=", "PARTUUID=", "PARTLABEL=", "ID=")


class FstabEntry(NamedTuple):
    """A line of fstab."""

    spec: str
    path: str
    fstype: str
    options: Tuple[str, ...]

    @property
    def is_stable(self) -> bool:
        """Whether the name of the device stays the same when disks are added or found in another order."""
        if self.spec.startswith(STABLE_TAGS):
            return True
        if not self.spec.startswith("/dev/"):
            return True  # a network path or a pseudo file system
        parts = self.spec.split("/")
        return len(parts) > 3  # /dev/disk/by-…, /dev/mapper/…, /dev/VOLUME-GROUP/VOLUME

    def as_dict(self) -> Dict[str, Any]:
        """Plain values."""
        return dict(self._asdict(), options=list(self.options), stable=self.is_stable)


def space(path: str) -> Dict[str, Any]:
    """Size and free space (MiB and percent) as an ordinary user sees them, and inodes. Raises OSError."""
    numbers = os.statvfs(path)
    unit = numbers.f_frsize or numbers.f_bsize
    used = numbers.f_blocks - numbers.f_bfree
    return {
        "size_mib": numbers.f_blocks * unit // MIB,
        "available_mib": numbers.f_bavail * unit // MIB,
        "available_percent": _percent(numbers.f_bavail, used + numbers.f_bavail),
        "inodes": numbers.f_files or None,
        "inodes_free": numbers.f_favail if numbers.f_files else None,
        "inodes_free_percent": _percent(numbers.f_favail, numbers.f_files),
    }


def _percent(part: int, whole: int) -> Optional[float]:
    return round(100.0 * part / whole, 1) if whole else None


def gather(root: str = "/", timeout: float = 2.0, state: State = space) -> Dict[str, Any]:
    """``devices``, ``filesystems`` and ``fstab``.

    ``state`` looks at one path in a process of its own; what does not answer within ``timeout`` seconds has
    the state C(hanging).
    """
    tree = Tree(root)
    devices = Devices(tree)
    return {
        "devices": devices.describe(),
        "filesystems": filesystems(devices, mounts(tree), timeout, state),
        "fstab": [entry.as_dict() for entry in fstab(tree)],
    }


def mounts(tree: Tree) -> List[Mount]:
    """What is seen: of several mounts at one path only the last. Raises OSError without /proc."""
    with open(tree.path("/proc/self/mountinfo"), encoding="utf-8", errors="surrogateescape") as stream:
        every = parse_mountinfo(stream.read())
    return list({mount.path: mount for mount in every}.values())


def fstab(tree: Tree) -> List[FstabEntry]:
    """The entries of /etc/fstab; lines that are none are passed over, as mount(8) does."""
    entries = []
    for line in tree.lines("/etc/fstab"):
        fields = line.split()
        if len(fields) >= 3 and not fields[0].startswith("#"):
            options = tuple(fields[3].split(",")) if len(fields) > 3 else ("defaults",)
            path = os.path.normpath(unescape(fields[1]))
            entries.append(FstabEntry(unescape(fields[0]), path, fields[2], options))
    return entries


def is_network(fstype: str) -> bool:
    """Whether the data of such a file system lies on another machine, or behind a process."""
    return fstype in NETWORK or fstype.startswith("fuse.")


def is_read_only(mount: Mount) -> bool:
    """Whether nobody can write to it."""
    return "ro" in mount.options or "ro" in mount.super_options


def filesystems(devices: Devices, seen: List[Mount], timeout: float, state: State) -> List[Dict[str, Any]]:
    """Every mounted file system that holds data, once for each device."""
    chosen = _worth_telling(seen)
    tasks = [functools.partial(state, devices.tree.path(mount.path)) for mount in chosen]
    answers = _storage_info_probe.run(tasks, timeout)
    result = []
    for mount, answer in zip(chosen, answers):  # noqa: B905 (Python 3.9 has no strict)
        device = devices.of_mount(mount.device, mount.source)
        entry = {
            "path": mount.path,
            "source": mount.source,
            "fstype": mount.fstype,
            "options": sorted(set(mount.options + mount.super_options)),
            "read_only": is_read_only(mount),
            "network": is_network(mount.fstype),
            "device": device,
            "device_class": devices.kind(device) if device else None,
            "state": _state(answer),
        }  # type: Dict[str, Any]
        names = (
            "size_mib",
            "available_mib",
            "available_percent",
            "inodes",
            "inodes_free",
            "inodes_free_percent",
        )
        entry.update({name: (answer.value or {}).get(name) for name in names})
        result.append(entry)
    return result


def _state(answer: _storage_info_probe.Answer) -> str:
    if not answer.in_time:
        return "hanging"
    return "ok" if answer.errno is None else os.strerror(answer.errno)


def _worth_telling(seen: List[Mount]) -> List[Mount]:
    chosen, known = [], set()
    for mount in sorted(seen, key=lambda mount: (mount.root != "/", mount.path)):
        pseudo = mount.fstype in PSEUDO and mount.path != "/"
        if pseudo or mount.path.startswith(KERNEL_FOLDERS) or (mount.root != "/" and mount.device in known):
            continue
        known.add(mount.device)
        chosen.append(mount)
    return sorted(chosen, key=lambda mount: mount.path)

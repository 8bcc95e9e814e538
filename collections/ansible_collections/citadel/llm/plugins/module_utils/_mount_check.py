# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds the mounts of a host against those that were expected, and says which difference matters."""

from __future__ import annotations

import errno
import os
import re
from typing import Any, Callable, Dict, List, Optional, Tuple

from ansible_collections.citadel.llm.plugins.module_utils import _mount_check_sight as look
from ansible_collections.citadel.llm.plugins.module_utils import _mount_check_swap as swap
from ansible_collections.citadel.llm.plugins.module_utils import _storage_info
from ansible_collections.citadel.llm.plugins.module_utils._findings import (
    Finding,
    blocking,
    deviation,
    ok,
    unknown,
)
from ansible_collections.citadel.llm.plugins.module_utils._host_info_tree import Tree
from ansible_collections.citadel.llm.plugins.module_utils._mount_check_access import access
from ansible_collections.citadel.llm.plugins.module_utils._mount_check_sight import Sight
from ansible_collections.citadel.llm.plugins.module_utils._storage_info_devices import (
    NVME,
    ROTATIONAL,
    SSD,
    Devices,
)

SPEED = {ROTATIONAL: 0, SSD: 1, NVME: 2}
MIB_PER_GIB = 1024
# A disk's maker counts in powers of ten, and a file system keeps a part for itself.
SIZE_TOLERANCE = 0.02


def check(
    wanted: List[Dict[str, Any]],
    root: str = "/",
    timeout: float = 2.0,
    before_provisioning: bool = False,
    state: _storage_info.State = _storage_info.space,
) -> Tuple[List[Finding], List[Dict[str, Any]]]:
    """The findings, and what each mount looks like.

    ``wanted`` has the module's option C(mounts). With ``before_provisioning``, what the stages account and
    layout put right is a deviation. Raises OSError where the mounts of the host cannot be read.
    """
    sights = look.see(wanted, root, timeout, state)
    tree = Tree(root)
    devices = Devices(tree)
    pairs = swap.swapped_pairs(sights, devices)
    partner = {id(one): other for pair in pairs for one, other in (pair, pair[::-1])}
    findings = [swap.finding(pair, devices) for pair in pairs]
    for sight in sights:
        findings.extend(_Judge(sight, partner.get(id(sight)), tree, devices, before_provisioning).findings())
    return findings, [sight.as_dict() for sight in sights]


class _Judge:
    """The findings about one expected mount. ``partner`` is the mount that it is swapped with.

    What belongs to the device (size, space, file system) is then judged on the partner's device, which is the
    one that comes here, so that a swap is told once and nothing that follows from it.
    """

    def __init__(
        self, sight: Sight, partner: Optional[Sight], tree: Tree, devices: Devices, before: bool
    ) -> None:
        self.sight, self.wanted, self.path = sight, sight.wanted, sight.path
        self.is_swapped = partner is not None
        self.holder = partner or sight
        self.tree, self.devices, self.before = tree, devices, before

    def findings(self) -> List[Finding]:
        if self.sight.state == look.HANGING:
            return [self._hanging()]
        if self.sight.state == look.BROKEN:
            return [self._broken()]
        if self.sight.state == look.MISSING:
            return [self._missing()]
        found = [
            ok(
                "mount.present",
                self.path,
                expected=self.wanted.get("role") or "mounted",
                found=self._description(),
            )
        ]
        if not self.is_swapped:
            device = self._device()
            found += device if any(one.severity != "ok" for one in device) else device + self._device_class()
        found += self._size() + self._space() + self._fstype() + self._read_only() + self._options()
        found += self._fstab()
        if not (_is_read_only(self.sight) and "ro" not in self._wanted_options()):
            exhausted = any(
                one.id in ("mount.free", "mount.inodes") and one.severity != "ok" for one in found
            )
            found += access(self.sight, self.before, exhausted)
        return found

    def _description(self) -> str:
        mount = self.sight.mount
        return "%s on %s" % (mount.fstype if mount else "?", swap.describe(self.sight, self.devices))

    def _hanging(self) -> Finding:
        source = self.sight.mount.source if self.sight.mount else "unknown"
        return unknown(
            "mount.hanging",
            self.path,
            severity="blocking",
            expected="an answer",
            found="no answer from %s" % source,
            why="The file system does not answer: whatever touches it hangs, services included.",
            remedy="Bring the server of %s back, or detach it with: umount -l %s" % (source, self.path),
        )

    def _broken(self) -> Finding:
        error = os.strerror(self.sight.errno or 0)
        return blocking(
            "mount.broken",
            self.path,
            expected="readable",
            found=error,
            why="The file system is mounted, and cannot be used.",
            remedy="Read the kernel's log (journalctl -k) for its device, unmount it with umount -l %s, "
            "repair it and mount it again." % self.path,
        )

    def _missing(self) -> Finding:
        spec = self.wanted.get("device")
        name = self.devices.named(spec) if spec else None
        entry = self.sight.fstab
        if entry is not None:
            remedy = "Mount it: mount %s (fstab has it as %s)." % (self.path, entry.spec)
        elif name:
            remedy = "Add {path: %s, device: %s} to layout_mounts and apply the stage layout." % (
                self.path,
                self.devices.stable_name(name),
            )
        else:
            remedy = "Find the disk (module storage_info), and add it to layout_mounts in the inventory."
        facts: Dict[str, Any] = {
            "expected": self.wanted.get("role") or "mounted",
            "found": "not mounted" if self.wanted.get("mount_point", True) else "no such directory",
            "remedy": remedy,
        }
        if self.before and (name or not spec):
            why = "Not mounted yet: the stage layout does it."
            return deviation("mount.present", self.path, why=why, **facts)
        why = "What is written below this path lands on another disk, which it fills."
        if spec and not name:
            why = "The device %s is not there." % spec
        return blocking("mount.present", self.path, why=why, **facts)

    def _device_class(self) -> List[Finding]:
        want, kind = self.wanted.get("device_class"), self.sight.kind
        if not want or want == swap.ANY:
            return []
        is_local = self.sight.device is not None
        found = swap.describe(self.sight, self.devices) if is_local else self._description()
        if kind == want:
            return [ok("mount.class", self.path, expected=want, found=found)]
        if is_local and kind is None:
            return [
                unknown(
                    "mount.class",
                    self.path,
                    expected=want,
                    found=found,
                    why="The host does not tell of what kind this disk is, as with virtual disks.",
                    remedy="See what lies below the virtual disk, and set device_class to any.",
                )
            ]
        tell, why = _class_difference(want, kind)
        remedy = "Move the mount to a disk of class %s, or correct device_class in the inventory." % want
        return [tell("mount.class", self.path, expected=want, found=found, why=why, remedy=remedy)]

    def _device(self) -> List[Finding]:
        spec = self.wanted.get("device")
        if not spec:
            return []
        name = self.devices.named(spec)
        facts: Dict[str, Any] = {"expected": spec, "found": swap.describe(self.sight, self.devices)}
        if name is not None and name == self.sight.device:
            return [ok("mount.device", self.path, **facts)]
        why = "Another device is mounted here." if name else "There is no such device on this host."
        remedy = "Mount %s here, or name the device %s in the inventory." % (
            spec,
            self.devices.stable_name(self.sight.device) if self.sight.device else facts["found"],
        )
        return [blocking("mount.device", self.path, why=why, remedy=remedy, **facts)]

    def _size(self) -> List[Finding]:
        least, size = self.wanted.get("min_size_gib"), self.holder.size_mib
        if least is None:
            return []
        expected = "at least %g GiB" % least
        if size is None:
            return [self._not_seen("mount.size", expected)]
        facts = {"expected": expected, "found": str(swap.size_text(size))}
        if size < least * MIB_PER_GIB * (1 - SIZE_TOLERANCE):
            why, remedy = "The disk is too small for its role.", "Use a larger disk, or lower min_size_gib."
            return [blocking("mount.size", self.path, why=why, remedy=remedy, **facts)]
        return [ok("mount.size", self.path, **facts)]

    def _space(self) -> List[Finding]:
        space = self.holder.space
        if not space:
            return [self._not_seen("mount.free", "free space")]
        gib, percent = self.wanted.get("min_free_gib") or 0, self.wanted.get("min_free_percent") or 0
        expected = "at least %g %% free" % percent + (" and %g GiB" % gib if gib else "")
        available = space["available_mib"]
        share = space["available_percent"]
        found = "%s%s free" % (swap.size_text(available), "" if share is None else ", %g %%" % share)
        if available < gib * MIB_PER_GIB or (share is not None and share < percent):
            why = "The file system is full, or nearly so: models, logs and releases cannot be written."
            remedy = "Remove what is no longer needed (du -xh %s | sort -h | tail), or use a larger disk." % (
                self.holder.path
            )
            found_ = [
                blocking("mount.free", self.path, expected=expected, found=found, why=why, remedy=remedy)
            ]
        else:
            found_ = [ok("mount.free", self.path, expected=expected, found=found)]
        return found_ + self._inodes(space)

    def _inodes(self, space: Dict[str, Any]) -> List[Finding]:
        least, share = self.wanted.get("min_free_inodes_percent") or 0, space["inodes_free_percent"]
        if share is None:  # file systems such as btrfs have no fixed number
            return []
        facts = {"expected": "at least %g %% of inodes free" % least, "found": "%g %% free" % share}
        if share < least:
            why = "No more files can be created although there may be space."
            remedy = (
                "Find the directory with most files (du --inodes -x %s | sort -n | tail), and thin it out."
            )
            return [blocking("mount.inodes", self.path, why=why, remedy=remedy % self.holder.path, **facts)]
        return [ok("mount.inodes", self.path, **facts)]

    def _fstype(self) -> List[Finding]:
        want, mount = self.wanted.get("fstype") or [], self.holder.mount
        if not want or mount is None:
            return []
        facts = {"expected": " or ".join(want), "found": mount.fstype}
        if mount.fstype in want:
            return [ok("mount.fstype", self.path, **facts)]
        if _storage_info.is_network(mount.fstype):
            why, remedy = "A network file system stops the service with its server.", "Mount a local disk."
            return [blocking("mount.fstype", self.path, why=why, remedy=remedy, **facts)]
        why = "Different, functional: another file system than on record."
        remedy = "Record it in the inventory (fstype), or make the file system anew when it holds nothing."
        return [deviation("mount.fstype", self.path, why=why, remedy=remedy, **facts)]

    def _wanted_options(self) -> List[str]:
        return [one for one in self.wanted.get("options") or [] if one not in ("defaults", "rw", "")]

    def _read_only(self) -> List[Finding]:
        if not _is_read_only(self.sight) or "ro" in self._wanted_options():
            return []
        entry = self.sight.fstab
        by_fstab = entry is not None and "ro" in entry.options
        why = (
            "fstab mounts it read-only."
            if by_fstab
            else "It is read-only although fstab does not say so: the kernel does that after an I/O error."
        )
        remedy = (
            "Remove ro from its options and run: mount -o remount,rw %s" % self.path
            if by_fstab
            else "Read the kernel's log (journalctl -k), check the disk (smartctl, fsck), then remount it."
        )
        facts = {"expected": "read and write", "found": "read-only"}
        return [blocking("mount.read_only", self.path, why=why, remedy=remedy, **facts)]

    def _options(self) -> List[Finding]:
        wanted, mount, entry = self._wanted_options(), self.sight.mount, self.sight.fstab
        if not wanted or mount is None:
            return []
        present = set(mount.options) | set(mount.super_options) | set(entry.options if entry else ())
        missing = [option for option in wanted if option not in present]
        facts = {"expected": ",".join(wanted), "found": ",".join(sorted(mount.options))}
        if not missing:
            return [ok("mount.options", self.path, **facts)]
        why = "Different, functional: without %s." % ", ".join(missing)
        remedy = "Add them to options of this mount in layout_mounts and apply the stage layout."
        return [deviation("mount.options", self.path, why=why, remedy=remedy, **facts)]

    def _fstab(self) -> List[Finding]:
        if not self.wanted.get("in_fstab"):
            return []
        expected, entry = "in fstab by a stable name", self.sight.fstab
        unit = None if entry else _unit_source(self.tree, self.path)
        if entry is None and unit is None:
            why = "It is mounted by hand: after the next start of the host it is gone."
            remedy = "Add it to layout_mounts and apply the stage layout."
            facts: Dict[str, Any] = {"expected": expected, "found": "no entry in fstab and no mount unit"}
            return [deviation("mount.fstab", self.path, why=why, remedy=remedy, **facts)]
        spec = entry.spec if entry else str(unit)
        stable = (entry or _storage_info.FstabEntry(spec, "", "", ())).is_stable
        facts = {"expected": expected, "found": spec if entry else "mount unit of " + spec}
        named = self.devices.named(spec)
        if self.sight.device and named != self.sight.device:
            what = "another device" if named else "a device that is not there"
            facts["remedy"] = "Correct the entry, then: systemctl daemon-reload."
            why = "It names %s: after the next start of the host this mount differs or is missing." % what
            if named is None and not (entry and "nofail" in entry.options):
                why = (
                    "It names a device that is not there: the next start of the host ends in emergency mode."
                )
                return [blocking("mount.fstab", self.path, why=why, **facts)]
            return [deviation("mount.fstab", self.path, why=why, **facts)]
        if not stable:
            why = "Functional, not stable: names such as this change when disks are added or found later."
            name = self.devices.stable_name(self.sight.device) if self.sight.device else "a UUID"
            return [
                deviation("mount.fstab", self.path, why=why, remedy="Write %s in its place." % name, **facts)
            ]
        return [ok("mount.fstab", self.path, **facts)]

    def _not_seen(self, id_: str, expected: str) -> Finding:
        reason = os.strerror(self.sight.errno or errno.EACCES)
        return unknown(
            id_, self.path, expected=expected, why="Could not look: %s." % reason, remedy="Run as root."
        )


def _class_difference(want: str, kind: Optional[str]) -> Tuple[Callable[..., Finding], str]:
    """How much it matters that a disk is of another class, and why."""
    if kind is None:
        return blocking, "This is no local disk."
    if SPEED[kind] > SPEED[want]:
        return deviation, "Different, sufficient: the disk is faster than was asked for."
    if kind == SSD:
        return deviation, "Different, functional: the disk is slower than was asked for."
    return blocking, "A rotational disk reads some 200 MB a second: models of many GB load in minutes."


def _is_read_only(sight: Sight) -> bool:
    return sight.mount is not None and _storage_info.is_read_only(sight.mount)


def _unit_source(tree: Tree, path: str) -> Optional[str]:
    """What a systemd mount unit of the administrator mounts at the path, or None without one."""
    escaped = re.sub(
        r"[^A-Za-z0-9:_./]|^\.", lambda match: "\\x%02x" % ord(match.group()), path.strip("/")
    ).replace("/", "-")
    for line in tree.lines("/etc/systemd/system/%s.mount" % escaped):
        name, _equals, value = line.partition("=")
        if name.strip() == "What":
            return value.strip()
    return None

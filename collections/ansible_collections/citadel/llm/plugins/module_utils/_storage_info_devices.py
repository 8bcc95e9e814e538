# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Block devices of a host: what they are, under which names they are known, and what kind they are of."""

from __future__ import annotations

import os
import re
from typing import Any, Dict, List, Optional, Set

from ansible_collections.citadel.llm.plugins.module_utils._host_info_tree import Tree

NVME = "nvme"
SSD = "ssd"
ROTATIONAL = "rotational"
LINK_FOLDERS = (
    "/dev",
    "/dev/disk/by-uuid",
    "/dev/disk/by-label",
    "/dev/disk/by-id",
    "/dev/disk/by-path",
    "/dev/disk/by-partuuid",
    "/dev/disk/by-partlabel",
    "/dev/mapper",
)
TRANSPORT_NAMES = (("nvme", "nvme"), ("vd", "virtio"), ("xvd", "xen"), ("mmcblk", "mmc"), ("loop", "loop"))
TRANSPORT_PATHS = (("/usb", "usb"), ("/ata", "sata"), ("/end_device-", "sas"), ("/virtio", "virtio"))


class Devices:
    """The block devices of a tree, partitions and stacked devices among them.

    A loop device takes the class of the alias under which the host sees it: a link ``/dev/nvme0n1`` that
    leads to ``/dev/loop3`` makes that device an NVMe disk for every check, ``/dev/sda`` a rotational one. A
    real disk is what the kernel says it is.
    """

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.parents: Dict[str, Optional[str]] = {}
        self.numbers: Dict[str, str] = {}
        for disk in tree.names("/sys/block"):
            if not tree.number("/sys/block/%s/size" % disk) or self._is_passed_over(disk):
                continue
            self._add(disk, None)
            for part in tree.names("/sys/block/" + disk):
                if tree.exists("/sys/block/%s/%s/partition" % (disk, part)):
                    self._add(part, disk)
        self.links = self._find_links()

    def _is_passed_over(self, disk: str) -> bool:
        """Memory, and loop devices of others: a container sees all of them, and has nodes of its own."""
        if disk.startswith(("ram", "zram")):
            return True
        return disk.startswith("loop") and not self.tree.exists("/dev/" + disk)

    def _add(self, name: str, parent: Optional[str]) -> None:
        self.parents[name] = parent
        number = self.tree.text(self._folder(name) + "/dev")
        if number:
            self.numbers[number] = name

    def _folder(self, name: str) -> str:
        parent = self.parents.get(name)
        return "/sys/block/%s/%s" % (parent, name) if parent else "/sys/block/" + name

    def _find_links(self) -> Dict[str, List[str]]:
        links: Dict[str, List[str]] = {}
        for folder in LINK_FOLDERS:
            for name in self.tree.names(folder):
                path = folder + "/" + name
                target = self._follow(path)
                if target is not None and target != path:
                    links.setdefault(os.path.basename(target), []).append(path)
        return links

    def _follow(self, path: str) -> Optional[str]:
        """The device node that a link below /dev leads to, or None where it leads to none."""
        for _step in range(8):
            target = self.tree.link(path)
            if target is None:
                break
            path = os.path.normpath(os.path.join(os.path.dirname(path), target))
        return path if path.startswith("/dev/") and os.path.basename(path) in self.parents else None

    def named(self, spec: str) -> Optional[str]:
        """The kernel's name of the device that ``spec`` (a path, ``UUID=``, ``LABEL=``, …) means, or None."""
        tag, equals, value = spec.partition("=")
        if equals and tag.isupper():
            spec = "/dev/disk/by-%s/%s" % (tag.lower(), _udev_escape(value.strip('"')))
        if not spec.startswith("/dev/"):
            return None
        node = self._follow(os.path.normpath(spec))
        return os.path.basename(node) if node else None

    def of_mount(self, number: str, source: str) -> Optional[str]:
        """The device of a mount, from its ``major:minor`` or, where that is anonymous, from its source."""
        return self.numbers.get(number) or self.named(source)

    def disk(self, name: str) -> str:
        """The whole disk that a partition is a part of, else the name itself."""
        return self.parents.get(name) or name

    def aliases(self, name: str) -> List[str]:
        """The other names directly below /dev, such as C(nvme0n1) for a loop device."""
        return [
            os.path.basename(link) for link in self.links.get(name, []) if os.path.dirname(link) == "/dev"
        ]

    def stable_name(self, name: str) -> str:
        """How fstab should call the device: by UUID, by label, by id, else by its path."""
        links = self.links.get(name, [])
        for folder, prefix in (("by-uuid", "UUID="), ("by-label", "LABEL=")):
            for link in links:
                if os.path.dirname(link) == "/dev/disk/" + folder:
                    return prefix + os.path.basename(link)
        by_id = [link for link in links if link.startswith(("/dev/disk/by-id/", "/dev/mapper/"))]
        return by_id[0] if by_id else "/dev/" + [*self.aliases(name), name][0]

    def kind(self, name: str) -> Optional[str]:
        """``nvme``, ``ssd`` or ``rotational``; None where the host does not tell, as for a virtual disk."""
        kinds = self._kinds(name, set())
        for kind in (ROTATIONAL, SSD, NVME):  # a stack is as slow as its slowest part
            if kind in kinds:
                return kind
        return None

    def _kinds(self, name: str, seen: Set[str]) -> Set[str]:
        disk = self.disk(name)
        if disk in seen:
            return set()
        seen.add(disk)
        below = self.tree.names("/sys/block/%s/slaves" % disk)
        if below:
            return {kind for one in below for kind in self._kinds(one, seen)}
        if disk.startswith("loop"):
            return {_alias_kind(alias) for alias in self.aliases(name) + self.aliases(disk)} - {""}
        if disk.startswith("nvme"):
            return {NVME}
        rotational = self.tree.number("/sys/block/%s/queue/rotational" % disk)
        if rotational is None or self.transport(disk) in ("virtio", "xen"):
            return set()
        return {ROTATIONAL if rotational else SSD}

    def transport(self, name: str) -> Optional[str]:
        """``nvme``, ``sata``, ``sas``, ``usb``, ``virtio``, ``loop``, …, or None."""
        disk = self.disk(name)
        for start, transport in TRANSPORT_NAMES:
            if disk.startswith(start):
                return transport
        path = self.tree.link("/sys/block/" + disk) or ""
        return next((transport for part, transport in TRANSPORT_PATHS if part in path), None)

    def size_mib(self, name: str) -> Optional[int]:
        """The size; the kernel counts in sectors of 512 bytes, whatever the disk's own are."""
        sectors = self.tree.number(self._folder(name) + "/size")
        return None if sectors is None else sectors >> 11

    def describe(self) -> List[Dict[str, Any]]:
        """Every whole device with its partitions."""
        return [self._describe(name) for name in sorted(self.parents) if self.parents[name] is None]

    def _describe(self, name: str) -> Dict[str, Any]:
        base = self._folder(name)
        parts = sorted(part for part, parent in self.parents.items() if parent == name)
        return {
            "name": name,
            "aliases": self.aliases(name),
            "size_mib": self.size_mib(name),
            "device_class": self.kind(name),
            "rotational": _truth(self.tree.number(base + "/queue/rotational")),
            "transport": self.transport(name),
            "model": self.tree.text(base + "/device/model"),
            "serial": self._serial(base),
            "read_only": _truth(self.tree.number(base + "/ro")),
            "removable": _truth(self.tree.number(base + "/removable")),
            "below": self.tree.names(base + "/slaves"),
            "stable_name": self.stable_name(name),
            "links": [link for link in self.links.get(name, []) if link.startswith("/dev/disk/")],
            "partitions": [
                {
                    "name": part,
                    "size_mib": self.size_mib(part),
                    "stable_name": self.stable_name(part),
                    "links": [link for link in self.links.get(part, []) if link.startswith("/dev/disk/")],
                }
                for part in parts
            ],
        }

    def _serial(self, base: str) -> Optional[str]:
        page = self.tree.data(base + "/device/vpd_pg80")  # SCSI and SATA: four bytes of header, then the text
        if page and len(page) > 4:
            return page[4:].decode("ascii", "replace").strip(" \0") or None
        return self.tree.text(base + "/device/serial") or self.tree.text(base + "/serial")


def _truth(number: Optional[int]) -> Optional[bool]:
    return None if number is None else bool(number)


def _alias_kind(alias: str) -> str:
    if re.match(r"nvme\d", alias):
        return NVME
    return ROTATIONAL if re.match(r"sd[a-z]", alias) else ""


def _udev_escape(value: str) -> str:
    """A label as udev writes it into a link's name."""
    kept = "#+-.:=@_"
    return "".join(
        c if c.isalnum() or c in kept else "".join("\\x%02x" % b for b in c.encode()) for c in value
    )

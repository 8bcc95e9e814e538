# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Block devices, file systems and fstab, read from dressed trees."""

from __future__ import annotations

import json
import os
import pathlib
import time
from typing import Any, Dict, Optional

import pytest

from ansible_collections.citadel.llm.plugins.module_utils import _storage_info as storage_info
from ansible_collections.citadel.llm.plugins.module_utils._host_info_tree import Tree
from ansible_collections.citadel.llm.plugins.module_utils._storage_info_devices import Devices
from ansible_collections.citadel.llm.tests.unit.plugins.module_utils.probe_testing import hang

GIB_SECTORS = 1 << 21


class Machine:
    """A tree with disks."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        (root / "dev").mkdir()

    def write(self, name: str, content: Any) -> None:
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(content))

    def disk(
        self,
        name: str,
        number: str,
        gib: float = 1,
        rotational: int = 0,
        partitions: Optional[Dict[str, str]] = None,
    ) -> None:
        base = "/sys/block/" + name
        self.write(base + "/dev", number)
        self.write(base + "/size", int(gib * GIB_SECTORS))
        self.write(base + "/queue/rotational", rotational)
        (self.root / "dev" / name).touch()
        for part, part_number in (partitions or {}).items():
            self.write("%s/%s/partition" % (base, part), 1)
            self.write("%s/%s/dev" % (base, part), part_number)
            self.write("%s/%s/size" % (base, part), GIB_SECTORS)
            (self.root / "dev" / part).touch()

    def link(self, path: str, target: str) -> None:
        where = self.root / path.lstrip("/")
        where.parent.mkdir(parents=True, exist_ok=True)
        where.symlink_to(target)

    def devices(self) -> Devices:
        return Devices(Tree(str(self.root)))


@pytest.fixture
def machine(tmp_path: pathlib.Path) -> Machine:
    return Machine(tmp_path)


def test_real_disks_are_what_the_kernel_says(machine: Machine) -> None:
    machine.disk("nvme0n1", "259:0", 3726, partitions={"nvme0n1p1": "259:1"})
    machine.disk("sda", "8:0", 7452, rotational=1)
    machine.disk("sdb", "8:16", rotational=0)
    machine.disk("vda", "254:0", rotational=1)
    machine.disk("zram0", "253:0")
    machine.disk("loop0", "7:0", 0)
    machine.disk("loop1", "7:1")
    (machine.root / "dev/loop1").unlink()
    devices = machine.devices()
    kinds = {name: devices.kind(name) for name in ("nvme0n1", "nvme0n1p1", "sda", "sdb", "vda")}
    expected = {"nvme0n1": "nvme", "nvme0n1p1": "nvme", "sda": "rotational", "sdb": "ssd", "vda": None}
    assert kinds == expected
    described = {one["name"]: one for one in devices.describe()}
    assert set(described) == {"nvme0n1", "sda", "sdb", "vda"}
    assert described["nvme0n1"]["size_mib"] == 3726 * 1024
    assert described["nvme0n1"]["partitions"][0]["name"] == "nvme0n1p1"
    assert described["vda"]["transport"] == "virtio"
    assert devices.of_mount("259:1", "whatever") == "nvme0n1p1"


def test_a_loop_device_takes_the_class_of_its_alias(machine: Machine) -> None:
    for number, alias in ((3, "nvme0n1"), (4, "sda"), (5, None), (6, "backup")):
        machine.disk("loop%d" % number, "7:%d" % number, rotational=1)
        if alias:
            machine.link("/dev/" + alias, "loop%d" % number)
    devices = machine.devices()
    assert [devices.kind("loop%d" % n) for n in (3, 4, 5, 6)] == ["nvme", "rotational", None, None]
    assert devices.aliases("loop3") == ["nvme0n1"]
    assert devices.named("/dev/nvme0n1") == "loop3"
    assert devices.stable_name("loop3") == "/dev/nvme0n1"


def test_a_partition_of_a_loop_device(machine: Machine) -> None:
    machine.disk("loop3", "7:3", partitions={"loop3p1": "259:7"})
    machine.link("/dev/nvme0n1", "loop3")
    assert machine.devices().kind("loop3p1") == "nvme"


def test_a_stack_is_as_slow_as_its_slowest_part(machine: Machine) -> None:
    machine.disk("nvme0n1", "259:0", partitions={"nvme0n1p1": "259:1"})
    machine.disk("sda", "8:0", rotational=1)
    machine.disk("dm-0", "252:0")
    machine.disk("dm-1", "252:1")
    machine.write("/sys/block/dm-0/slaves/nvme0n1p1", "")
    machine.write("/sys/block/dm-1/slaves/dm-0", "")
    machine.write("/sys/block/dm-1/slaves/sda", "")
    devices = machine.devices()
    assert devices.kind("dm-0") == "nvme" and devices.kind("dm-1") == "rotational"


def test_names_that_fstab_may_use(machine: Machine) -> None:
    machine.disk("sda", "8:0")
    machine.disk("sdb", "8:16")
    machine.disk("dm-0", "252:0")
    machine.link("/dev/disk/by-uuid/aaaa-1", "../../sda")
    machine.link("/dev/disk/by-label/my\\x20data", "../../sdb")
    machine.link("/dev/disk/by-id/wwn-0x5", "../../sdb")
    machine.link("/dev/mapper/vg-models", "../dm-0")
    machine.link("/dev/cdrom", "sr9")
    devices = machine.devices()
    assert devices.named("UUID=aaaa-1") == "sda"
    assert devices.named('LABEL="my data"') == "sdb"
    assert devices.named("/dev/disk/by-id/wwn-0x5") == "sdb"
    assert devices.named("/dev/cdrom") is None and devices.named("server:/export") is None
    assert devices.stable_name("sda") == "UUID=aaaa-1"
    assert devices.stable_name("sdb") == "LABEL=my\\x20data"
    assert devices.stable_name("dm-0") == "/dev/mapper/vg-models"


def test_links_in_a_circle_lead_nowhere(machine: Machine) -> None:
    machine.disk("sda", "8:0")
    machine.link("/dev/a", "b")
    machine.link("/dev/b", "a")
    assert machine.devices().named("/dev/a") is None


def test_fstab(machine: Machine) -> None:
    machine.write(
        "/etc/fstab",
        "# a comment\n\nUUID=a / ext4 defaults,noatime 0 1\n/dev/sda1 /mnt/my\\040data xfs nofail\n"
        "/dev/mapper/vg-x /x ext4\n/dev/vg/x /y ext4 ro\nserver:/e /n nfs hard 0 0\nbroken line\n",
    )
    entries = storage_info.fstab(Tree(str(machine.root)))
    assert [entry.path for entry in entries] == ["/", "/mnt/my data", "/x", "/y", "/n"]
    assert [entry.is_stable for entry in entries] == [True, False, True, True, True]
    assert entries[1].options == ("nofail",) and entries[2].options == ("defaults",)


MOUNTINFO = r"""20 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
21 20 0:20 / /proc rw - proc proc rw
22 20 0:21 / /sys/fs/cgroup ro - tmpfs tmpfs ro
23 20 8:1 /var/lib /srv/bind rw - ext4 /dev/sda1 rw
24 20 0:44 / /mnt/dead rw - nfs4 server:/export rw,hard
25 20 8:17 / /mnt/old rw - ext4 /dev/sdb1 rw
26 25 8:33 / /mnt/old ro,noatime - xfs /dev/sdc1 rw
27 20 0:50 / /auto rw - autofs systemd-1 rw
"""


def space_of(path: str) -> Dict[str, Any]:
    if path.endswith("/mnt/dead"):
        time.sleep(600)
    if path.endswith("/mnt/old"):
        raise OSError(5, "Input/output error")
    return {"size_mib": 100, "available_mib": 40, "available_percent": 40.0, "inodes": None}


def test_one_dead_file_system_hangs_nothing(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.disk("sda", "8:0", partitions={"sda1": "8:1"})
    machine.write("/proc/self/mountinfo", MOUNTINFO)
    hang(monkeypatch, 1)
    facts = storage_info.gather(str(machine.root), timeout=0.5, state=space_of)
    found = {one["path"]: one for one in facts["filesystems"]}
    assert set(found) == {"/", "/mnt/dead", "/mnt/old"}
    assert found["/"]["state"] == "ok" and found["/"]["device"] == "sda1" and found["/"]["size_mib"] == 100
    assert found["/mnt/dead"]["state"] == "hanging" and found["/mnt/dead"]["network"]
    assert found["/mnt/dead"]["size_mib"] is None
    assert found["/mnt/old"]["state"] == "Input/output error"
    assert found["/mnt/old"]["source"] == "/dev/sdc1" and found["/mnt/old"]["read_only"]
    json.dumps(facts)


def test_the_running_machine() -> None:
    if not os.path.exists("/proc/self/mountinfo"):
        pytest.skip("no /proc here")
    facts = storage_info.gather("/", timeout=5)
    root = [one for one in facts["filesystems"] if one["path"] == "/"]
    assert len(root) == 1 and root[0]["state"] == "ok" and root[0]["size_mib"] > 0


def test_without_proc(machine: Machine) -> None:
    with pytest.raises(OSError, match="mountinfo"):
        storage_info.gather(str(machine.root))

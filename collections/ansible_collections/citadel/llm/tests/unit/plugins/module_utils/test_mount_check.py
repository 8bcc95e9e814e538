# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Expected mounts: present, of the right kind, not swapped, usable."""

from __future__ import annotations

import errno
import os
import pathlib
import pwd
import shutil
import tempfile
import time
from typing import Any, Dict, Iterator, List, Tuple

import pytest

from ansible_collections.citadel.llm.plugins.module_utils import _mount_check as mount_check
from ansible_collections.citadel.llm.plugins.module_utils import _mount_check_sight as sight
from ansible_collections.citadel.llm.plugins.module_utils import _storage_info_probe as probe
from ansible_collections.citadel.llm.plugins.module_utils._findings import Finding
from ansible_collections.citadel.llm.tests.unit.plugins.module_utils.probe_testing import hang

GIB_SECTORS = 1 << 21
ME = pwd.getpwuid(os.geteuid()).pw_name
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can try as another user")


class Server:
    """A tree with an NVMe disk and an archive disk, both loop devices under their aliases."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self.mounts: List[Tuple[str, str, str, str, str]] = []
        self.table: List[str] = []
        (root / "dev").mkdir()
        self.write("/proc/self/mountinfo", "")
        self.disk("loop3", "7:3", 3726, "nvme0n1", "uuid-nvme")
        self.disk("loop4", "7:4", 7452, "sda", "uuid-archive")

    def write(self, name: str, content: Any) -> None:
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(content))

    def disk(self, name: str, number: str, gib: int, alias: str = "", uuid: str = "") -> None:
        base = "/sys/block/" + name
        self.write(base + "/dev", number)
        self.write(base + "/size", gib * GIB_SECTORS)
        self.write(base + "/queue/rotational", 1)
        self.write("/dev/" + name, "")
        if alias:
            (self.root / "dev" / alias).symlink_to(name)
        if uuid:
            folder = self.root / "dev/disk/by-uuid"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / uuid).symlink_to("../../" + name)

    def mount(
        self,
        path: str,
        number: str,
        fstype: str = "ext4",
        options: str = "rw,relatime",
        source: str = "/dev/x",
    ) -> None:
        (self.root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
        self.mounts.append((path, number, fstype, options, source))
        lines = [
            "%d 1 %s / %s %s - %s %s %s"
            % (30 + index, number, path, options, fstype, source, options.split(",")[0])
            for index, (path, number, fstype, options, source) in enumerate(self.mounts)
        ]
        self.write("/proc/self/mountinfo", "\n".join(lines) + "\n")

    def fstab(self, *lines: str) -> None:
        self.write("/etc/fstab", "\n".join(lines) + "\n")

    def check(self, *wanted: Dict[str, Any], **options: Any) -> List[Finding]:
        options.setdefault("timeout", 5.0)
        options.setdefault("state", plenty)
        return mount_check.check([want(**one) for one in wanted], str(self.root), **options)[0]


def want(**given: Any) -> Dict[str, Any]:
    return {"mount_point": True, "min_free_percent": 1.0, "min_free_inodes_percent": 1.0, **given}


def plenty(_path: str) -> Dict[str, Any]:
    return space(available_percent=80.0)


def space(**given: Any) -> Dict[str, Any]:
    figures: Dict[str, Any] = {"size_mib": 1000, "available_mib": 800, "available_percent": 80.0}
    figures.update(inodes=100, inodes_free=90, inodes_free_percent=90.0)
    figures.update(given)
    return figures


def bad(findings: List[Finding]) -> Dict[str, str]:
    return {finding.id: finding.severity for finding in findings if finding.severity != "ok"}


def named(findings: List[Finding], id_: str) -> Finding:
    found = [finding for finding in findings if finding.id == id_]
    assert len(found) == 1, (id_, findings)
    return found[0]


MODELS = {
    "path": "/mnt/nvme0n1",
    "role": "models",
    "device_class": "nvme",
    "in_fstab": True,
    "min_size_gib": 3700.0,
}
LOGS = {
    "path": "/mnt/sda",
    "role": "logs",
    "device_class": "rotational",
    "in_fstab": True,
    "min_size_gib": 7400.0,
}


@pytest.fixture
def server(tmp_path: pathlib.Path) -> Server:
    return Server(tmp_path)


@pytest.fixture
def open_folder() -> Iterator[str]:
    """A directory that every user can reach, as pytest's own are not."""
    folder = tempfile.mkdtemp(prefix="citadel-test-")
    os.chmod(folder, 0o755)
    yield folder
    shutil.rmtree(folder)


def test_mounts_as_expected(server: Server) -> None:
    server.mount("/mnt/nvme0n1", "7:3", "xfs")
    server.mount("/mnt/sda", "7:4")
    server.fstab("UUID=uuid-nvme /mnt/nvme0n1 xfs defaults", "UUID=uuid-archive /mnt/sda ext4 nofail")
    findings = server.check(
        {**MODELS, "fstype": ["ext4", "xfs"], "options": ["relatime"]}, {**LOGS, "options": ["nofail"]}
    )
    assert bad(findings) == {}
    assert len(findings) == 15
    assert named(findings[:7], "mount.present").found == "xfs on nvme0n1, nvme, 3.6 TiB"


def test_swapped_mounts_are_one_finding_with_the_change_of_the_inventory(server: Server) -> None:
    server.mount("/mnt/nvme0n1", "7:4", "ext4")
    server.mount("/mnt/sda", "7:3", "xfs")
    server.fstab("/dev/sda /mnt/nvme0n1 ext4 defaults,noatime", "UUID=uuid-nvme /mnt/sda xfs nofail")
    findings = server.check({**MODELS, "fstype": ["xfs"]}, {**LOGS, "fstype": ["ext4"]})
    assert bad(findings) == {"mount.swapped": "blocking", "mount.fstab": "deviation"}
    swapped = named(findings, "mount.swapped")
    assert swapped.subject == "/mnt/nvme0n1 and /mnt/sda"
    assert swapped.found == {"/mnt/nvme0n1": "sda, rotational, 7.3 TiB", "/mnt/sda": "nvme0n1, nvme, 3.6 TiB"}
    assert swapped.remedy.splitlines()[1:] == [
        " layout_mounts:",
        '-  - {path: /mnt/nvme0n1, device: UUID=uuid-archive, fstype: ext4, options: "defaults,noatime"}',
        "-  - {path: /mnt/sda, device: UUID=uuid-nvme, fstype: xfs, options: nofail}",
        '+  - {path: /mnt/nvme0n1, device: UUID=uuid-nvme, fstype: xfs, options: "defaults,noatime"}',
        "+  - {path: /mnt/sda, device: UUID=uuid-archive, fstype: ext4, options: nofail}",
    ]


def test_swapped_with_a_mount_that_may_lie_anywhere(server: Server) -> None:
    server.mount("/mnt/nvme0n1", "7:4")
    server.mount("/mnt/sda", "7:3")
    findings = server.check({"path": "/mnt/nvme0n1", "device_class": "nvme"}, {"path": "/mnt/sda"})
    assert bad(findings) == {"mount.swapped": "blocking"}


def test_swapped_by_the_devices_that_are_named(server: Server) -> None:
    server.mount("/mnt/nvme0n1", "7:4")
    server.mount("/mnt/sda", "7:3")
    findings = server.check(
        {"path": "/mnt/nvme0n1", "device": "/dev/nvme0n1"},
        {"path": "/mnt/sda", "device": "UUID=uuid-archive"},
    )
    assert bad(findings) == {"mount.swapped": "blocking"}


def test_two_wrong_classes_that_a_swap_would_not_put_right(server: Server) -> None:
    server.disk("sdb", "8:16", 10)
    server.mount("/mnt/nvme0n1", "8:16")
    server.mount("/mnt/sda", "7:3")
    findings = server.check(
        {"path": "/mnt/nvme0n1", "device_class": "nvme"}, {"path": "/mnt/sda", "device_class": "nvme"}
    )
    assert bad(findings) == {"mount.class": "blocking"}


@pytest.mark.parametrize(
    "wanted, number, severity, in_why",
    [
        ("nvme", "7:4", "blocking", "minutes"),
        ("ssd", "7:4", "blocking", "minutes"),
        ("nvme", "8:16", "deviation", "slower"),
        ("rotational", "8:16", "deviation", "faster"),
        ("rotational", "7:3", "deviation", "faster"),
        ("nvme", "254:0", "deviation", "does not tell"),
        ("nvme", "0:40", "blocking", "no local disk"),
        ("any", "7:4", "ok", ""),
    ],
)
def test_device_class(server: Server, wanted: str, number: str, severity: str, in_why: str) -> None:
    server.disk("sdb", "8:16", 10)
    server.write("/sys/block/sdb/queue/rotational", 0)
    server.disk("vda", "254:0", 10)
    server.mount("/data", number)
    findings = server.check({"path": "/data", "device_class": wanted})
    assert bad(findings) == ({} if severity == "ok" else {"mount.class": severity})
    if severity != "ok":
        finding = named(findings, "mount.class")
        assert in_why in finding.why
        assert finding.unknown is (number == "254:0")


def test_another_device_than_the_one_named(server: Server) -> None:
    server.mount("/data", "7:4")
    findings = server.check({"path": "/data", "device": "/dev/nvme0n1", "device_class": "nvme"})
    assert bad(findings) == {"mount.device": "blocking"}
    assert "UUID=uuid-archive" in named(findings, "mount.device").remedy
    assert (
        "no such device" in named(server.check({"path": "/data", "device": "/dev/sdx"}), "mount.device").why
    )


@pytest.mark.parametrize(
    "given, before, severity, in_why",
    [
        ({}, False, "blocking", "another disk"),
        ({}, True, "deviation", "Not mounted yet"),
        ({"device": "UUID=uuid-nvme"}, True, "deviation", "Not mounted yet"),
        ({"device": "/dev/sdx"}, True, "blocking", "/dev/sdx is not there"),
        ({"device": "/dev/sdx"}, False, "blocking", "/dev/sdx is not there"),
    ],
)
def test_a_mount_that_is_missing(
    server: Server, given: Dict[str, Any], before: bool, severity: str, in_why: str
) -> None:
    (server.root / "data").mkdir()
    findings = server.check(
        {"path": "/data", "role": "models", "writable_by": ME, **given}, before_provisioning=before
    )
    assert bad(findings) == {"mount.present": severity} and len(findings) == 1
    assert in_why in findings[0].why and findings[0].found == "not mounted"


def test_a_path_that_is_no_mount_point(server: Server) -> None:
    server.mount("/", "8:99")
    server.mount("/mnt/sda", "7:4")
    (server.root / "mnt/sda/logs/llm").mkdir(parents=True)
    (server.root / "logs").symlink_to("mnt/sda/logs")
    wanted = {"device_class": "rotational", "mount_point": False}
    assert bad(server.check({"path": "/mnt/sda/logs/llm", **wanted})) == {}
    assert bad(server.check({"path": "/logs/llm", **wanted})) == {}
    assert bad(server.check({"path": "/nowhere", **wanted})) == {"mount.present": "blocking"}


def test_a_dead_mount_is_told_and_hangs_nothing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def state(path: str) -> Dict[str, Any]:
        if path.endswith("nvme0n1"):
            time.sleep(600)
        return space()

    server.mount("/mnt/nvme0n1", "0:50", "nfs4", source="filer:/export")
    server.mount("/mnt/sda", "7:4")
    hang(monkeypatch, 1)
    findings = server.check({"path": "/mnt/nvme0n1", "writable_by": ME}, {"path": "/mnt/sda"}, state=state)
    assert bad(findings) == {"mount.hanging": "blocking"}
    hanging = named(findings, "mount.hanging")
    assert hanging.unknown and "filer:/export" in hanging.found and "umount -l /mnt/nvme0n1" in hanging.remedy


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.ENOTCONN])
def test_a_mount_that_answers_with_an_error(server: Server, number: int) -> None:
    def state(_path: str) -> Dict[str, Any]:
        raise OSError(number, os.strerror(number))

    server.mount("/data", "0:50", "nfs4")
    findings = server.check({"path": "/data"}, state=state)
    assert bad(findings) == {"mount.broken": "blocking"}
    assert findings[0].found == os.strerror(number)


def test_a_mount_that_may_not_be_looked_at_is_unknown(server: Server) -> None:
    def state(_path: str) -> Dict[str, Any]:
        raise OSError(errno.EACCES, "denied")

    server.mount("/data", "7:3")
    findings = server.check({"path": "/data", "device_class": "nvme", "owner": ME}, state=state)
    assert bad(findings) == {"mount.free": "deviation", "mount.owner": "deviation"}
    assert all(finding.unknown for finding in findings if finding.severity != "ok")
    assert named(findings, "mount.class").severity == "ok"


@pytest.mark.parametrize(
    "figures, given, expected",
    [
        ({"available_percent": 0.5}, {}, {"mount.free": "blocking"}),
        ({"available_percent": 9.0}, {"min_free_percent": 10.0}, {"mount.free": "blocking"}),
        ({"available_mib": 1023}, {"min_free_gib": 1.0}, {"mount.free": "blocking"}),
        ({"available_mib": 1024}, {"min_free_gib": 1.0}, {}),
        ({"inodes_free_percent": 0.0}, {}, {"mount.inodes": "blocking"}),
        ({"inodes_free_percent": 4.0}, {"min_free_inodes_percent": 5.0}, {"mount.inodes": "blocking"}),
        ({"inodes_free_percent": None}, {}, {}),
        ({"available_percent": None, "available_mib": 0}, {}, {}),
    ],
)
def test_space(
    server: Server, figures: Dict[str, Any], given: Dict[str, Any], expected: Dict[str, str]
) -> None:
    server.mount("/data", "7:3")
    assert bad(server.check({"path": "/data", **given}, state=lambda _path: space(**figures))) == expected


@pytest.mark.parametrize("least, severity", [(3726.0, "ok"), (3790.0, "ok"), (3900.0, "blocking")])
def test_size(server: Server, least: float, severity: str) -> None:
    server.mount("/data", "7:3")
    assert named(server.check({"path": "/data", "min_size_gib": least}), "mount.size").severity == severity


def test_file_system(server: Server) -> None:
    server.mount("/data", "7:3", "btrfs")
    assert bad(server.check({"path": "/data", "fstype": ["ext4", "xfs"]})) == {"mount.fstype": "deviation"}
    server.mount("/far", "0:60", "nfs4")
    assert bad(server.check({"path": "/far", "fstype": ["ext4"]})) == {"mount.fstype": "blocking"}


def test_read_only_is_told_once_and_with_its_cause(server: Server) -> None:
    server.mount("/data", "7:3", options="ro,relatime")
    findings = server.check({"path": "/data", "writable_by": ME})
    assert bad(findings) == {"mount.read_only": "blocking"}
    assert "I/O error" in named(findings, "mount.read_only").why
    server.fstab("UUID=uuid-nvme /data ext4 ro,noatime")
    assert "fstab mounts it" in named(server.check({"path": "/data"}), "mount.read_only").why
    assert bad(server.check({"path": "/data", "options": ["ro"]})) == {}


def test_options(server: Server) -> None:
    server.mount("/data", "7:3", options="rw,relatime")
    server.fstab("UUID=uuid-nvme /data ext4 nofail")
    assert bad(server.check({"path": "/data", "options": ["defaults", "rw", "relatime", "nofail"]})) == {}
    findings = server.check({"path": "/data", "options": ["noatime", "nodev"]})
    assert bad(findings) == {"mount.options": "deviation"}
    assert "noatime, nodev" in named(findings, "mount.options").why


@pytest.mark.parametrize(
    "line, severity, in_text",
    [
        ("UUID=uuid-nvme /data ext4", "ok", ""),
        ("/dev/nvme0n1 /data ext4", "deviation", "not stable"),
        ("UUID=uuid-archive /data ext4", "deviation", "another device"),
        ("UUID=gone /data ext4 nofail", "deviation", "not there"),
        ("UUID=gone /data ext4", "blocking", "emergency mode"),
        ("# UUID=uuid-nvme /data ext4", "deviation", "by hand"),
    ],
)
def test_entry_in_fstab(server: Server, line: str, severity: str, in_text: str) -> None:
    server.mount("/data", "7:3")
    server.fstab(line)
    finding = named(server.check({"path": "/data", "in_fstab": True}), "mount.fstab")
    assert finding.severity == severity
    assert in_text in finding.why


def test_a_mount_unit_stands_for_an_entry(server: Server) -> None:
    server.mount("/mnt/my-data", "7:3")
    server.write("/etc/systemd/system/mnt-my\\x2ddata.mount", "[Mount]\nWhat=/dev/disk/by-uuid/uuid-nvme\n")
    assert bad(server.check({"path": "/mnt/my-data", "in_fstab": True})) == {}


def test_owner(server: Server) -> None:
    server.mount("/data", "7:3")
    assert bad(server.check({"path": "/data", "owner": ME})) == {}
    findings = server.check({"path": "/data", "owner": "nobody", "group": "nobody-such"})
    assert bad(findings) == {"mount.owner": "deviation"}
    assert "does not exist yet" in named(findings, "mount.owner").why


def test_writable_by_the_user_of_the_check(server: Server) -> None:
    server.mount("/data", "7:3")
    assert bad(server.check({"path": "/data", "writable_by": ME})) == {}
    assert os.listdir(server.root / "data") == []


def test_writable_by_a_user_that_does_not_exist_yet(server: Server) -> None:
    server.mount("/data", "7:3")
    finding = named(server.check({"path": "/data", "writable_by": "no-such-user"}), "mount.writable")
    assert finding.unknown and finding.severity == "deviation" and "no user" in finding.why


@needs_root
@pytest.mark.parametrize("before, severity", [(False, "blocking"), (True, "deviation")])
def test_a_wrong_owner_that_keeps_the_user_out_is_told_once(
    open_folder: str, before: bool, severity: str
) -> None:
    root = pathlib.Path(open_folder) / "tree"
    root.mkdir()
    server = Server(root)
    server.mount("/data", "7:3")
    findings = server.check(
        {"path": "/data", "owner": "nobody", "writable_by": "nobody"}, before_provisioning=before
    )
    assert bad(findings) == {"mount.owner": severity}
    findings = server.check({"path": "/data", "writable_by": "nobody"}, before_provisioning=before)
    assert bad(findings) == {"mount.writable": severity}
    os.chown(root / "data", pwd.getpwnam("nobody").pw_uid, -1)
    assert bad(server.check({"path": "/data", "owner": "nobody", "writable_by": "nobody"})) == {}


@needs_root
def test_another_owner_that_lets_the_user_write(open_folder: str) -> None:
    root = pathlib.Path(open_folder) / "tree"
    root.mkdir()
    server = Server(root)
    server.mount("/data", "7:3")
    os.chmod(root / "data", 0o777)
    findings = server.check({"path": "/data", "owner": "nobody", "writable_by": "nobody"})
    assert bad(findings) == {"mount.owner": "deviation"}
    assert "can write" in named(findings, "mount.owner").why


def test_others_cannot_be_tried_without_root(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.mount("/data", "7:3")
    monkeypatch.setattr(probe, "can_become", lambda _who: False)
    finding = named(server.check({"path": "/data", "writable_by": ME}), "mount.writable")
    assert finding.unknown and "as root" in finding.remedy


def test_trying_to_write_without_nameless_files(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def without_tmpfile(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "not supported")
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", without_tmpfile)
    assert sight.try_write(str(tmp_path))
    assert os.listdir(tmp_path) == []


def test_no_space_left_is_told_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_folder: str) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sight, "try_write", full)
    server.mount("/data", "7:3")
    wanted = {"path": "/data", "writable_by": ME}
    findings = server.check(wanted, state=lambda _path: space(available_percent=0.0))
    assert bad(findings) == {"mount.free": "blocking"}
    assert bad(server.check(wanted)) == {"mount.writable": "blocking"}


def test_what_each_mount_looks_like(server: Server) -> None:
    server.mount("/mnt/sda", "7:4")
    server.fstab("UUID=uuid-archive /mnt/sda ext4 nofail")
    _findings, mounts = mount_check.check([want(path="/mnt/sda/", role="logs")], str(server.root), 5.0)
    assert mounts[0]["state"] == "mounted" and mounts[0]["device_class"] == "rotational"
    assert mounts[0]["fstab"]["spec"] == "UUID=uuid-archive" and mounts[0]["owner"] == ME
    assert mounts[0]["available_mib"] is not None

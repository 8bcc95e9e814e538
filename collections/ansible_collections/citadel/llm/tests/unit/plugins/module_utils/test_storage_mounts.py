# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.citadel.llm.plugins.module_utils import _storage_mounts as backend
from ansible_collections.citadel.llm.plugins.module_utils._filesystem import Content, FilesystemError, Host
from ansible_collections.citadel.llm.plugins.module_utils._mountinfo import Mount
from ansible_collections.citadel.llm.plugins.module_utils._storage_mounts import Wanted

FOREIGN = "UUID=11-22 / ext4 errors=remount-ro 0 1\n"
NOFAIL = ("defaults", "nofail")


class Machine(Host):
    """A host in memory: what each device carries, what is mounted, and what was done, in order."""

    def __init__(self, **devices: Content) -> None:
        self.devices = {f"/dev/{name}": content for name, content in devices.items()}
        self.table: list[Mount] = []
        self.done: list[str] = []
        self.tools = True

    def find(self, spec: str) -> str | None:
        for device, content in self.devices.items():
            if spec in (device, f"UUID={content.uuid}"):
                return device
        return None

    def number(self, device: str) -> str:
        return f"8:{sorted(self.devices).index(device)}"

    def content(self, device: str) -> Content:
        return self.devices[device]

    def can_make(self, fstype: str) -> bool:
        return self.tools

    def make(self, device: str, fstype: str, label: str | None) -> None:
        assert self.devices[device].empty
        self.done.append(f"make {fstype} {device} {label}")
        self.devices[device] = Content(fstype, f"new-{device[5:]}", fstype)

    def mounts(self) -> list[Mount]:
        return list(self.table)

    def mount(self, device: str, path: str, fstype: str, options: Sequence[str]) -> None:
        self.done.append(f"mount {device} {path}")
        self.show(device, path, fstype, *({"ro", "noatime", "nosuid"} & set(options)))

    def show(self, device: str, path: str, fstype: str, *words: str) -> None:
        words = words if "noatime" in words else ("relatime", *words)
        words = words if "ro" in words else ("rw", *words)
        self.table.append(Mount(path, device, fstype, "/", self.number(device), words, (words[0],)))

    def remount(self, device: str, path: str, options: Sequence[str]) -> None:
        self.done.append(f"remount {path} {','.join(options)}")
        fstype = self.devices[device].fstype
        self.table = [mount for mount in self.table if mount.path != path]
        self.show(device, path, fstype, *({"ro", "noatime", "nosuid"} & set(options)))

    def unmount(self, path: str) -> None:
        self.done.append(f"unmount {path}")
        mount = next(mount for mount in reversed(self.table) if mount.path == path)
        self.table.remove(mount)

    def reload(self) -> None:
        self.done.append("reload")


@pytest.fixture
def fstab(tmp_path: Path) -> Path:
    path = tmp_path / "fstab"
    path.write_text(FOREIGN)
    path.chmod(0o640)
    return path


def wanted(tmp_path: Path, **settings: Any) -> Wanted:
    values: dict[str, Any] = {
        "path": f"{tmp_path}/data",
        "state": "mounted",
        "device": "/dev/sdb",
        "fstype": "xfs",
        "options": NOFAIL,
        **settings,
    }
    return Wanted(**values)


def bring(wish: Sequence[Wanted], fstab: Path, host: Machine) -> list[str]:
    """Plan in check mode, plan and apply, and see that nothing is left to do. Returns what was done."""
    host.done = []
    predicted = backend.plan(wish, backend.read_fstab(str(fstab)), check=True, host=host)
    plan = backend.plan(wish, backend.read_fstab(str(fstab)), check=False, host=host)
    assert predicted.changed_paths() == plan.changed_paths()
    assert host.done == []
    if plan.changed_paths():
        backend.apply(plan, str(fstab), host)
    assert backend.plan(wish, backend.read_fstab(str(fstab)), check=False, host=host).changed_paths() == []
    return host.done


def plan(wish: Wanted, fstab: Path, host: Host, *, check: bool = False) -> backend.Plan:
    return backend.plan([wish], fstab.read_text(), check=check, host=host)


def test_makes_writes_and_mounts(tmp_path: Path, fstab: Path) -> None:
    host = Machine(sdb=Content())
    assert bring([wanted(tmp_path, format=True, label="models")], fstab, host) == [
        "make xfs /dev/sdb models",
        "reload",
        f"mount /dev/sdb {tmp_path}/data",
    ]
    assert fstab.read_text() == FOREIGN + f"UUID=new-sdb {tmp_path}/data xfs defaults,nofail 0 0\n"
    assert fstab.stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "data").is_dir()


def test_existing_file_system_is_never_made_again(tmp_path: Path, fstab: Path) -> None:
    host = Machine(sdb=Content("xfs", "3e6b", "xfs"))
    assert bring([wanted(tmp_path, format=True)], fstab, host) == [
        "reload",
        f"mount /dev/sdb {tmp_path}/data",
    ]
    assert "UUID=3e6b" in fstab.read_text()


def test_parents_are_mounted_first_and_unmounted_last(tmp_path: Path, fstab: Path) -> None:
    host = Machine(sdb=Content("xfs", "b", "xfs"), sdc=Content("ext4", "c", "ext4"))
    inner = wanted(tmp_path, path=f"{tmp_path}/data/in", device="UUID=c", fstype="ext4")
    done = bring([inner, wanted(tmp_path)], fstab, host)
    assert done == ["reload", f"mount /dev/sdb {tmp_path}/data", f"mount /dev/sdc {tmp_path}/data/in"]
    assert fstab.read_text().endswith(f"UUID=c {tmp_path}/data/in ext4 defaults,nofail 0 2\n")
    gone = [Wanted(f"{tmp_path}/data", "absent"), Wanted(f"{tmp_path}/data/in", "absent")]
    assert bring(gone, fstab, host) == [f"unmount {tmp_path}/data/in", f"unmount {tmp_path}/data", "reload"]
    assert fstab.read_text() == FOREIGN


def test_unmounted_leaves_fstab(tmp_path: Path, fstab: Path) -> None:
    host = Machine(sdb=Content("xfs", "b", "xfs"))
    bring([wanted(tmp_path)], fstab, host)
    text = fstab.read_text()
    assert bring([wanted(tmp_path, state="unmounted")], fstab, host) == [f"unmount {tmp_path}/data"]
    assert fstab.read_text() == text


def test_options_are_changed_by_a_remount(tmp_path: Path, fstab: Path) -> None:
    host = Machine(sdb=Content("xfs", "b", "xfs"))
    bring([wanted(tmp_path)], fstab, host)
    assert bring([wanted(tmp_path, options=("noatime", "ro"))], fstab, host) == [
        f"remount {tmp_path}/data ro,suid,dev,exec,async,diratime,noatime",
        "reload",
    ]
    assert f"UUID=b {tmp_path}/data xfs noatime,ro 0 0\n" in fstab.read_text()
    assert bring([wanted(tmp_path, options=("noatime", "ro", "nofail"))], fstab, host) == ["reload"]
    done = bring([wanted(tmp_path, options=("discard",))], fstab, host)
    assert done[0] == f"remount {tmp_path}/data rw,suid,dev,exec,async,diratime,relatime,discard"


def test_read_only_after_an_error_is_remounted(tmp_path: Path, fstab: Path) -> None:
    host = Machine(sdb=Content("xfs", "b", "xfs"))
    bring([wanted(tmp_path)], fstab, host)
    host.remount("/dev/sdb", f"{tmp_path}/data", ["ro"])
    assert [line.split()[0] for line in bring([wanted(tmp_path)], fstab, host)] == ["remount"]


def test_interrupted_between_fstab_and_mount(tmp_path: Path, fstab: Path) -> None:
    host = Machine(sdb=Content("xfs", "b", "xfs"))
    bring([wanted(tmp_path)], fstab, host)
    host.table = []
    assert bring([wanted(tmp_path)], fstab, host) == [f"mount /dev/sdb {tmp_path}/data"]


def test_device_path_in_fstab_becomes_uuid(tmp_path: Path, fstab: Path) -> None:
    host = Machine(sdb=Content("xfs", "b", "xfs"))
    fstab.write_text(f"/dev/sdb {tmp_path}/data xfs defaults,nofail 0 0\n{FOREIGN}")
    bring([wanted(tmp_path)], fstab, host)
    assert fstab.read_text() == f"UUID=b {tmp_path}/data xfs defaults,nofail 0 0\n{FOREIGN}"


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        (Content(), {}, "/dev/sdb is empty: set format: true"),
        (Content("ext4", "b", "ext4"), {"format": True}, "carries ext4, not xfs: .* 'wipefs -a /dev/sdb'"),
        (Content("", "", "LVM2_member"), {"format": True}, "carries LVM2_member, not xfs"),
        (Content("xfs", "b", "xfs"), {"device": "UUID=other"}, "the device UUID=other is not on this host"),
    ],
)
def test_refuses_devices(
    tmp_path: Path, fstab: Path, content: Content, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(FilesystemError, match=message):
        plan(wanted(tmp_path, **settings), fstab, Machine(sdb=content))


def test_refuses_a_device_that_is_mounted_elsewhere(tmp_path: Path, fstab: Path) -> None:
    host = Machine(sdb=Content("xfs", "b", "xfs"), sdc=Content("xfs", "c", "xfs"))
    host.show("/dev/sdb", "/elsewhere", "xfs")
    with pytest.raises(FilesystemError, match="/dev/sdb is mounted at /elsewhere"):
        plan(wanted(tmp_path), fstab, host)
    host.table = []
    host.show("/dev/sdc", f"{tmp_path}/data", "xfs")
    with pytest.raises(FilesystemError, match="/dev/sdc is mounted there, not /dev/sdb"):
        plan(wanted(tmp_path), fstab, host)


def test_refuses_a_device_that_fstab_mounts_elsewhere(tmp_path: Path, fstab: Path) -> None:
    host = Machine(sdb=Content("xfs", "b", "xfs"))
    fstab.write_text("UUID=b /elsewhere xfs defaults 0 0\n")
    with pytest.raises(FilesystemError, match="give /elsewhere with state: absent"):
        plan(wanted(tmp_path), fstab, host)
    host.show("/dev/sdb", "/elsewhere", "xfs")
    moved = [wanted(tmp_path), Wanted("/elsewhere", "absent")]
    assert bring(moved, fstab, host) == ["unmount /elsewhere", "reload", f"mount /dev/sdb {tmp_path}/data"]
    assert fstab.read_text() == f"UUID=b {tmp_path}/data xfs defaults,nofail 0 0\n"


def test_bare_host(tmp_path: Path, fstab: Path) -> None:
    predicted = plan(wanted(tmp_path, format=True), fstab, Machine(), check=True)
    assert predicted.changed_paths() == [f"{tmp_path}/data"]
    assert f"UUID=(made-with-the-file-system) {tmp_path}/data" in predicted.new_fstab()
    host = Machine(sdb=Content())
    host.tools = False
    assert plan(wanted(tmp_path, format=True), fstab, host, check=True).mountings[0].make
    with pytest.raises(FilesystemError, match=r"there is no mkfs\.xfs: install xfsprogs"):
        plan(wanted(tmp_path, format=True), fstab, host)


def test_mount_point(tmp_path: Path, fstab: Path) -> None:
    host = Machine(sdb=Content("xfs", "b", "xfs"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").touch()
    assert plan(wanted(tmp_path), fstab, host).warnings == [
        f"{tmp_path}/data holds files, which the mount hides"
    ]
    with pytest.raises(FilesystemError, match="is not a directory: move it away"):
        plan(wanted(tmp_path, path=f"{tmp_path}/data/file"), fstab, host)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"device": "sdb"}, "neither below /dev/"),
        ({"device": "UUID="}, "neither below /dev/"),
        ({"device": "//server/share"}, "neither below /dev/"),
        ({"path": "/"}, "/ is mounted by the system"),
        ({"options": ("a,b",)}, "'a,b' is not one option"),
        ({"options": ("",)}, "'' is not one option"),
        ({"fstype": "ntfs", "format": True}, "ntfs cannot be made"),
        ({"label": "longer than it may be", "format": True}, "too long for xfs: 12 bytes at most"),
    ],
)
def test_refuses_bad_entries(tmp_path: Path, fstab: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(FilesystemError, match=message):
        plan(wanted(tmp_path, **settings), fstab, Machine(), check=True)


def test_refuses_the_same_twice(tmp_path: Path) -> None:
    for settings, message in (
        ({}, "the path .*/data is given"),
        ({"path": "/x"}, "the device /dev/sdb is given"),
    ):
        with pytest.raises(FilesystemError, match=message):
            backend.check_wanted([wanted(tmp_path), wanted(tmp_path, **settings)])


def test_fstab_behind_a_link_and_with_odd_bytes(tmp_path: Path, fstab: Path) -> None:
    fstab.write_bytes(b"# caf\xe9\r\n")
    (tmp_path / "link").symlink_to(fstab)
    text = backend.read_fstab(f"{tmp_path}/link")
    backend.write_fstab(f"{tmp_path}/link", text + "x\n")
    assert fstab.read_bytes() == b"# caf\xe9\r\nx\n"
    assert (tmp_path / "link").is_symlink()
    assert backend.read_fstab(f"{tmp_path}/absent") == ""

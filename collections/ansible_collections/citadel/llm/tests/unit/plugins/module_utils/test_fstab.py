# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.citadel.llm.plugins.module_utils import _fstab
from ansible_collections.citadel.llm.plugins.module_utils._fstab import Entry
from ansible_collections.citadel.llm.plugins.module_utils._mountinfo import Mount

FOREIGN = """# /etc/fstab\t by hand
UUID="11-22"   /     ext4  errors=remount-ro 0   1

/dev/sda2\tnone swap sw 0 0
/dev/sdb  /old/   xfs
//server/share /mnt/a\\040b cifs user,password=x 0 0"""
DATA = Entry("UUID=3e6b", "/data", "xfs", ("noatime", "nofail"), 0)


def test_parse() -> None:
    root, old, share = _fstab.entries(FOREIGN)
    assert root == Entry("UUID=11-22", "/", "ext4", ("errors=remount-ro",), 1)
    assert old == Entry("/dev/sdb", "/old", "xfs", ("defaults",), 0)
    assert share.path == "/mnt/a b"


def test_line() -> None:
    assert DATA.line() == "UUID=3e6b /data xfs noatime,nofail 0 0\n"
    assert Entry("LABEL=a b", "/x y", "ext4", (), 2).line() == "LABEL=a\\040b /x\\040y ext4 defaults 0 2\n"


def test_put_appends_and_keeps_foreign_lines() -> None:
    assert _fstab.put(FOREIGN, DATA) == FOREIGN + "\n" + DATA.line()
    assert _fstab.put("", DATA) == DATA.line()


def test_put_replaces_in_place_and_removes_further_ones() -> None:
    text = "a\n/dev/sdb /data/ ext4 defaults 0 2\nb\n/dev/sdc /data xfs\nc"
    assert _fstab.put(text, DATA) == f"a\n{DATA.line()}b\nc"


def test_put_keeps_a_line_that_means_the_same() -> None:
    text = 'UUID="3e6b"\t/data  xfs  nofail,defaults,noatime\n'
    assert _fstab.put(text, DATA) == text
    assert _fstab.put(text.replace("nofail,", ""), DATA) == DATA.line()


def test_drop() -> None:
    text = _fstab.put(FOREIGN + "\n", DATA)
    assert _fstab.drop(text, "/data") == FOREIGN + "\n"
    assert _fstab.drop(FOREIGN, "/data") == FOREIGN


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), {"rw", "suid", "dev", "exec", "async", "diratime", "relatime"}),
        (("ro", "noatime"), {"ro", "suid", "dev", "exec", "async", "diratime", "noatime"}),
        (("ro", "rw"), {"rw", "suid", "dev", "exec", "async", "diratime", "relatime"}),
        (("user", "exec"), {"rw", "nosuid", "nodev", "exec", "async", "diratime", "relatime"}),
    ],
)
def test_generic_options(options: tuple[str, ...], expected: set[str]) -> None:
    assert set(_fstab.generic_options(options)) == expected


@pytest.mark.parametrize(
    ("options", "super_options", "wanted"),
    [
        (("rw", "relatime"), ("rw", "errors=remount-ro"), ()),
        (("rw", "nosuid", "noatime"), ("rw",), ("noatime", "nosuid")),
        (("rw", "relatime"), ("ro",), ("ro",)),
        (("ro", "relatime"), ("rw",), ("ro",)),
        (("rw",), ("rw", "sync"), ("strictatime", "sync")),
    ],
)
def test_live_options(
    options: tuple[str, ...], super_options: tuple[str, ...], wanted: tuple[str, ...]
) -> None:
    mount = Mount("/data", "/dev/sdb", "xfs", "/", "8:16", options, super_options)
    assert _fstab.live_options(mount) == _fstab.generic_options(wanted)


def test_specific_options() -> None:
    options = (
        "defaults",
        "nofail",
        "noatime",
        "x-systemd.device-timeout=30s",
        "discard",
        "data=ordered",
        "user",
    )
    assert _fstab.specific_options(options) == ("discard", "data=ordered")

# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.citadel.llm.plugins.module_utils import _mountinfo

TEXT = r"""22 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw,errors=remount-ro
35 22 8:16 /sub /mnt/a\040b ro,nosuid,noatime shared:5 master:2 - xfs /dev/sdb rw,attr2
36 22 0:40 / /run rw - tmpfs tmp\011fs rw
"""


def test_parse() -> None:
    root, data, run = _mountinfo.parse_mountinfo(TEXT)
    assert (root.path, root.source, root.fstype, root.device) == ("/", "/dev/nvme0n1p2", "ext4", "259:2")
    assert root.super_options == ("rw", "errors=remount-ro")
    assert (data.path, data.root, data.options) == ("/mnt/a b", "/sub", ("ro", "nosuid", "noatime"))
    assert (run.source, run.fstype) == ("tmp\tfs", "tmpfs")


def test_reads_this_process() -> None:
    assert "/proc" in [mount.path for mount in _mountinfo.read_mountinfo()]


def test_escape() -> None:
    assert _mountinfo.escape("/a b\\c#") == r"/a\040b\134c\043"
    assert _mountinfo.unescape(_mountinfo.escape("/a b\\\t\n#")) == "/a b\\\t\n#"

# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ansible_collections.citadel.llm.plugins.module_utils import _filesystem
from ansible_collections.citadel.llm.plugins.module_utils._filesystem import Content, FilesystemError

pytestmark = pytest.mark.skipif(
    not all(shutil.which(tool) for tool in ("blkid", "wipefs", "mkfs.ext4", "mkswap")),
    reason="the tools for file systems are not installed",
)


@pytest.fixture
def disk(tmp_path: Path) -> str:
    """An empty image, which blkid, wipefs and mkfs treat as a device."""
    path = tmp_path / "disk"
    path.touch()
    os.truncate(path, 16 << 20)
    return str(path)


def test_makes_a_file_system_on_an_empty_device_only(disk: str) -> None:
    assert _filesystem.probe(disk) == Content()
    _filesystem.make(disk, "ext4", "models")
    content = _filesystem.probe(disk)
    assert (content.fstype, content.signatures, content.empty) == ("ext4", "ext4", False)
    assert len(content.uuid) == 36
    label = subprocess.run(
        ["blkid", "-p", "-o", "value", "-s", "LABEL", disk], capture_output=True, check=True
    )
    assert label.stdout == b"models\n"
    with pytest.raises(FilesystemError, match="is not empty any more"):
        _filesystem.make(disk, "ext4", None)
    assert _filesystem.probe(disk) == content


def test_swap_counts_as_content_and_not_as_a_file_system(disk: str) -> None:
    subprocess.run(["mkswap", disk], check=True, capture_output=True)
    content = _filesystem.probe(disk)
    assert (content.fstype, content.signatures, content.empty) == ("", "swap", False)


def test_partition_table_counts_as_content(disk: str) -> None:
    with open(disk, "r+b") as stream:  # one Linux partition in an MBR
        stream.seek(446)
        stream.write(
            b"\x00\x00\x02\x00\x83\x00\x01\x00" + (2048).to_bytes(4, "little") + (4096).to_bytes(4, "little")
        )
        stream.seek(510)
        stream.write(b"\x55\xaa")
    content = _filesystem.probe(disk)
    assert (content.fstype, content.signatures, content.empty) == ("", "dos", False)


def test_what_cannot_be_read_is_not_empty(tmp_path: Path) -> None:
    with pytest.raises(FilesystemError, match="cannot be read: No such file"):
        _filesystem.probe(f"{tmp_path}/absent")


def test_failing_tool_speaks(disk: str) -> None:
    os.truncate(disk, 512)
    with pytest.raises(FilesystemError, match=r"(?s)mkfs\.ext4 .* failed: .+"):
        _filesystem.make(disk, "ext4", None)


def test_missing_tool_is_named() -> None:
    with pytest.raises(FilesystemError, match="'no-such-tool' is not on this host"):
        _filesystem.run(["no-such-tool"])


def test_find(tmp_path: Path) -> None:
    host = _filesystem.Host()
    assert host.find("/dev/no-such-disk") is None
    assert host.find("UUID=00000000-0000-4000-8000-000000000000") is None
    with pytest.raises(FilesystemError, match="is not a block device"):
        host.find(str(tmp_path))

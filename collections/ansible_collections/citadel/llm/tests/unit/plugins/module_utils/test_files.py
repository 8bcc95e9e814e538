# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import os
import pwd
from pathlib import Path

import pytest

from ansible_collections.citadel.llm.plugins.module_utils import _files


@pytest.mark.parametrize(
    ("text", "mode"), [("0750", 0o750), ("750", 0o750), ("2770", 0o2770), ("0o644", 0o644)]
)
def test_parse_mode(text: str, mode: int) -> None:
    assert _files.parse_mode(text) == mode


@pytest.mark.parametrize("text", ["", "7", "0788", "u=rwx", "488\n", "-750", "07500", 504, None])
def test_parse_mode_refuses(text: object) -> None:
    with pytest.raises(ValueError, match="octal"):
        _files.parse_mode(text)


def test_format_mode() -> None:
    assert _files.format_mode(0o100640) == "0640"


def test_write_atomic_replaces(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    inode = path.stat().st_ino
    _files.write_atomic(str(path), b"new", mode=0o640)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o7777 == 0o640
    assert path.stat().st_ino != inode
    assert os.listdir(tmp_path) == ["file"]


def test_write_atomic_ignores_umask_and_keeps_own_ids(tmp_path: Path) -> None:
    path = tmp_path / "file"
    old = os.umask(0o077)
    try:
        _files.write_atomic(str(path), b"x", mode=0o664, uid=os.getuid(), gid=os.getgid())
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o7777 == 0o664
    assert (path.stat().st_uid, path.stat().st_gid) == (os.getuid(), os.getgid())


def test_write_atomic_replaces_link_not_its_target(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("kept")
    link = tmp_path / "link"
    link.symlink_to(target)
    _files.write_atomic(str(link), b"new", mode=0o600)
    assert target.read_text() == "kept"
    assert not link.is_symlink()


def test_write_atomic_leaves_nothing_after_failure(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    with pytest.raises(IsADirectoryError):
        _files.write_atomic(str(tmp_path / "directory"), b"x", mode=0o600)
    assert os.listdir(tmp_path) == ["directory"]


def test_write_atomic_in_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _files.write_atomic("file", b"x", mode=0o600)
    assert (tmp_path / "file").read_bytes() == b"x"


def test_resolve() -> None:
    name = pwd.getpwuid(0).pw_name
    assert _files.resolve_owner(name) == 0
    assert _files.resolve_owner("4711") == 4711
    assert _files.resolve_owner(None) == -1
    assert _files.resolve_group("0") == 0
    assert _files.resolve_group(None) == -1


@pytest.mark.parametrize("name", ["no-such-name", "-1", "4294967295", "٣"])
def test_resolve_refuses(name: str) -> None:
    with pytest.raises(LookupError, match=name):
        _files.resolve_owner(name)
    with pytest.raises(LookupError, match=name):
        _files.resolve_group(name)


def test_names() -> None:
    assert _files.owner_name(0) == "root"
    assert _files.group_name(0) == "root"
    assert _files.owner_name(3999999999) == "3999999999"
    assert _files.group_name(3999999999) == "3999999999"


def test_replace_link(tmp_path: Path) -> None:
    link = str(tmp_path / "current")
    _files.replace_link(link, "one")
    _files.replace_link(link, "two")
    assert os.readlink(link) == "two"
    assert os.listdir(tmp_path) == ["current"]


def test_replace_link_refuses_directory(tmp_path: Path) -> None:
    (tmp_path / "current").mkdir()
    with pytest.raises(IsADirectoryError):
        _files.replace_link(str(tmp_path / "current"), "one")
    assert os.listdir(tmp_path) == ["current"]


def test_sha256_file(tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    (tmp_path / "file").write_bytes(data)
    assert _files.sha256_file(tmp_path / "file") == hashlib.sha256(data).hexdigest()


def test_make_directory(tmp_path: Path) -> None:
    path = tmp_path / "new"
    _files.make_directory(str(path), mode=0o2750)
    assert path.stat().st_mode & 0o7777 == 0o2750
    with pytest.raises(FileExistsError):
        _files.make_directory(str(path), mode=0o700)
    assert path.stat().st_mode & 0o7777 == 0o2750
    assert os.listdir(tmp_path) == ["new"]


def test_set_access_does_not_follow_links(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        _files.set_access(str(tmp_path / "link"), mode=0o777)
    assert target.stat().st_mode & 0o777 == 0o700

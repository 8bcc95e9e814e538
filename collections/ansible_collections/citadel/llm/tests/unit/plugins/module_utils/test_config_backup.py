# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import hashlib
import json
import os
from pathlib import Path

import pytest

from ansible_collections.citadel.llm.plugins.module_utils import _config_backup as backend
from ansible_collections.citadel.llm.plugins.module_utils import _files

NOW = datetime.datetime(2026, 1, 31, 23, 59, 58, tzinfo=datetime.timezone.utc)


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    directory = tmp_path / "config"
    (directory / "models").mkdir(parents=True)
    directory.chmod(0o750)
    (directory / "a.yaml").write_text("1\n")
    (directory / "a.yaml").chmod(0o640)
    (directory / "models" / "b").write_text("2\n")
    (directory / "models" / "b").chmod(0o600)
    (directory / ".env").write_text("")
    (directory / ".env").chmod(0o644)
    (directory / "link").symlink_to("/etc/passwd")
    (directory / ".a.yaml.k3_x90ab").write_text("an unfinished write")
    return directory


def save(dest: Path, keep: int = 10, now: datetime.datetime = NOW) -> str:
    path = backend.save(str(dest), f"{dest.parent}/backups", keep=keep, now=now)
    assert path is not None
    return path


def test_save(dest: Path) -> None:
    path = Path(save(dest))
    assert path == dest.parent / "backups" / "20260131T235958Z"
    assert json.loads((path / "manifest.json").read_text()) == {
        "created": "2026-01-31T23:59:58Z",
        "dest": str(dest),
        "files": {
            ".env": {"sha256": hashlib.sha256(b"").hexdigest(), "mode": "0644"},
            "a.yaml": {"sha256": hashlib.sha256(b"1\n").hexdigest(), "mode": "0640"},
            "models/b": {"sha256": hashlib.sha256(b"2\n").hexdigest(), "mode": "0600"},
        },
    }
    assert backend.regular_files(str(path / "files")) == [".env", "a.yaml", "models/b"]
    modes = {
        name: (path / name).stat().st_mode & 0o7777
        for name in (".", "files", "files/models", "files/models/b")
    }
    assert modes == {".": 0o750, "files": 0o750, "files/models": 0o750, "files/models/b": 0o600}
    assert (path / "manifest.json").stat().st_mode & 0o7777 == 0o640


def test_two_in_one_second(dest: Path) -> None:
    assert [os.path.basename(save(dest)) for _count in range(3)] == [
        "20260131T235958Z",
        "20260131T235958Z-1",
        "20260131T235958Z-2",
    ]


def test_keeps_the_last(dest: Path) -> None:
    for _count in range(12):
        save(dest, keep=20)
    (dest.parent / "backups" / "by-hand").mkdir()
    save(dest, keep=3, now=NOW + datetime.timedelta(seconds=1))
    assert backend.list_backups(f"{dest.parent}/backups") == [
        "20260131T235958Z-10",
        "20260131T235958Z-11",
        "20260131T235959Z",
    ]
    assert (dest.parent / "backups" / "by-hand").is_dir()


def test_nothing_to_save(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("absent", "empty"):
        assert backend.save(f"{tmp_path}/{name}", f"{tmp_path}/backups", keep=1, now=NOW) is None
    assert not (tmp_path / "backups").exists()


def test_failure_leaves_no_half_backup(dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_args: object, **_access: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(_files, "write_atomic", full_disk)
        with pytest.raises(OSError, match="No space"):
            save(dest)
    assert os.listdir(dest.parent / "backups") == []


def test_sweeps_what_an_interrupted_run_left(dest: Path) -> None:
    (dest.parent / "backups" / ".partial-config-tree-1" / "files").mkdir(parents=True)
    save(dest)
    assert os.listdir(dest.parent / "backups") == ["20260131T235958Z"]

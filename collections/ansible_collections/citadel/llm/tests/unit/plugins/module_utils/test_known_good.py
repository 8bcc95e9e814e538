# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from ansible_collections.citadel.llm.plugins.module_utils import _known_good
from ansible_collections.citadel.llm.plugins.module_utils._known_good import (
    KnownGood,
    Record,
    StoredFile,
    changed_at,
    fingerprint,
    put_file,
    put_links,
    read_file,
)


def after(moment: float) -> None:
    """Wait until the kernel's coarse clock gives later ctimes."""
    while time.time() < moment + 0.02:
        time.sleep(0.005)


def test_a_link_counts_itself_and_its_file(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("one")
    link.symlink_to(target)
    linked = changed_at(str(link))
    assert linked is not None
    before = fingerprint(str(link))
    after(linked)
    target.write_text("two")
    assert changed_at(str(link)) == os.stat(target).st_ctime_ns / 1e9
    assert fingerprint(str(link)) != before


def test_a_link_to_a_directory_counts_only_itself(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    link = tmp_path / "link"
    link.symlink_to("one")
    seen, digest = changed_at(str(link)), fingerprint(str(link))
    assert seen is not None
    after(seen)
    (tmp_path / "one/new").write_text("")
    assert (changed_at(str(link)), fingerprint(str(link))) == (seen, digest)
    link.unlink()
    link.symlink_to("two")
    assert changed_at(str(link)) > seen  # type: ignore[operator]
    assert fingerprint(str(link)) != digest


def test_a_directory_counts_with_everything_below(tmp_path: Path) -> None:
    deep = tmp_path / "a/b"
    deep.mkdir(parents=True)
    (deep / "file").write_text("one")
    seen, digest = changed_at(str(tmp_path)), fingerprint(str(tmp_path))
    assert seen is not None
    after(seen)
    (deep / "file").write_text("two")
    assert changed_at(str(tmp_path)) > seen  # type: ignore[operator]
    assert fingerprint(str(tmp_path)) != digest
    digest = fingerprint(str(tmp_path))
    (deep / "file").unlink()
    assert fingerprint(str(tmp_path)) != digest


def test_a_touch_is_a_change_of_time_only(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    seen, digest = changed_at(str(path)), fingerprint(str(path))
    assert seen is not None
    after(seen)
    path.chmod(0o600)
    assert changed_at(str(path)) > seen  # type: ignore[operator]
    assert fingerprint(str(path)) == digest


def test_what_is_missing(tmp_path: Path) -> None:
    path = str(tmp_path / "none")
    assert changed_at(path) is None
    assert fingerprint(path) is None
    assert read_file(path) is None
    assert _known_good.read_link(path) is None
    dangling = tmp_path / "dangling"
    dangling.symlink_to("nowhere")
    assert changed_at(str(dangling)) is not None
    assert fingerprint(str(dangling)) is not None


def test_put_file(tmp_path: Path) -> None:
    path = str(tmp_path / "made/here/file")
    wanted = StoredFile(b"one", 0o640, os.getuid(), os.getgid())
    assert put_file(path, wanted)
    assert read_file(path) == wanted
    assert not put_file(path, wanted)
    assert put_file(path, StoredFile(b"one", 0o600, -1, -1))
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert put_file(path, None)
    assert not put_file(path, None)
    assert not os.path.exists(path)


def test_put_links(tmp_path: Path) -> None:
    link = str(tmp_path / "link")
    os.symlink("one", link)
    assert put_links({link: "one"}) == []
    assert put_links({link: "two"}) == [link]
    assert os.readlink(link) == "two"


def test_records_are_kept_whole_and_private(tmp_path: Path) -> None:
    known = KnownGood(str(tmp_path / "state"))
    record = Record(
        unit="a@b.service",
        time=1.5,
        invocation="abc",
        files={"/x": StoredFile(b"\xff\x00", 0o600, 0, 0)},
        links={"/l": "/t"},
        inputs={"/x": "d"},
        watched=["/x"],
    )
    known.save(record)
    assert known.load("a@b.service") == record
    path = tmp_path / "state/a@b.service/record.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    known.forget("a@b.service")
    known.forget("a@b.service")
    assert known.load("a@b.service") is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 0}', '{"format": 1, "files": {"/x": {}}}'])
def test_a_damaged_record_is_no_record(tmp_path: Path, text: str) -> None:
    (tmp_path / "u").mkdir()
    (tmp_path / "u/record.json").write_text(text)
    assert KnownGood(str(tmp_path)).load("u") is None


def test_holds_compares_contents_and_targets() -> None:
    file = StoredFile(b"one", 0o644, 0, 0)
    record = Record("u", 0, files={"/x": file}, links={"/l": "/t"})
    assert record.holds({"/x": StoredFile(b"one", 0o600, 5, 5), "/gone": None}, {"/l": "/t"})
    assert not record.holds({"/x": StoredFile(b"two", 0o644, 0, 0)}, {"/l": "/t"})
    assert not record.holds({"/x": None}, {"/l": "/t"})
    assert not record.holds({"/x": file}, {"/l": "/other"})
    assert not record.holds({"/x": file, "/new": file}, {"/l": "/t"})

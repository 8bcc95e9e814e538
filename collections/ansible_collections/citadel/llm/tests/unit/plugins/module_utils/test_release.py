# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from pathlib import Path

import pytest

from ansible_collections.citadel.llm.plugins.module_utils._release import ReleaseError, ReleaseStore

A, B, C, D = (letter * 16 for letter in "abcd")


@pytest.fixture
def store(tmp_path: Path) -> ReleaseStore:
    (tmp_path / "envs").mkdir()
    (tmp_path / "proc").mkdir()
    return ReleaseStore(f"{tmp_path}/envs/", f"{tmp_path}/env", f"{tmp_path}/proc")


def add(store: ReleaseStore, *releases: str) -> None:
    for release in releases:
        os.mkdir(store.path(release))
        store.complete(release, {"id": release, "built": f"2026-01-0{'abcd'.index(release[0]) + 1}"})


def test_current(store: ReleaseStore, tmp_path: Path) -> None:
    assert store.current() is None
    add(store, A)
    store.switch(A, 1)
    assert store.current() == A
    os.unlink(store.link)
    os.symlink(f"envs/{A}", store.link)
    assert store.current() == A
    os.unlink(store.link)
    os.symlink("/usr", store.link)
    assert store.current() is None


def test_a_directory_in_the_links_place_is_refused(store: ReleaseStore) -> None:
    os.mkdir(store.link)
    with pytest.raises(ReleaseError, match="is not a link: move it away") as caught:
        store.current()
    assert caught.value.reason == "link"


def test_a_release_without_its_marker_does_not_count(store: ReleaseStore) -> None:
    add(store, A, B)
    store.switch(A, 1)
    store.switch(B, 2)
    os.unlink(f"{store.path(A)}/release.json")
    assert store.manifest(A) is None
    assert store.previous() is None
    Path(f"{store.path(A)}/release.json").write_text('{"id": "half')
    assert store.manifest(A) is None


def test_previous_and_way_back(store: ReleaseStore) -> None:
    add(store, A, B, C)
    for time, release in enumerate((A, B, C)):
        store.switch(release, time)
    assert store.previous() == B
    store.roll_back(B)
    assert (store.current(), store.previous()) == (B, A)
    assert [entry["id"] for entry in store.history()] == [A, B]


def test_a_link_that_somebody_put_back_counts(store: ReleaseStore) -> None:
    add(store, A, B)
    store.switch(A, 1)
    store.switch(B, 2)
    os.unlink(store.link)
    os.symlink(store.path(A), store.link)
    assert store.previous() is None
    store.switch(B, 3)
    assert store.previous() == A


def test_switching_twice_is_noted_once(store: ReleaseStore) -> None:
    add(store, A)
    store.switch(A, 1)
    store.switch(A, 2)
    assert store.history() == [{"id": A, "time": 1}]


def test_a_damaged_history_is_named(store: ReleaseStore) -> None:
    Path(store.root, "history.json").write_text("[]")
    with pytest.raises(ReleaseError, match=r"history\.json cannot be read"):
        store.history()


def test_prune_keeps_current_previous_and_used(store: ReleaseStore, tmp_path: Path) -> None:
    add(store, A, B, C, D)
    for time, release in enumerate((A, B, C, D)):
        store.switch(release, time)
    process = tmp_path / "proc" / "4242"
    process.mkdir()
    (process / "cmdline").write_bytes(b"/usr/bin/python3\0")
    (process / "maps").write_text(f"7f00 r-xp 00 00:00 1 {store.path(A)}/lib/libtorch.so\n")
    assert store.prune(1) == [B]
    assert store.releases() == [A, C, D]
    assert [entry["id"] for entry in store.history()] == [A, C, D]
    (process / "maps").write_text("")
    assert store.prunable(3) == []
    assert store.prune(1) == [A]


def test_prune_keeps_the_most_recent(store: ReleaseStore) -> None:
    add(store, A, B, C, D)
    for time, release in enumerate((C, A, D)):
        store.switch(release, time)
    assert store.prunable(3) == [B]  # never current
    assert store.prunable(3, also=B) == [C]  # what is about to be current counts
    assert store.prunable(2) == [B, C]


def test_prune_removes_remains(store: ReleaseStore) -> None:
    add(store, A)
    store.switch(A, 1)
    for name in (B, f".trash-{C}", f".cache-{C}", ".trial-x1_y", ".cache", "mine"):
        os.makedirs(f"{store.root}/{name}/deep")
    for number, name in enumerate((C, D)):
        Path(store.log_path(name)).write_text("")
        os.utime(store.log_path(name), (number, number))
    assert store.prune(1) == [B]
    assert sorted(os.listdir(store.root)) == sorted([".cache", A, f"{D}.log", "history.json", "mine"])


def test_remove_of_what_is_not_there(store: ReleaseStore) -> None:
    store.remove(A)
    assert store.releases() == []


def test_one_writer_at_a_time(store: ReleaseStore) -> None:
    with open(f"{store.root}/.lock", "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ReleaseError, match="another run") as caught, store.locked(0.3):
            pass
        assert caught.value.reason == "busy"
        fcntl.flock(other, fcntl.LOCK_UN)
        with store.locked(0.3):
            assert store.lock_fd is not None
            with pytest.raises(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert store.lock_fd is None


def test_a_child_keeps_the_lock_when_its_parent_is_gone(store: ReleaseStore) -> None:
    with store.locked(0.3):
        assert store.lock_fd is not None
        child = subprocess.Popen(["/bin/sleep", "30"], pass_fds=(store.lock_fd,))
    with pytest.raises(ReleaseError, match="another run"), store.locked(0.3):
        pass
    child.kill()
    child.wait()
    with store.locked(0.3):
        pass


def test_the_marker_is_readable_json(store: ReleaseStore) -> None:
    add(store, A)
    assert json.loads(Path(store.path(A), "release.json").read_text())["id"] == A

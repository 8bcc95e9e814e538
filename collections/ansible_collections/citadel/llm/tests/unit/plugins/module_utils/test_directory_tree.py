# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from ansible_collections.citadel.llm.plugins.module_utils import _directory_tree as backend
from ansible_collections.citadel.llm.plugins.module_utils._directory_tree import (
    Access,
    Directory,
    Link,
    Removal,
    Tree,
    TreeError,
)

DEFAULT = Access(None, None, 0o755)
ME = pwd.getpwuid(os.getuid()).pw_name
root_only = pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")


def bring(tree: Tree) -> list[str]:
    """Plan in check mode, plan and apply, and see that nothing is left to do."""
    predicted = backend.plan(tree, check=True)
    changes = backend.plan(tree, check=False)
    assert [(c.path, c.before, c.after) for c in predicted] == [(c.path, c.before, c.after) for c in changes]
    backend.apply(changes)
    assert backend.plan(tree, check=True) == []
    return [change.path for change in changes]


@pytest.mark.parametrize(
    ("path", "cleaned"), [("/a//b/", "/a/b"), ("//a", "/a"), ("/a/./b", "/a/b"), ("/", "/")]
)
def test_clean_path(path: str, cleaned: str) -> None:
    assert backend.clean_path(path) == cleaned


@pytest.mark.parametrize("path", ["a/b", "", "/a/../b", "/..", "~nobody-here/x"])
def test_clean_path_refuses(path: str) -> None:
    with pytest.raises(TreeError, match=repr(path)):
        backend.clean_path(path)


def test_makes_whole_tree_with_ancestors(tmp_path: Path) -> None:
    base = str(tmp_path)
    tree = Tree(
        Access(ME, None, 0o711),
        [
            Directory(f"{base}/x/y/z", Access(None, None, 0o2750)),
            Directory(f"{base}/x", Access(None, None, 0o700)),
        ],
        links=[Link(f"{base}/p/q", "../x")],
    )
    assert bring(tree) == [f"{base}/x", f"{base}/x/y", f"{base}/x/y/z", f"{base}/p", f"{base}/p/q"]
    modes = {name: os.lstat(f"{base}/{name}").st_mode & 0o7777 for name in ("x", "x/y", "x/y/z", "p")}
    assert modes == {"x": 0o700, "x/y": 0o711, "x/y/z": 0o2750, "p": 0o711}
    assert os.readlink(f"{base}/p/q") == "../x"


def test_change_shows_only_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "d"
    path.mkdir()
    path.chmod(0o755)
    (change,) = backend.plan(Tree(DEFAULT, [Directory(str(path), Access(ME, None, 0o700))]), check=False)
    assert (change.before, change.after) == ({"mode": "0755"}, {"mode": "0700"})


@root_only
def test_changes_owner_and_keeps_mode(tmp_path: Path) -> None:
    path = tmp_path / "d"
    path.mkdir()
    path.chmod(0o2755)
    tree = Tree(DEFAULT, [Directory(str(path), Access("4711", "4712", 0o2755))])
    (change,) = backend.plan(tree, check=False)
    assert (change.before, change.after) == (
        {"owner": "root", "group": "root"},
        {"owner": "4711", "group": "4712"},
    )
    bring(tree)
    status = path.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (4711, 4712, 0o2755)


def test_owner_that_does_not_exist_yet(tmp_path: Path) -> None:
    path = tmp_path / "d"
    path.mkdir(mode=0o755)
    wanted = Access("user-to-come", "group-to-come", path.stat().st_mode & 0o7777)
    tree = Tree(DEFAULT, [Directory(str(path), wanted), Directory(f"{path}/new", wanted)])
    existing, new = backend.plan(tree, check=True)
    assert existing.after == {"owner": "user-to-come", "group": "group-to-come"}
    assert new.after["owner"] == "user-to-come"
    with pytest.raises(TreeError, match=f"{path}: the user 'user-to-come' does not exist"):
        backend.plan(tree, check=False)


def test_same_entry_twice_is_one(tmp_path: Path) -> None:
    entry = Directory(f"{tmp_path}/d", DEFAULT)
    assert bring(Tree(DEFAULT, [entry, entry])) == [f"{tmp_path}/d"]


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (
            Tree(DEFAULT, [Directory("/a", DEFAULT), Directory("/a", Access(None, None, 0o700))]),
            "/a is given twice",
        ),
        (Tree(DEFAULT, [Directory("/a", DEFAULT)], links=[Link("/a", "/b")]), "/a is given twice"),
        (Tree(DEFAULT, [Directory("/a/b/c", DEFAULT)], [Removal("/a")]), "/a is to be absent, but /a/b/c"),
        (
            Tree(DEFAULT, [Directory("/a/b", DEFAULT)], links=[Link("/a", "/c")]),
            "/a/b lies below the link /a",
        ),
        (Tree(DEFAULT, removals=[Removal("/", force=True)]), "/ cannot be removed"),
    ],
)
def test_refuses_contradictions(tree: Tree, message: str) -> None:
    with pytest.raises(TreeError, match=message):
        backend.plan(tree, check=True)


def test_refuses_what_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    os.mkfifo(tmp_path / "pipe")
    for path, message in {
        "file": "file is a file, not a directory: move it away",
        "file/below": "file is a file, not a directory: move it away",
        "link": "link is a link, not a directory: name the directory that it leads to",
        "pipe": "pipe is a pipe",
    }.items():
        with pytest.raises(TreeError, match=message):
            backend.plan(Tree(DEFAULT, [Directory(f"{tmp_path}/{path}", DEFAULT)]), check=True)


def test_refuses_before_anything_is_changed(tmp_path: Path) -> None:
    (tmp_path / "z").touch()
    tree = Tree(DEFAULT, [Directory(f"{tmp_path}/a", DEFAULT), Directory(f"{tmp_path}/z", DEFAULT)])
    with pytest.raises(TreeError):
        backend.apply(backend.plan(tree, check=False))
    assert os.listdir(tmp_path) == ["z"]


def test_follows_a_trusted_link_above(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    bring(Tree(DEFAULT, [Directory(f"{tmp_path}/link/d", DEFAULT)]))
    assert (tmp_path / "real" / "d").is_dir()


@root_only
def test_refuses_an_untrusted_or_broken_link_above(tmp_path: Path) -> None:
    (tmp_path / "broken").symlink_to("nowhere")
    with pytest.raises(TreeError, match="leads to no directory"):
        backend.plan(Tree(DEFAULT, [Directory(f"{tmp_path}/broken/d", DEFAULT)]), check=False)
    (tmp_path / "link").symlink_to("/etc")
    os.lchown(tmp_path / "link", 4711, -1)
    with pytest.raises(TreeError, match="link of the user 4711"):
        backend.plan(Tree(DEFAULT, [Directory(f"{tmp_path}/link/d", DEFAULT)]), check=False)


@root_only
def test_link_put_in_place_after_planning_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o700)
    path = tmp_path / "d"
    path.mkdir(mode=0o700)
    changes = backend.plan(Tree(DEFAULT, [Directory(str(path), Access("4711", None, 0o777))]), check=False)
    path.rmdir()
    path.symlink_to(victim)
    with pytest.raises(TreeError, match=f"cannot bring {path}"):
        backend.apply(changes)
    assert (victim.stat().st_uid, victim.stat().st_mode & 0o777) == (0, 0o700)


def test_links(tmp_path: Path) -> None:
    link = tmp_path / "link"
    bring(Tree(DEFAULT, links=[Link(str(link), "one")]))
    (change,) = backend.plan(Tree(DEFAULT, links=[Link(str(link), "two")]), check=True)
    assert (change.before, change.after) == ({"target": "one"}, {"target": "two"})
    bring(Tree(DEFAULT, links=[Link(str(link), "two")]))
    assert os.readlink(link) == "two"
    bring(Tree(DEFAULT, links=[Link(str(link), None)]))
    assert not link.is_symlink()
    link.write_text("a file")
    with pytest.raises(TreeError, match="is a file, not a link"):
        backend.plan(Tree(DEFAULT, links=[Link(str(link), None)]), check=True)


def test_removal(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    both = Tree(DEFAULT, removals=[Removal(f"{tmp_path}/a"), Removal(f"{tmp_path}/a/b")])
    with pytest.raises(TreeError, match=r"a is not empty \(it holds 'b'\): .* force: true"):
        backend.plan(Tree(DEFAULT, removals=[Removal(f"{tmp_path}/a")]), check=False)
    assert bring(both) == [f"{tmp_path}/a/b", f"{tmp_path}/a"]


def test_forced_removal_spares_what_links_lead_to(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "link").symlink_to(tmp_path / "kept")
    bring(Tree(DEFAULT, removals=[Removal(f"{tmp_path}/a", force=True)]))
    assert (tmp_path / "kept" / "file").exists()
    (tmp_path / "link").symlink_to("kept")
    with pytest.raises(TreeError, match="is a link, not a directory: remove it yourself"):
        backend.plan(Tree(DEFAULT, removals=[Removal(f"{tmp_path}/link", force=True)]), check=False)


def test_forced_removal_refuses_a_mount_inside() -> None:
    with pytest.raises(TreeError, match="/proc is mounted: unmount it first"):
        backend.plan(Tree(DEFAULT, removals=[Removal("/proc", force=True)]), check=True)

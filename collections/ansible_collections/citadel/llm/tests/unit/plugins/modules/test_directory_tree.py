# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import pytest

from ansible_collections.citadel.llm.plugins.modules import directory_tree

RunModule = Callable[..., dict[str, Any]]


def test_predicts_makes_and_rests(run_module: RunModule, tmp_path: Path) -> None:
    options = {
        "mode": "0700",
        "directories": [{"path": f"{tmp_path}/a//b/"}, {"path": f"{tmp_path}/a", "mode": "0755"}],
        "links": [{"path": f"{tmp_path}/l", "target": "a/b"}],
    }
    predicted = run_module(directory_tree, check=True, **options)
    assert not (tmp_path / "a").exists()
    made = run_module(directory_tree, **options)
    again = run_module(directory_tree, **options)
    assert (
        predicted["changed_paths"]
        == made["changed_paths"]
        == [f"{tmp_path}/{name}" for name in ("a", "a/b", "l")]
    )
    assert (predicted["changed"], made["changed"], again["changed"]) == (True, True, False)
    assert (tmp_path / "l").stat().st_mode & 0o777 == 0o700
    assert made["diff"][2] == {
        "before_header": f"{tmp_path}/l",
        "after_header": f"{tmp_path}/l",
        "before": {"state": "absent"},
        "after": {"target": "a/b"},
    }
    assert again["diff"] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"directories": [{"path": "a/b"}]}, "'a/b' is not absolute"),
        ({"directories": [{"path": "/a/../b"}]}, "contains '..'"),
        ({"directories": [{"path": "/a", "mode": 493}]}, "/a: mode 493 is not an octal mode in quotes"),
        ({"mode": "rwx"}, "the default: mode 'rwx'"),
        ({"links": [{"path": "/a"}]}, "target"),
    ],
)
def test_refuses(run_module: RunModule, options: dict[str, Any], message: str) -> None:
    result = run_module(directory_tree, check=True, **options)
    assert result["failed"]
    assert message in result["msg"]


def test_removes_links_and_directories(run_module: RunModule, tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "l").symlink_to("a")
    result = run_module(
        directory_tree,
        directories=[{"path": f"{tmp_path}/a", "state": "absent", "force": True}],
        links=[{"path": f"{tmp_path}/l", "state": "absent"}],
    )
    assert result["changed_paths"] == [f"{tmp_path}/a", f"{tmp_path}/l"]
    assert list(tmp_path.iterdir()) == []

# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any, Callable

import pytest

from ansible_collections.citadel.llm.plugins.modules import config_tree

RunModule = Callable[..., dict[str, Any]]
REFUSE_BAD = ["sh", "-c", '! grep -rn bad "$0"', "{dir}"]


def test_predicts_installs_and_rests(run_module: RunModule, tmp_path: Path) -> None:
    dest = tmp_path / "config"
    options = {"dest": str(dest), "files": {"a": "1\n", "m/b": "2\n"}, "backup_dir": f"{tmp_path}/backups"}
    predicted = run_module(config_tree, check=True, **options)
    assert not dest.exists()
    installed = run_module(config_tree, **options)
    again = run_module(config_tree, **options)
    assert predicted["changed_files"] == installed["changed_files"] == ["a", "m/b"]
    assert (installed["changed"], installed["backup"], again["changed"]) == (True, None, False)
    changed = run_module(config_tree, **{**options, "files": {"a": "1\n", "m/b": "3\n"}})
    assert changed["changed_files"] == ["m/b"]
    assert changed["diff"] == [
        {"before_header": f"{dest}/m/b", "after_header": f"{dest}/m/b", "before": "2\n", "after": "3\n"}
    ]
    manifest = json.loads(Path(changed["backup"], "manifest.json").read_text())
    assert (manifest["dest"], sorted(manifest["files"])) == (str(dest), ["a", "m/b"])
    assert Path(changed["backup"], "files", "m/b").read_text() == "2\n"


def test_validator_runs_before_anything_is_replaced(run_module: RunModule, tmp_path: Path) -> None:
    options = {"dest": f"{tmp_path}/c", "files": {"a": "bad\n"}, "validate": REFUSE_BAD}
    for check in (True, False):
        result = run_module(config_tree, check=check, **options)
        assert result["failed"]
        assert f"{tmp_path}/c/a:1:bad" in result["msg"]
    assert list(tmp_path.iterdir()) == []


def test_missing_validator(run_module: RunModule, tmp_path: Path) -> None:
    options = {"dest": f"{tmp_path}/c", "files": {"a": "1"}, "validate": ["/no/such/program", "{dir}"]}
    predicted = run_module(config_tree, check=True, **options)
    assert predicted["changed"]
    assert "/no/such/program" in json.dumps(predicted["warnings"])
    result = run_module(config_tree, **options)
    assert result["failed"]
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("marked", [{"sensitive": True}, {"sensitive_files": ["keys/*"]}])
def test_secrets_stay_secret(run_module: RunModule, tmp_path: Path, marked: dict[str, Any]) -> None:
    old, new = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
    options = {"dest": f"{tmp_path}/c", **marked}
    run_module(config_tree, **options, files={"keys/a": f"key: {old}\n"})
    changed = run_module(config_tree, **options, files={"keys/a": f"key: {new}\n"})
    refused = run_module(config_tree, **options, files={"keys/a": f"key: {new} bad\n"}, validate=REFUSE_BAD)
    purged = run_module(config_tree, dest=f"{tmp_path}/c", files={}, purge_patterns=["**"])
    assert changed["diff"][0]["after"] == "(new) (the content is sensitive and not shown)\n"
    assert refused["failed"]
    assert purged["changed_files"] == ["keys/a"]
    shown = json.dumps([changed, refused, purged])
    assert old not in shown
    assert new not in shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dest": "relative", "files": {}}, "is not absolute"),
        ({"dest": "/", "files": {}}, "dest is /"),
        ({"dest": "/c", "files": {"a": 1}}, "the content of 'a' is int, not text"),
        ({"dest": "/c", "files": {"../a": "1"}}, "'../a' is not a plain relative path"),
        ({"dest": "/c", "files": {}, "mode": "9"}, "mode '9'"),
        ({"dest": "/c", "files": {}, "backup_dir": "/c/backups"}, "lie in each other"),
        ({"dest": "/c/d", "files": {}, "backup_dir": "/c"}, "lie in each other"),
        ({"dest": "/c", "files": {}, "backup_keep": 0}, "keep at least 1"),
    ],
)
def test_refuses(run_module: RunModule, options: dict[str, Any], message: str) -> None:
    result = run_module(config_tree, check=True, **options)
    assert result["failed"]
    assert message in result["msg"]

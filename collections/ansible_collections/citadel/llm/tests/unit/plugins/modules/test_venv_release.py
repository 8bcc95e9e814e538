# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import secrets
import sys
from pathlib import Path
from typing import Any, Callable

import pytest

from ansible_collections.citadel.llm.plugins.modules import venv_release

RunModule = Callable[..., dict[str, Any]]
FAILING_UV = """#!/bin/sh
case $1 in
venv) for last; do :; done; mkdir -p "$last/bin" ;;
*) echo "error: Failed to fetch: $UV_DEFAULT_INDEX/demo/"; echo "  cause: Connection refused"; exit 2 ;;
esac
"""


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    uv = tmp_path / "uv"
    uv.write_text(FAILING_UV)
    uv.chmod(0o755)
    (tmp_path / "lock.txt").write_text(f"demo==1.0 --hash=sha256:{'a' * 64}\n")
    return {
        "releases": f"{tmp_path}/envs",
        "link": f"{tmp_path}/env",
        "lock": f"{tmp_path}/lock.txt",
        "uv": str(uv),
        "python": sys.executable,
    }


def test_prediction(run_module: RunModule, options: dict[str, Any], tmp_path: Path) -> None:
    result = run_module(venv_release, check=True, **options)
    assert (result["changed"], result["built"], result["switched"]) == (True, True, True)
    assert result["path"] == f"{tmp_path}/envs/{result['id']}"
    assert result["packages_changed"] == ["+demo==1.0"]
    assert result["diff"][0]["after"] == f"release {result['id']}\ndemo==1.0\n"
    assert not (tmp_path / "envs").exists()


def test_an_unknown_owner_is_predicted_and_refused(run_module: RunModule, options: dict[str, Any]) -> None:
    options["owner"] = "nobody-has-this-name"
    assert run_module(venv_release, check=True, **options)["changed"]
    failed = run_module(venv_release, **options)
    assert failed["failed"]
    assert "nobody-has-this-name" in failed["msg"]


def test_an_index_without_credentials_is_named(run_module: RunModule, options: dict[str, Any]) -> None:
    failed = run_module(venv_release, index_url="http://index.example/simple", **options)
    assert failed["reason"] == "index_unreachable"
    assert "index.example" in failed["msg"]


def test_credentials_are_never_shown(run_module: RunModule, options: dict[str, Any]) -> None:
    word = secrets.token_hex(8)
    failed = run_module(venv_release, index_url=f"http://me:{word}@index.example/simple", **options)
    assert failed["reason"] == "index_unreachable"
    assert "index.example" in failed["msg"]
    assert word not in json.dumps(failed)
    assert word not in Path(failed["log"]).read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"link": "env"}, "link must be an absolute path, not 'env'"),
        ({"wheels": ["a.whl"]}, "wheels must be an absolute path, not 'a.whl'"),
        ({"keep": 0}, "keep must be 1 or more, not 0"),
        ({"gpu_count": -1}, "gpu_count must be 0 or more, not -1"),
        ({"commands": [[]]}, "empty command"),
        ({"controller": {"lock": "lock.txt"}}, "controller: it is read by an action plugin"),
        ({"offline": True}, "offline needs a wheelhouse"),
        ({"lock": None}, "lock"),
    ],
)
def test_wrong_values_are_refused(
    run_module: RunModule, options: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    failed = run_module(venv_release, check=True, **{**options, **change})
    assert failed["failed"]
    assert message in failed["msg"]

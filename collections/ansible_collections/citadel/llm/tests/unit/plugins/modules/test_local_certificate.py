# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Callable

import pytest

from ansible_collections.citadel.llm.plugins.modules import local_certificate

RunModule = Callable[..., dict[str, Any]]


def options(directory: Path, **settings: Any) -> dict[str, Any]:
    return {
        "ca_key": f"{directory}/ca.key",
        "ca_certificate": f"{directory}/ca.crt",
        "key": f"{directory}/server.key",
        "certificate": f"{directory}/server.crt",
        "common_name": "llm.example.org",
        "subject_alt_names": ["DNS:llm.example.org", "IP:127.0.0.1"],
        **settings,
    }


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_predicts_issues_and_rests(run_module: RunModule, tmp_path: Path) -> None:
    predicted = run_module(local_certificate, check=True, **options(tmp_path))
    assert list(tmp_path.iterdir()) == []
    issued = run_module(local_certificate, **options(tmp_path))
    again = run_module(local_certificate, **options(tmp_path))
    assert predicted["reasons"] == issued["reasons"] == ["there is no authority", "there is no certificate"]
    assert (issued["ca_changed"], issued["certificate_changed"], again["changed"]) == (True, True, False)
    assert predicted["diff"] == issued["diff"]
    assert [entry["after_header"] for entry in issued["diff"]] == [
        f"{tmp_path}/{name}" for name in ("ca.crt", "server.crt", "ca.key", "server.key")
    ]
    renamed = run_module(local_certificate, **options(tmp_path, subject_alt_names=["DNS:other.example.org"]))
    (difference,) = renamed["diff"]
    assert difference["before"]["subject_alt_names"] == "DNS:llm.example.org, IP:127.0.0.1"
    assert difference["after"]["subject_alt_names"] == "DNS:other.example.org"
    assert "PRIVATE" not in json.dumps([issued, renamed])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"valid_days": 826}, "valid_days is 826: give 1 to 825"),
        ({"valid_days": 30}, "renew_before_days is 30"),
        ({"subject_alt_names": []}, "subject_alt_names is empty"),
        ({"subject_alt_names": ["llm.example.org"]}, "'llm.example.org' is not usable"),
        ({"common_name": "$HOME"}, "'$HOME' is not usable"),
        ({"mode": "0644"}, "'0644' is not fit for a private key"),
        ({"mode": "0040"}, "'0040' is not fit for a private key"),
        ({"key": "/x/ca.key", "ca_key": "/x/ca.key"}, "are the same path"),
        ({"key": "server.key"}, "'server.key' is not absolute"),
    ],
)
def test_refuses(run_module: RunModule, tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    result = run_module(local_certificate, check=True, **options(tmp_path, **settings))
    assert result["failed"]
    assert message in result["msg"]

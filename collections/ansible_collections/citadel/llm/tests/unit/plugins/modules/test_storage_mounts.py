# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import pytest

from ansible_collections.citadel.llm.plugins.module_utils._filesystem import Host
from ansible_collections.citadel.llm.plugins.modules import storage_mounts

RunModule = Callable[..., dict[str, Any]]


def test_predicts_on_a_bare_host(run_module: RunModule, tmp_path: Path) -> None:
    fstab = tmp_path / "fstab"
    fstab.write_text("# by hand\n")
    options = {
        "fstab": str(fstab),
        "mounts": [
            {"path": f"{tmp_path}/data", "device": "/dev/disk-to-come", "fstype": "xfs", "format": True}
        ],
    }
    result = run_module(storage_mounts, check=True, **options)
    assert result["changed_paths"] == [f"{tmp_path}/data"]
    assert result["formatted"] == ["/dev/disk-to-come"]
    made, table, mounted = result["diff"]
    assert made["after"] == {"fstype": "xfs"}
    assert table["before"] == "# by hand\n"
    assert f"{tmp_path}/data xfs defaults,nofail,x-systemd.device-timeout=30s 0 0" in table["after"]
    assert mounted["after"] == {"mounted": True}
    refused = run_module(storage_mounts, **options)
    assert "/dev/disk-to-come is not on this host" in refused["msg"]
    assert fstab.read_text() == "# by hand\n"


def test_removes_from_fstab(run_module: RunModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Host, "reload", lambda _host: None)
    fstab = tmp_path / "fstab"
    fstab.write_text(f"# by hand\nUUID=1 {tmp_path}/data xfs\n")
    options = {"fstab": str(fstab), "mounts": [{"path": f"{tmp_path}/data/", "state": "absent"}]}
    assert run_module(storage_mounts, check=True, **options)["changed"]
    assert run_module(storage_mounts, **options)["changed_paths"] == [f"{tmp_path}/data"]
    assert fstab.read_text() == "# by hand\n"
    assert not run_module(storage_mounts, **options)["changed"]


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        ({"path": "data", "device": "/dev/x"}, "'data' is not absolute"),
        ({"path": "/data"}, "device"),
        ({"path": "/data", "device": "x"}, "device 'x' is neither below /dev/"),
    ],
)
def test_refuses(run_module: RunModule, mount: dict[str, Any], message: str) -> None:
    result = run_module(storage_mounts, check=True, mounts=[mount])
    assert result["failed"]
    assert message in result["msg"]

# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any, Callable

import pytest

from ansible_collections.citadel.llm.plugins.module_utils._systemd import Systemd
from ansible_collections.citadel.llm.plugins.modules import gated_service
from ansible_collections.citadel.llm.tests.unit.plugins.module_utils.systemd_testing import FakeHost, FakeUnit

RunModule = Callable[..., dict[str, Any]]
UNIT = "demo.service"
RETIRE = {"unit": "engine@{instance}.service", "files": ["/x/{instance}.env"], "marker": "# Mine"}


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    fake = FakeHost()
    fake.units[UNIT] = FakeUnit()
    monkeypatch.setattr(gated_service, "Systemd", lambda _runner: Systemd(fake, running=True))
    return fake


def call(base: Path, content: str, **changes: Any) -> dict[str, Any]:
    file = {"path": f"{base}/demo.conf", "content": content, "mode": "0600", **changes}
    return {"state_dir": f"{base}/state", "units": [{"name": UNIT, "enabled": True, "files": [file]}]}


def test_starts_and_rests(run_module: RunModule, host: FakeHost, tmp_path: Path) -> None:
    options = call(tmp_path, "word\n")
    predicted = run_module(gated_service, check=True, **options)
    assert predicted["units"] == [{"name": UNIT, "action": "started", "reasons": ["is inactive (dead)"]}]
    assert [entry.get("after") for entry in predicted["diff"]] == ["word\n", None]
    assert predicted["diff"][1]["prepared"] == f"{UNIT}: started, is inactive (dead)\n"
    assert run_module(gated_service, **options)["changed"]
    assert host.units[UNIT].file_state == "enabled"
    again = run_module(gated_service, **options)
    assert (again["changed"], again["units"][0]["action"], again["diff"]) == (False, "none", [])


def test_sensitive_content_is_never_shown(run_module: RunModule, host: FakeHost, tmp_path: Path) -> None:
    word, other = secrets.token_hex(8), secrets.token_hex(8)
    assert word not in json.dumps(run_module(gated_service, **call(tmp_path, word, sensitive=True)))
    host.units[UNIT].works = lambda: (tmp_path / "demo.conf").read_text() == word
    failed = run_module(gated_service, **call(tmp_path, other, sensitive=True))
    assert failed["rolled_back"]
    assert failed["diff"][0]["after"] == "(content not shown: after)\n"
    assert word not in json.dumps(failed)
    assert other not in json.dumps(failed)
    assert (tmp_path / "demo.conf").read_text() == word


def test_what_retired_files_hold_is_not_shown(run_module: RunModule, host: FakeHost, tmp_path: Path) -> None:
    word = secrets.token_hex(8)
    (tmp_path / "old.env").write_text(f"# Mine\nTOKEN={word}\n")
    retire = {**RETIRE, "files": [f"{tmp_path}/{{instance}}.env"]}
    gone = run_module(gated_service, units=[], retire=retire, state_dir=f"{tmp_path}/state")
    assert gone["changed"]
    assert gone["diff"][0]["before_header"] == f"{tmp_path}/old.env"
    assert gone["diff"][0]["before"] == "(content not shown: before)\n"
    assert word not in json.dumps(gone)
    assert not (tmp_path / "old.env").exists()


def test_a_failure_says_what_and_why(run_module: RunModule, host: FakeHost, tmp_path: Path) -> None:
    host.units[UNIT].works = lambda: False
    failed = run_module(gated_service, **call(tmp_path, "word"))
    assert (failed["failed"], failed["failed_unit"], failed["rolled_back"]) == (True, UNIT, False)
    assert failed["msg"].startswith(f"{UNIT} failed its gate: systemctl start {UNIT}: Job for {UNIT} failed.")
    assert "no known good state" in failed["msg"]
    assert failed["msg"].endswith("Its last journal lines:\nthe last words")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"units": [{"name": "demo"}]}, "'demo' is not a unit's full name"),
        ({"units": [{"name": UNIT}, {"name": UNIT}]}, f"{UNIT} is listed more than once"),
        ({"links": ["env"]}, "links: 'env' is not an absolute path"),
        ({"units": [{"name": UNIT, "restart_on": ["x"]}]}, f"restart_on of {UNIT}: 'x' is not an absolute"),
        ({"units": [{"name": UNIT, "files": [{"path": "/x"}]}]}, "/x has no content"),
        ({"units": [{"name": UNIT, "files": [{"path": "/x", "content": "", "mode": "rwx"}]}]}, "'rwx'"),
        ({"health": [[]]}, "empty command"),
        ({"retire": {**RETIRE, "before": [[]]}}, "empty command"),
        ({"retire": {**RETIRE, "unit": "engine@x.service"}}, "'engine@x.service' is not an instance's"),
        ({"retire": {**RETIRE, "unit": "engine {instance}"}}, "'engine {instance}' is not an instance's"),
        ({"retire": {**RETIRE, "files": ["{instance}.env"]}}, "'{instance}.env' is not an absolute path"),
        ({"retire": {**RETIRE, "files": ["/engine.env"]}}, "no instance can be found by them"),
        ({"retire": {**RETIRE, "marker": " "}}, "retire.marker is empty"),
        (
            {
                "units": [
                    {"name": "a.service", "files": [{"path": "/x", "content": "1"}]},
                    {"name": "b.service", "files": [{"path": "/x", "content": "2"}]},
                ]
            },
            "/x has another content in an earlier unit",
        ),
    ],
)
def test_wrong_values_are_refused(
    run_module: RunModule, host: FakeHost, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    failed = run_module(gated_service, check=True, **{**call(tmp_path, "word"), **change})
    assert failed["failed"]
    assert message in failed["msg"]
    assert host.calls == []


def test_without_systemd(run_module: RunModule, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gated_service, "Systemd", lambda _runner: Systemd(FakeHost(), running=False))
    assert run_module(gated_service, check=True, **call(tmp_path, "word"))["changed"]
    failed = run_module(gated_service, **call(tmp_path, "word"))
    assert "systemd does not run on this host" in failed["msg"]
    assert not (tmp_path / "demo.conf").exists()

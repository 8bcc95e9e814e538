# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.citadel.llm.plugins.module_utils._gated_service import Report, Transaction
from ansible_collections.citadel.llm.plugins.module_utils._known_good import StoredFile
from ansible_collections.citadel.llm.plugins.module_utils._retired_units import Retire, retired_units
from ansible_collections.citadel.llm.plugins.module_utils._systemd import Systemd, SystemdError
from ansible_collections.citadel.llm.plugins.module_utils._unit_state import Request, UnitSpec
from ansible_collections.citadel.llm.tests.unit.plugins.module_utils.systemd_testing import FakeHost, FakeUnit

MARKER = "# Installed by the test"


class Bench:
    """Engines with a file and a drop-in each, and a template that all share."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.host = FakeHost()
        self.host.health["router"] = lambda: True
        self.template = base / "engine@.service"
        self.retire = Retire(
            "engine@{instance}.service",
            (
                str(self.template),
                f"{base}/{{instance}}.env",
                f"{base}/engine@{{instance}}.service.d/accelerator.conf",
            ),
            MARKER,
        )

    def spec(self, instance: str) -> UnitSpec:
        file = StoredFile(f"{MARKER}\nA={instance}".encode(), 0o640, -1, -1)
        template = StoredFile(f"{MARKER}\n[Service]".encode(), 0o644, -1, -1)
        files = {path.replace("{instance}", instance): file for path in self.retire.files}
        return UnitSpec(
            f"engine@{instance}.service", enabled=True, files={**files, str(self.template): template}
        )

    def transaction(self, *instances: str) -> Transaction:
        """What the module makes of a call with these instances."""
        wanted = [self.spec(instance) for instance in instances]
        for unit in wanted:
            self.host.units.setdefault(unit.name, FakeUnit())
        retired = retired_units(self.retire, {unit.name for unit in wanted})
        request = Request((*retired, *wanted), f"{self.base}/state", before_retirement=(("router", "apply"),))
        self.host.calls.clear()
        return Transaction(request, Systemd(self.host, running=True))

    def apply(self, *instances: str) -> Report:
        return self.transaction(*instances).apply()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_one_that_is_no_longer_named_goes(bench: Bench) -> None:
    bench.apply("a", "b")
    predicted = bench.transaction("b").predict()
    assert predicted.steps["engine@a.service"].action == "stopped"
    assert predicted.steps["engine@a.service"].reasons == ["is no longer wanted"]
    assert {Path(change.path).name for change in predicted.files} == {"a.env", "accelerator.conf"}
    assert (bench.base / "a.env").exists()
    report = bench.apply("b")
    assert bench.host.calls[:2] == ["stop engine@a.service", "disable engine@a.service"]
    assert report.steps["engine@b.service"].action == "none"
    assert sorted(path.name for path in bench.base.iterdir()) == [
        "b.env",
        "engine@.service",
        "engine@b.service.d",
        "state",
    ]
    assert not (bench.base / "state/engine@a.service").exists()
    assert not bench.apply("b").changed


def test_the_last_one_takes_the_shared_file_along(bench: Bench) -> None:
    bench.apply("a", "b")
    bench.apply()
    assert [path.name for path in bench.base.iterdir()] == ["state"]
    assert not bench.apply().changed


def test_nothing_of_others_is_touched(bench: Bench) -> None:
    bench.apply("a")
    others = bench.base / "other.env"
    others.write_text("# Installed by hand\n")
    drop_in = bench.base / "engine@a.service.d/by-hand.conf"
    drop_in.write_text(f"{MARKER}, or so it says\n")
    bench.template.write_text("# Changed by hand\n")
    link = bench.base / "link.env"
    link.symlink_to(bench.base / "a.env")
    bench.apply()
    assert others.exists()
    assert drop_in.exists()
    assert bench.template.exists()
    assert link.is_symlink()
    assert "engine@other.service" not in " ".join(bench.host.calls)


def test_the_router_hears_of_it_before_anything_stops(bench: Bench) -> None:
    bench.apply("a", "b")
    heard: list[str] = []

    def router() -> bool:
        heard.append(bench.host.units["engine@a.service"].active)
        return len(heard) > 1

    bench.host.health["router"] = router
    with pytest.raises(SystemdError, match=r"engine@a.service must go, but .* failed: router apply: exit 1"):
        bench.apply("b")
    assert bench.host.calls == []
    assert (bench.base / "a.env").exists()
    bench.apply("b")
    assert heard == ["active", "active"]
    assert bench.host.units["engine@a.service"].active == "inactive"


def test_an_interrupted_removal_goes_on(bench: Bench) -> None:
    bench.apply("a")
    bench.host.units["engine@a.service"] = FakeUnit()
    bench.template.unlink()
    (bench.base / "a.env").unlink()
    bench.host.health["router"] = lambda: pytest.fail("it runs no more: there is nothing to be told")
    assert bench.apply().changed
    assert [path.name for path in bench.base.iterdir()] == ["state"]


def test_a_retired_unit_is_told_by_its_name(bench: Bench) -> None:
    """A name that only looks like an instance, such as one with a slash or a space, is none."""
    (bench.base / "two words.env").write_text(f"{MARKER}\n")
    (bench.base / "d.env").mkdir()
    assert retired_units(bench.retire, set()) == []
    (bench.base / "x.env").write_text(f"{MARKER}\n")
    found = retired_units(bench.retire, {"engine@y.service"})
    assert [unit.name for unit in found] == ["engine@x.service"]
    assert retired_units(replace(bench.retire, marker="# Another"), set()) == []

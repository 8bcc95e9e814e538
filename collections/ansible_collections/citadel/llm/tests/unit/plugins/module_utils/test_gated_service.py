# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.citadel.llm.plugins.module_utils._gated_service import GateError, Report, Transaction
from ansible_collections.citadel.llm.plugins.module_utils._known_good import StoredFile
from ansible_collections.citadel.llm.plugins.module_utils._systemd import (
    Systemd,
    SystemdError,
    parse_timestamp,
)
from ansible_collections.citadel.llm.plugins.module_utils._unit_state import Request, UnitSpec
from ansible_collections.citadel.llm.tests.unit.plugins.module_utils.systemd_testing import (
    FakeHost,
    FakeUnit,
    settle,
    write,
)

ONE, TWO = "engine@one.service", "engine@two.service"


class Bench:
    """A fake host, two units that read a link and a file each, and the request for them."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.host = FakeHost()
        self.link = base / "env"
        for release in ("good", "better", "bad"):
            (base / release).mkdir()
        self.link.symlink_to(base / "good")
        self.texts = {ONE: "first", TWO: "first"}
        for name in (ONE, TWO):
            self.host.units[name] = FakeUnit(works=lambda name=name: self.works(name))  # type: ignore[misc]

    def works(self, name: str) -> bool:
        return (
            os.readlink(self.link) != str(self.base / "bad") and "broken" not in self.file(name).read_text()
        )

    def file(self, name: str) -> Path:
        return self.base / f"{name}.env"

    def request(self, **changes: Any) -> Request:
        units = tuple(
            UnitSpec(name, files={str(self.file(name)): StoredFile(text.encode(), 0o640, -1, -1)})
            for name, text in self.texts.items()
        )
        request = Request(units, state_dir=f"{self.base}/state", links=(str(self.link),), health_timeout=0)
        return replace(request, **changes)

    def transaction(self, request: Request) -> Transaction:
        self.host.calls.clear()
        settle()
        return Transaction(request, Systemd(self.host, running=True))

    def apply(self, **changes: Any) -> Report:
        return self.transaction(self.request(**changes)).apply()

    def predict(self, **changes: Any) -> Report:
        return self.transaction(self.request(**changes)).predict()

    def fail(self, **changes: Any) -> GateError:
        with pytest.raises(GateError) as caught:
            self.apply(**changes)
        return caught.value

    def point(self, release: str) -> None:
        settle()
        self.link.unlink()
        self.link.symlink_to(self.base / release)
        settle()


def actions(report: Report) -> list[str]:
    return [step.action for step in report.steps.values()]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_bare_host_in_check_mode(bench: Bench) -> None:
    request = bench.request()
    report = Transaction(request, Systemd(FakeHost(), running=False)).predict()
    assert report.changed
    assert actions(report) == ["started", "started"]
    assert [change.before for change in report.files] == [None, None]
    assert not (bench.base / "state").exists()
    assert not bench.file(ONE).exists()


def test_start_then_rest(bench: Bench) -> None:
    assert actions(bench.apply()) == ["started", "started"]
    assert stat.S_IMODE(bench.file(ONE).stat().st_mode) == 0o640
    assert not bench.predict().changed
    report = bench.apply()
    assert not report.changed
    assert bench.host.calls == []


def test_a_changed_file_restarts_its_unit_only(bench: Bench) -> None:
    bench.apply()
    bench.texts[TWO] = "second"
    predicted = bench.predict()
    assert actions(predicted) == ["none", "restarted"]
    assert predicted.steps[TWO].reasons == [f"file {bench.file(TWO)} would change"]
    assert [(change.before, change.after) for change in predicted.files] == [(b"first", b"second")]
    assert actions(bench.apply()) == ["none", "restarted"]
    assert actions(bench.apply()) == ["none", "none"]


def test_a_switched_link_restarts_one_after_another(bench: Bench) -> None:
    bench.apply()
    bench.point("better")
    report = bench.apply()
    assert actions(report) == ["restarted", "restarted"]
    assert report.steps[ONE].reasons == [f"link {bench.link} is newer than the process"]
    assert [call for call in bench.host.calls if call.startswith("restart")] == [
        f"restart {ONE}",
        f"restart {TWO}",
    ]


def test_a_touch_restarts_nothing(bench: Bench) -> None:
    bench.apply()
    settle()
    bench.file(ONE).touch()
    bench.point("good")
    assert not bench.predict().changed
    assert not bench.apply().changed


def test_interrupted_between_file_and_restart(bench: Bench) -> None:
    bench.apply()
    write(bench.file(ONE), "second")
    bench.texts[ONE] = "second"
    assert actions(bench.apply()) == ["restarted", "none"]


def test_interrupted_between_restart_and_gate(bench: Bench) -> None:
    bench.apply()
    bench.texts[ONE] = "sick"
    write(bench.file(ONE), "sick")
    bench.host.run(["systemctl", "restart", ONE], {}, 1)
    bench.host.health["probe"] = lambda: "sick" not in bench.file(ONE).read_text()
    error = bench.fail(health=(("probe",),))
    assert error.unit == ONE
    assert error.rolled_back
    assert bench.file(ONE).read_text() == "first"


def test_a_crash_puts_back_files_and_links(bench: Bench) -> None:
    bench.apply()
    bench.texts = {ONE: "second", TWO: "broken"}
    bench.point("better")
    error = bench.fail()
    assert (error.unit, error.rolled_back, error.journal) == (TWO, True, ["the last words"])
    assert "systemctl restart engine@two.service: Job for engine@two.service failed." in error.reason
    assert "Result=exit-code, exit status 3" in error.reason
    assert set(error.restored) == {str(bench.link), str(bench.file(ONE)), str(bench.file(TWO))}
    assert [bench.file(name).read_text() for name in (ONE, TWO)] == ["first", "first"]
    assert os.readlink(bench.link) == str(bench.base / "good")
    restarts = [call for call in bench.host.calls if call.startswith("restart")]
    assert restarts == [f"restart {ONE}", f"restart {TWO}", f"restart {ONE}", f"restart {TWO}"]
    bench.texts = {ONE: "first", TWO: "first"}
    assert not bench.apply().changed


def test_a_unit_that_was_not_reached_is_not_restarted_later(bench: Bench) -> None:
    bench.apply()
    bench.point("bad")
    error = bench.fail()
    assert (error.unit, error.rolled_back, error.restored) == (ONE, True, [str(bench.link)])
    assert bench.host.units[TWO].invocation == 1
    assert not bench.apply().changed


def test_health_fails(bench: Bench) -> None:
    bench.host.health["probe"] = lambda: "sick" not in bench.file(TWO).read_text()
    bench.apply(health=(("probe", "--all"),))
    bench.texts[TWO] = "sick"
    error = bench.fail(health=(("probe", "--all"),))
    assert error.reason == "it was not healthy after 0 s: probe --all: exit 1: not well"
    assert error.rolled_back


def test_a_start_that_hangs(bench: Bench) -> None:
    bench.host.hangs.append(ONE)
    error = bench.fail()
    assert "had not ended after 600 s" in error.reason
    assert not error.rolled_back
    assert "no known good state" in error.outcome
    assert bench.file(ONE).read_text() == "first"


def test_what_failed_is_what_was_good(bench: Bench) -> None:
    bench.apply()
    bench.host.units[ONE] = FakeUnit(works=lambda: False)
    error = bench.fail()
    assert not error.rolled_back
    assert "nothing to go back to" in error.outcome


def test_the_old_state_fails_as_well(bench: Bench) -> None:
    bench.apply()
    bench.texts[ONE] = "second"
    bench.host.units[ONE].works = lambda: False
    error = bench.fail()
    assert not error.rolled_back
    assert "with that, too, the gate fails" in error.outcome
    assert bench.file(ONE).read_text() == "first"


def test_a_new_file_is_removed_by_the_rollback(bench: Bench) -> None:
    bench.apply()
    request = bench.request()
    extra = str(bench.base / "extra")
    one = request.units[0]
    files = {
        **one.files,
        extra: StoredFile(b"x", 0o600, -1, -1),
        str(bench.file(ONE)): StoredFile(b"broken", 0o640, -1, -1),
    }
    with pytest.raises(GateError) as caught:
        bench.transaction(replace(request, units=(replace(one, files=files),))).apply()
    assert caught.value.rolled_back
    assert not os.path.exists(extra)


def test_a_unit_file_is_put_back(bench: Bench) -> None:
    """All units share a template, which a bad run changes: it goes back for all of them."""
    template = bench.base / "engine@.service"

    def units(text: str) -> tuple[UnitSpec, ...]:
        shared = {str(template): StoredFile(text.encode(), 0o644, -1, -1)}
        return tuple(replace(unit, files={**unit.files, **shared}) for unit in bench.request().units)

    for unit in bench.host.units.values():
        unit.fragment = str(template)
        unit.works = lambda: b"Bad" not in template.read_bytes()
    bench.apply(units=units("[Service]"))
    error = bench.fail(units=units("[Service]\nBad=yes"))
    assert (error.unit, error.rolled_back, error.restored) == (ONE, True, [str(template)])
    assert template.read_text() == "[Service]"
    assert not bench.apply(units=units("[Service]")).changed


def test_a_unit_file_that_was_not_recorded_yet_is_put_back(bench: Bench) -> None:
    """Another task had installed it: the record of then knows that it was read, not what was in it."""
    fragment = bench.base / "one.service"
    write(fragment, "[Service]")
    bench.host.units[ONE].fragment = str(fragment)
    bench.host.units[ONE].works = lambda: "Bad" not in fragment.read_text()
    bench.apply()
    one = bench.request().units[0]
    files = {**one.files, str(fragment): StoredFile(b"[Service]\nBad=yes", 0o644, -1, -1)}
    error = bench.fail(units=(replace(one, files=files),))
    assert (error.rolled_back, error.restored) == (True, [str(fragment)])
    assert fragment.read_text() == "[Service]"


def reload_request(bench: Bench) -> dict[str, Any]:
    routing = bench.base / "routing"
    if not routing.exists():
        write(routing, "one")
    return {"units": (UnitSpec(ONE, reload_on=(str(routing),), files=bench.request().units[0].files),)}


def test_reload(bench: Bench) -> None:
    bench.apply(**reload_request(bench))
    write(bench.base / "routing", "two")
    assert actions(bench.predict(**reload_request(bench))) == ["reloaded"]
    assert actions(bench.apply(**reload_request(bench))) == ["reloaded"]
    assert f"reload {ONE}" in bench.host.calls
    assert not bench.apply(**reload_request(bench)).changed
    assert bench.host.units[ONE].invocation == 1


def test_a_restart_makes_the_reload_needless(bench: Bench) -> None:
    bench.apply(**reload_request(bench))
    write(bench.base / "routing", "two")
    bench.texts[ONE] = "second"
    assert actions(bench.apply(**reload_request(bench))) == ["restarted"]
    assert not bench.apply(**reload_request(bench)).changed


def test_environment_files_and_unit_files_count(bench: Bench) -> None:
    fragment, variables = bench.base / "unit", bench.base / "variables"
    write(fragment, "[Service]")
    write(variables, "A=1")
    bench.host.units[ONE].fragment = str(fragment)
    bench.host.units[ONE].environment_files = [str(variables), str(bench.base / "missing")]
    bench.apply()
    write(variables, "A=2")
    report = bench.apply()
    assert report.steps[ONE].reasons == [f"environment file {variables} is newer than the process"]
    write(fragment, "[Service]\nNice=1")
    bench.host.units[ONE].needs_reload = True
    report = bench.apply()
    assert report.steps[ONE].reasons == [f"unit file {fragment} is newer than the process"]
    assert bench.host.calls[0] == "daemon-reload"


def test_a_removed_input_counts(bench: Bench) -> None:
    drop_in = bench.base / "drop-in.conf"
    write(drop_in, "x")
    units = (replace(bench.request().units[0], restart_on=(str(drop_in),)),)
    bench.apply(units=units)
    drop_in.unlink()
    assert bench.apply(units=units).steps[ONE].reasons == [f"file {drop_in} was removed"]
    assert not bench.apply(units=units).changed


def test_a_unit_that_waits_for_its_socket(bench: Bench) -> None:
    bench.host.units[ONE].triggered_by = "engine.socket"
    bench.host.units["engine.socket"] = FakeUnit(active="active", sub="listening")
    report = bench.apply()
    assert report.steps[ONE].action == "none"
    assert report.steps[ONE].reasons == ["waits for engine.socket"]
    assert report.steps[TWO].action == "started"
    bench.host.units[ONE].active = "failed"
    assert actions(bench.apply()) == ["started", "none"]


def test_a_unit_that_starts_with_the_host_does_not_wait_for_its_socket(bench: Bench) -> None:
    bench.host.units[ONE].triggered_by = "engine.socket"
    bench.host.units["engine.socket"] = FakeUnit(active="active", sub="listening")
    units = (replace(bench.request().units[0], enabled=True),)
    assert bench.apply(units=units).steps[ONE].action == "started"
    assert f"start {ONE}" in bench.host.calls


def test_a_socket_stays_open_when_a_link_changes(bench: Bench) -> None:
    bench.host.units["one.socket"] = FakeUnit()
    units = (UnitSpec("one.socket"), *bench.request().units)
    bench.apply(units=units)
    bench.point("better")
    report = bench.apply(units=units)
    assert report.steps["one.socket"].action == "none"
    assert report.steps[ONE].action == "restarted"
    assert "restart one.socket" not in bench.host.calls


def test_a_unit_that_restarts_again_and_again_is_restarted(bench: Bench) -> None:
    bench.host.units[ONE].active, bench.host.units[ONE].sub = "activating", "auto-restart"
    assert bench.apply().steps[ONE].reasons == ["is activating (auto-restart)"]
    assert f"restart {ONE}" in bench.host.calls


def test_enabled_only_behind_the_gate(bench: Bench) -> None:
    bench.texts[ONE] = "broken"
    units = tuple(replace(unit, enabled=True) for unit in bench.request().units)
    bench.fail(units=units)
    assert bench.host.units[ONE].file_state == "disabled"
    bench.texts[ONE] = "first"
    units = tuple(replace(unit, enabled=True) for unit in bench.request().units)
    assert bench.predict(units=units).enabled == [ONE, TWO]
    assert bench.apply(units=units).enabled == [ONE, TWO]
    assert not bench.apply(units=units).changed


def test_stopped_and_absent(bench: Bench) -> None:
    bench.apply()
    one, two = bench.request().units
    shared = str(bench.base / "template")
    both = {**one.files, shared: StoredFile(b"t", 0o644, -1, -1)}
    bench.apply(units=(replace(one, files=both), replace(two, files={**two.files, shared: both[shared]})))
    units = (
        replace(one, state="absent", files=both),
        replace(two, files={**two.files, shared: both[shared]}),
    )
    assert bench.predict(units=units).steps[ONE].action == "stopped"
    assert actions(bench.apply(units=units)) == ["stopped", "none"]
    assert not bench.file(ONE).exists()
    assert os.path.exists(shared)
    assert not (bench.base / "state" / ONE).exists()
    assert not bench.apply(units=units).changed
    stopped = (replace(two, state="stopped"),)
    assert actions(bench.apply(units=stopped)) == ["stopped"]
    assert not bench.apply(units=stopped).changed


def test_an_unknown_unit_says_so(bench: Bench) -> None:
    with pytest.raises(SystemdError, match="systemctl show"):
        Systemd(BrokenRunner(), running=True).show([ONE])


class BrokenRunner(FakeHost):
    def _show(self, name: str) -> str:
        return ""


def test_parse_timestamp() -> None:
    assert parse_timestamp("Sun 2026-11-22 17:30:01.250000 UTC") == 1795368601.25
    assert parse_timestamp("") is None
    assert parse_timestamp("n/a") is None

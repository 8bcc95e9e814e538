"""Recovery restarts what is broken, within limits."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest

from citadel_llm.schema.settings import Recovery
from citadel_llm.services import journal
from citadel_llm.services.health.model import Result, State
from citadel_llm.services.health.recovery import RECORD, Action, RecoveryError, recover
from citadel_llm.services.systemd import Systemd
from files.app.tests.fixtures.systemd import FakeSystemd, Unit

ENGINE = "citadel-engine@a.service"
LIMITS = Recovery(max_restarts=2, window_s=100)


@pytest.fixture(autouse=True)
def _log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "last_lines", lambda unit, count: [])


def result(state: State = "critical", unit: str | None = ENGINE, name: str = "engine:a:request") -> Result:
    return Result(name, "engine", state, "hangs", 1.0, unit)


async def run(results: list[Result], state: Path, now: float = 1000.0) -> list[Action]:
    async with Systemd() as systemd:
        return await recover(results, systemd, LIMITS, state, now)


def restarts(fake: FakeSystemd) -> list[str]:
    return [unit for verb, unit in fake.calls if verb == "restart"]


@pytest.mark.parametrize("active", ["active", "failed"])
async def test_a_critical_unit_is_restarted_once_for_all_its_checks(
    fake_systemd: FakeSystemd, tmp_path: Path, active: str
) -> None:
    fake_systemd.units[ENGINE] = Unit(active)
    (action,) = await run(
        [result(), result(name="engine:a:health"), result("warning", "citadel-b.service")], tmp_path
    )
    assert (action.unit, action.action) == (ENGINE, "restarted")
    assert action.reason == "engine:a:request: hangs; engine:a:health: hangs"
    assert restarts(fake_systemd) == [ENGINE]
    assert ("ResetFailedUnit", ENGINE) in fake_systemd.calls
    assert json.loads((tmp_path / RECORD).read_text()) == {ENGINE: [1000.0]}


@pytest.mark.parametrize("active", ["inactive", "activating", "deactivating"])
async def test_what_is_stopped_or_on_its_way_is_left_alone(
    fake_systemd: FakeSystemd, tmp_path: Path, active: str
) -> None:
    fake_systemd.units[ENGINE] = Unit(active, "x")
    (action,) = await run([result()], tmp_path)
    assert action == Action(ENGINE, "left alone", f"it is {active} (x)")
    assert restarts(fake_systemd) == []


async def test_only_units_of_citadel_are_touched(fake_systemd: FakeSystemd, tmp_path: Path) -> None:
    fake_systemd.units["nginx.service"] = Unit("failed")
    assert await run([result(unit="nginx.service"), result(unit=None)], tmp_path) == []
    assert restarts(fake_systemd) == []


async def test_a_unit_is_restarted_only_so_often_within_the_window(
    fake_systemd: FakeSystemd, tmp_path: Path
) -> None:
    fake_systemd.units[ENGINE] = Unit()
    done = [(await run([result()], tmp_path, now))[0].action for now in (0, 10, 20, 99, 101, 105, 111)]
    assert done == [
        "restarted",
        "restarted",
        "left alone",
        "left alone",
        "restarted",
        "left alone",
        "restarted",
    ]
    assert len(restarts(fake_systemd)) == 4


async def test_a_clock_set_back_does_not_block_recovery(fake_systemd: FakeSystemd, tmp_path: Path) -> None:
    fake_systemd.units[ENGINE] = Unit()
    for now in (5000, 5001, 100):
        (action,) = await run([result()], tmp_path, now)
        assert action.action == "restarted"


async def test_a_restart_that_fails_counts_and_is_told(fake_systemd: FakeSystemd, tmp_path: Path) -> None:
    fake_systemd.units[ENGINE] = Unit("failed", result="exit-code")
    fake_systemd.job_results[ENGINE] = "failed"
    (action,) = await run([result()], tmp_path)
    assert action.action == "failed"
    assert "exit-code" in action.reason
    assert json.loads((tmp_path / RECORD).read_text()) == {ENGINE: [1000.0]}


@pytest.mark.parametrize("content", ["", "[]", '{"x": 3}', '{"x": ["y"]}'])
async def test_a_damaged_record_counts_as_empty(
    fake_systemd: FakeSystemd, tmp_path: Path, content: str
) -> None:
    fake_systemd.units[ENGINE] = Unit()
    (tmp_path / RECORD).write_text(content)
    (action,) = await run([result()], tmp_path)
    assert action.action == "restarted"


async def test_without_a_record_nothing_is_restarted(fake_systemd: FakeSystemd, tmp_path: Path) -> None:
    fake_systemd.units[ENGINE] = Unit()
    with pytest.raises(RecoveryError, match="restarts nothing without a record"):
        await run([result()], tmp_path / "none")
    assert restarts(fake_systemd) == []


async def test_two_recoveries_do_not_run_at_once(fake_systemd: FakeSystemd, tmp_path: Path) -> None:
    with (tmp_path / f".{RECORD}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RecoveryError, match="another recovery is running"):
            await run([result()], tmp_path)

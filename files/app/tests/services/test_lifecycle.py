"""Order, failures and reasons of lifecycle operations."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from citadel_llm.services import journal, lifecycle
from citadel_llm.services.systemd import DeniedError, Systemd, Verb
from files.app.tests.fixtures.systemd import FakeSystemd, Unit

A, B, GATEWAY = "citadel-engine@a.service", "citadel-engine@b.service", "citadel-gateway.service"


@pytest.fixture(autouse=True)
def _log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "last_lines", lambda unit, count: [f"last words of {unit}"])


@pytest.fixture
def three(fake_systemd: FakeSystemd) -> Iterator[FakeSystemd]:
    fake_systemd.units = {GATEWAY: Unit(can_reload=True), B: Unit(), A: Unit()}
    yield fake_systemd


async def test_known_units_are_the_configured_and_the_loaded(three: FakeSystemd) -> None:
    three.units["citadel-retired.service"] = Unit("failed", "failed")
    three.units["citadel-gone.service"] = Unit("inactive", "dead", "not-found")
    three.units["nginx.service"] = Unit()
    async with Systemd() as systemd:
        known = await lifecycle.known_units(systemd, [A, B, "citadel-engine@uninstalled.service"])
    assert known == [A, B, GATEWAY, "citadel-retired.service"]


@pytest.mark.parametrize(
    ("verb", "order"), [("start", [A, B, GATEWAY]), ("restart", [A, B, GATEWAY]), ("stop", [GATEWAY, B, A])]
)
async def test_all_units_are_taken_in_order(three: FakeSystemd, verb: Verb, order: list[str]) -> None:
    said: list[str] = []
    async with Systemd() as systemd:
        outcomes = await lifecycle.control_all(systemd, verb, [A, B, GATEWAY], said.append)
    assert [unit for called, unit in three.calls if called == verb] == order
    assert [outcome.unit for outcome in outcomes] == order
    assert all(outcome.ok for outcome in outcomes)
    assert said == [f"{verb} {unit}" for unit in order]


@pytest.mark.parametrize(("verb", "left"), [("start", []), ("restart", []), ("stop", [A])])
async def test_only_stopping_goes_on_after_a_failure(three: FakeSystemd, verb: Verb, left: list[str]) -> None:
    broken = B if verb == "stop" else A
    three.job_results[broken] = "failed"
    three.units[broken].result, three.units[broken].exit_status = "exit-code", 3
    async with Systemd() as systemd:
        outcomes = await lifecycle.control_all(systemd, verb, [A, B, GATEWAY])
    failed = next(outcome for outcome in outcomes if not outcome.ok)
    assert failed.unit == broken
    assert failed.reason == f"result exit-code, exit status 3\n  last words of {broken}"
    assert [outcome.unit for outcome in outcomes[outcomes.index(failed) + 1 :]] == left


@pytest.mark.parametrize("verb", ["stop", "restart"])
async def test_stopping_stops_the_socket_first_and_nothing_foreign(three: FakeSystemd, verb: Verb) -> None:
    three.units["citadel-gateway.socket"] = three.units["other.socket"] = Unit()
    three.units[GATEWAY].triggered_by = ("citadel-gateway.socket", "other.socket", "citadel-gateway.timer")
    async with Systemd() as systemd:
        await lifecycle.control(systemd, verb, GATEWAY)
    sockets = ["citadel-gateway.socket"] if verb == "stop" else []
    assert [unit for called, unit in three.calls if called in ("stop", "restart")] == [*sockets, GATEWAY]


async def test_reloading_passes_over_what_cannot(three: FakeSystemd) -> None:
    three.units[A] = Unit("inactive", "dead", can_reload=True)
    async with Systemd() as systemd:
        outcomes = await lifecycle.control_all(systemd, "reload", [A, B, GATEWAY])
    assert [(outcome.unit, outcome.result) for outcome in outcomes] == [
        (A, "skipped"),
        (B, "skipped"),
        (GATEWAY, "done"),
    ]
    assert "only a running service reloads" in outcomes[0].reason
    assert "restart it instead" in outcomes[1].reason
    assert [call for call in three.calls if call[0] == "reload"] == [("reload", GATEWAY)]


async def test_reloading_one_unit_that_cannot_is_a_failure(three: FakeSystemd) -> None:
    async with Systemd() as systemd:
        outcome = await lifecycle.control(systemd, "reload", A)
    assert not outcome.ok
    assert "cannot reload" in outcome.reason


async def test_a_denial_ends_everything(three: FakeSystemd) -> None:
    three.error = ("org.freedesktop.DBus.Error.AccessDenied", "Permission denied")
    async with Systemd() as systemd:
        with pytest.raises(DeniedError, match="Run it with sudo"):
            await lifecycle.control_all(systemd, "stop", [A, B])
    assert [call for call in three.calls if call[0] == "stop"] == [("stop", B)]


async def test_another_refusal_is_an_outcome(three: FakeSystemd) -> None:
    three.error = ("org.freedesktop.systemd1.UnitMasked", "Unit is masked.")
    async with Systemd() as systemd:
        outcomes = await lifecycle.control_all(systemd, "stop", [A, B])
    assert [(outcome.unit, outcome.ok) for outcome in outcomes] == [(B, False), (A, False)]
    assert "masked" in outcomes[0].reason

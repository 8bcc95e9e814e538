"""The D-Bus client against a fake manager on a real bus."""

from __future__ import annotations

import asyncio
import threading

import pytest

from citadel_llm.services.systemd import DeniedError, NoBusError, Systemd, SystemdError
from files.app.tests.fixtures.systemd import FakeSystemd, Unit

GATEWAY = "citadel-gateway.service"


async def test_status_tells_what_systemd_shows(fake_systemd: FakeSystemd) -> None:
    fake_systemd.units[GATEWAY] = Unit(restarts=3, memory=1024, can_reload=True)
    async with Systemd() as systemd:
        status = await systemd.status(GATEWAY)
    assert (status.load, status.active, status.sub) == ("loaded", "active", "running")
    assert (status.pid, status.memory, status.restarts) == (4242, 1024, 3)
    assert status.since == 1_700_000_000
    assert status.can_reload
    assert status.running


async def test_a_stopped_unit_has_no_process_and_no_memory(fake_systemd: FakeSystemd) -> None:
    fake_systemd.units[GATEWAY] = Unit("inactive", "dead", pid=0)
    async with Systemd() as systemd:
        status = await systemd.status(GATEWAY)
    assert (status.pid, status.memory, status.since) == (None, None, 1_600_000_000)
    assert not status.running


async def test_a_unit_that_does_not_exist_is_not_found(fake_systemd: FakeSystemd) -> None:
    async with Systemd() as systemd:
        assert (await systemd.status("citadel-none.service")).load == "not-found"


async def test_units_are_listed_by_pattern(fake_systemd: FakeSystemd) -> None:
    fake_systemd.units = {GATEWAY: Unit(), "citadel-engine@a.service": Unit(), "nginx.service": Unit()}
    async with Systemd() as systemd:
        assert await systemd.list_units(["citadel-*.service"]) == ["citadel-engine@a.service", GATEWAY]


@pytest.mark.parametrize("early", [False, True], ids=["reply first", "signal first"])
@pytest.mark.parametrize("result", ["done", "failed", "timeout"])
async def test_a_job_is_waited_for(fake_systemd: FakeSystemd, early: bool, result: str) -> None:
    fake_systemd.units[GATEWAY] = Unit()
    fake_systemd.signal_before_reply = early
    fake_systemd.job_results[GATEWAY] = result
    async with Systemd() as systemd:
        assert await asyncio.wait_for(systemd.job("restart", GATEWAY), 5) == result
    assert ("restart", GATEWAY) in fake_systemd.calls


async def test_several_jobs_at_once_get_their_own_results(fake_systemd: FakeSystemd) -> None:
    units = [f"citadel-engine@{name}.service" for name in "abcd"]
    fake_systemd.units = {unit: Unit() for unit in units}
    fake_systemd.job_results[units[2]] = "failed"
    async with Systemd() as systemd:
        results = await asyncio.gather(*(systemd.job("start", unit) for unit in units))
    assert results == ["done", "done", "failed", "done"]


async def test_a_bus_that_goes_away_ends_the_wait(fake_systemd: FakeSystemd) -> None:
    fake_systemd.units[GATEWAY] = Unit()
    fake_systemd.finish_jobs = False
    queued = threading.Event()
    fake_systemd.on_job = lambda _verb, _unit: queued.set()
    async with Systemd() as systemd:
        job = asyncio.create_task(systemd.job("stop", GATEWAY))
        await asyncio.to_thread(queued.wait, 5)
        assert systemd._bus is not None
        systemd._bus.disconnect()
        with pytest.raises(NoBusError, match="connection to D-Bus was lost"):
            await asyncio.wait_for(job, 5)


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("org.freedesktop.DBus.Error.AccessDenied", DeniedError, "sudo"),
        ("org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", DeniedError, "polkit"),
        ("org.freedesktop.systemd1.UnitMasked", SystemdError, "is masked"),
    ],
)
async def test_a_refusal_says_what_to_do(
    fake_systemd: FakeSystemd, name: str, kind: type[SystemdError], text: str
) -> None:
    fake_systemd.units[GATEWAY] = Unit()
    fake_systemd.error = (name, "Unit citadel-gateway.service is masked.")
    async with Systemd() as systemd:
        with pytest.raises(kind, match=text) as caught:
            await systemd.job("start", GATEWAY)
    assert f"start {GATEWAY}" in str(caught.value)


async def test_starting_a_unit_that_is_not_installed_names_it(fake_systemd: FakeSystemd) -> None:
    async with Systemd() as systemd:
        with pytest.raises(SystemdError, match="no such unit"):
            await systemd.job("start", GATEWAY)


async def test_no_bus_is_a_clear_error() -> None:
    with pytest.raises(NoBusError, match="systemd cannot be reached over D-Bus"):
        async with Systemd("unix:path=/nonexistent/bus"):
            pass


async def test_a_bus_without_systemd_is_a_clear_error(private_bus: str) -> None:
    async with Systemd(private_bus) as systemd:
        with pytest.raises(NoBusError, match="systemd does not"):
            await systemd.list_units(["citadel-*"])

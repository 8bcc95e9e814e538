"""Start, stop, restart and reload: one service, or all of them in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from citadel_llm.services import journal, names
from citadel_llm.services.systemd import DeniedError, NoBusError, Systemd, SystemdError, UnitStatus, Verb

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one unit: `result` is done, skipped (nothing to do) or what systemd says of the job."""

    unit: str
    verb: Verb
    result: str
    reason: str = ""

    @property
    def ok(self) -> bool:
        """Whether the unit is as was asked."""
        return self.result in ("done", "skipped")


async def known_units(systemd: Systemd, engines: Iterable[str]) -> list[str]:
    """Services of Citadel in starting order: those in the settings and those that systemd has loaded.

    `engines` are the units of the deployments. A unit that is not installed is left out.
    """
    wanted = {names.GATEWAY, *engines, *await systemd.list_units([f"{names.PREFIX}*.service"])}
    installed = [unit for unit in wanted if (await systemd.status(unit)).load != "not-found"]
    return names.start_order(installed, engines)


async def control(systemd: Systemd, verb: Verb, unit: str) -> Outcome:
    """Do one thing with one unit and wait for the result. Raises SystemdError when systemd refuses."""
    if verb == "reload":
        status = await systemd.status(unit)
        refused = _reload_refused(status)
        if refused:
            return Outcome(unit, verb, "failed", refused)
    if verb == "stop":
        await _stop_triggers(systemd, unit)
    result = await systemd.job(verb, unit)
    if result in ("done", "skipped"):
        return Outcome(unit, verb, result)
    return Outcome(unit, verb, result, await _reason(systemd, unit))


async def _stop_triggers(systemd: Systemd, unit: str) -> None:
    """Stop the sockets of a service first: the next connection would start it again."""
    for trigger in (await systemd.status(unit)).triggered_by:
        if trigger.startswith(names.PREFIX) and trigger.endswith(".socket"):
            await systemd.job("stop", trigger)


async def control_all(
    systemd: Systemd, verb: Verb, units: list[str], progress: Progress = lambda _text: None
) -> list[Outcome]:
    """Do one thing with all units: in the given order, for `stop` in reverse.

    One unit at a time, so that of several engines only one is away. Starting and restarting end at the first
    failure: what comes later depends on it, or still serves. A reload passes over units that cannot reload or
    are not running. Raises SystemdError when systemd cannot be reached or denies it.
    """
    outcomes: list[Outcome] = []
    for unit in reversed(units) if verb == "stop" else units:
        progress(f"{verb} {unit}")
        outcomes.append(await _attempt(systemd, verb, unit))
        if verb in ("start", "restart") and not outcomes[-1].ok:
            break
    return outcomes


async def _attempt(systemd: Systemd, verb: Verb, unit: str) -> Outcome:
    if verb == "reload":
        refused = _reload_refused(await systemd.status(unit))
        if refused:
            return Outcome(unit, verb, "skipped", refused)
    try:
        return await control(systemd, verb, unit)
    except (NoBusError, DeniedError):
        raise
    except SystemdError as error:
        return Outcome(unit, verb, "failed", str(error))


def _reload_refused(status: UnitStatus) -> str:
    if not status.running:
        return f"{status.unit} is {status.active}: only a running service reloads"
    if not status.can_reload:
        return f"{status.unit} cannot reload: restart it instead"
    return ""


async def _reason(systemd: Systemd, unit: str) -> str:
    status = await systemd.status(unit)
    detail = f"result {status.result}" if status.result else status.active
    if status.exit_status:
        detail += f", exit status {status.exit_status}"
    lines = journal.last_lines(unit, 10)
    return "\n".join([detail, *(f"  {line}" for line in lines)])

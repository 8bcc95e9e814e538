"""systemd's manager over D-Bus: what units do, and jobs that change it.

Only the few calls that are needed, sent as plain messages: introspecting systemd's objects first would cost
more than the calls themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

from dbus_fast import BusType, Message, MessageType
from dbus_fast.aio import MessageBus
from dbus_fast.errors import AuthError, InvalidAddressError

NAME = "org.freedesktop.systemd1"
PATH = "/org/freedesktop/systemd1"
MANAGER = "org.freedesktop.systemd1.Manager"
UNIT = "org.freedesktop.systemd1.Unit"
SERVICE = "org.freedesktop.systemd1.Service"
PROPERTIES = "org.freedesktop.DBus.Properties"
_UNSET = 2**64 - 1
_DENIED = (
    "org.freedesktop.DBus.Error.AccessDenied",
    "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
    "org.freedesktop.DBus.Error.AuthFailed",
)
# The bus tries to start what has no owner; in a container without systemd that start fails.
_ABSENT = (
    "org.freedesktop.DBus.Error.ServiceUnknown",
    "org.freedesktop.DBus.Error.NameHasNoOwner",
    "org.freedesktop.DBus.Error.Spawn",
)

Verb = Literal["start", "stop", "restart", "reload"]
_METHODS: dict[Verb, str] = {
    "start": "StartUnit",
    "stop": "StopUnit",
    "restart": "RestartUnit",
    "reload": "ReloadUnit",
}


class SystemdError(Exception):
    """systemd refused a call or could not be reached; the message says what and the remedy."""


class NoBusError(SystemdError):
    """There is no systemd to speak to."""


class DeniedError(SystemdError):
    """The caller may not do this."""


@dataclass(frozen=True, slots=True)
class UnitStatus:
    """The state of one unit; `since` is Unix time in seconds, `memory` bytes, None where there is none."""

    unit: str
    description: str
    load: str
    active: str
    sub: str
    since: float | None = None
    pid: int | None = None
    memory: int | None = None
    restarts: int | None = None
    result: str | None = None
    exit_status: int | None = None
    can_reload: bool = False
    triggered_by: tuple[str, ...] = ()

    @property
    def running(self) -> bool:
        """Whether the unit is up, or on the way there after a reload."""
        return self.active in ("active", "reloading", "refreshing")


class Systemd:
    """A connection to the manager; use it as an asynchronous context manager."""

    def __init__(self, address: str | None = None) -> None:
        """`address` is a D-Bus address; default the system bus."""
        self._address = address
        self._bus: MessageBus | None = None
        self._lost: asyncio.Future[None] | None = None
        self._jobs = 0
        self._finished: dict[str, asyncio.Future[str]] = {}
        self._subscribed = False

    async def __aenter__(self) -> Self:
        try:
            self._bus = await MessageBus(bus_address=self._address, bus_type=BusType.SYSTEM).connect()
        except (OSError, AuthError, InvalidAddressError, EOFError) as error:
            raise NoBusError(
                f"systemd cannot be reached over D-Bus ({error}). "
                "Services are controlled on the server itself, where systemd and dbus run"
            ) from error
        # One watcher for the whole connection: cancelling a wait for it would cancel it for every other job.
        self._lost = asyncio.ensure_future(self._bus.wait_for_disconnect())  # type: ignore[no-untyped-call]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bus is not None and self._lost is not None:
            self._bus.disconnect()
            with contextlib.suppress(Exception):
                await self._lost
        self._bus = self._lost = None

    async def list_units(self, patterns: Sequence[str]) -> list[str]:
        """Names of the loaded units that match one of the glob patterns."""
        body = await self._call("ListUnitsByPatterns", "asas", [[], list(patterns)])
        return sorted(row[0] for row in body[0])

    async def status(self, unit: str) -> UnitStatus:
        """The state of a unit, loaded or not; one that does not exist has the load state `not-found`."""
        path = (await self._call("LoadUnit", "s", [unit]))[0]
        common = await self._properties(path, UNIT)
        service = await self._properties(path, SERVICE) if unit.endswith(".service") else {}
        active = str(common.get("ActiveState", "unknown"))
        entered = "ActiveEnterTimestamp" if active in ("active", "reloading") else "StateChangeTimestamp"
        micros = common.get(entered) or 0
        return UnitStatus(
            unit=unit,
            description=str(common.get("Description", "")),
            load=str(common.get("LoadState", "unknown")),
            active=active,
            sub=str(common.get("SubState", "unknown")),
            since=micros / 1e6 if micros else None,
            pid=service.get("MainPID") or None,
            memory=_counter(service.get("MemoryCurrent")),
            restarts=service.get("NRestarts"),
            result=service.get("Result"),
            exit_status=service.get("ExecMainStatus"),
            can_reload=bool(common.get("CanReload", False)),
            triggered_by=tuple(common.get("TriggeredBy", ())),
        )

    async def job(self, verb: Verb, unit: str) -> str:
        """Queue a job (mode `replace`) and wait until it is done.

        Returns systemd's result: done, canceled, timeout, failed, dependency, skipped, … Raises SystemdError.
        """
        await self._subscribe()
        self._jobs += 1
        try:
            subject = f"{verb} {unit}"
            path = str((await self._call(_METHODS[verb], "ss", [unit, "replace"], subject=subject))[0])
            return await self._result(path, subject)
        finally:
            self._jobs -= 1
            if not self._jobs:
                self._finished.clear()

    async def _result(self, path: str, subject: str) -> str:
        """The result of a job, whose signal may have come before the reply that names it."""
        finished = self._finished.setdefault(path, asyncio.get_running_loop().create_future())
        if self._lost is not None:
            both: list[asyncio.Future[Any]] = [finished, self._lost]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not finished.done():
            raise NoBusError(
                f"{subject}: the connection to D-Bus was lost while the job ran. See citadel status"
            )
        return finished.result()

    async def reset_failed(self, unit: str) -> None:
        """Forget a failure, so that the start limit counts from zero."""
        with contextlib.suppress(SystemdError):
            await self._call("ResetFailedUnit", "s", [unit], subject=f"reset {unit}")

    async def _subscribe(self) -> None:
        if self._subscribed:
            return
        self._connected().add_message_handler(self._on_message)
        rule = f"type='signal',interface='{MANAGER}',member='JobRemoved',path='{PATH}'"
        await self._send(
            Message(
                destination="org.freedesktop.DBus",
                path="/org/freedesktop/DBus",
                interface="org.freedesktop.DBus",
                member="AddMatch",
                signature="s",
                body=[rule],
            ),
            "AddMatch",
        )
        await self._call("Subscribe", "", [])
        self._subscribed = True

    def _on_message(self, message: Message) -> bool:
        if message.message_type is not MessageType.SIGNAL or message.member != "JobRemoved":
            return False
        _number, path, _unit, result = message.body
        if self._jobs:
            finished = self._finished.setdefault(path, asyncio.get_running_loop().create_future())
            if not finished.done():
                finished.set_result(result)
        return True

    async def _properties(self, path: str, interface: str) -> dict[str, Any]:
        message = Message(
            destination=NAME,
            path=path,
            interface=PROPERTIES,
            member="GetAll",
            signature="s",
            body=[interface],
        )
        body = await self._send(message, f"properties of {path}")
        return {key: variant.value for key, variant in body[0].items()}

    async def _call(
        self, member: str, signature: str, body: list[Any], subject: str | None = None
    ) -> list[Any]:
        message = Message(
            destination=NAME, path=PATH, interface=MANAGER, member=member, signature=signature, body=body
        )
        return await self._send(message, subject or member)

    async def _send(self, message: Message, subject: str) -> list[Any]:
        try:
            reply = await self._connected().call(message)
        except (OSError, EOFError) as error:
            raise NoBusError(f"{subject}: the connection to D-Bus was lost ({error})") from error
        if reply is None or reply.message_type is not MessageType.ERROR:
            return list(reply.body) if reply is not None else []
        raise _failure(subject, reply)

    def _connected(self) -> MessageBus:
        if self._bus is None:
            raise NoBusError("not connected to D-Bus: use Systemd as an asynchronous context manager")
        return self._bus


def _failure(subject: str, reply: Message) -> SystemdError:
    text = str(reply.body[0]) if reply.body else str(reply.error_name)
    if reply.error_name in _DENIED:
        user = f"user id {os.geteuid()}"
        return DeniedError(
            f"{subject}: not permitted for {user} ({text}). Run it with sudo, or as the service account, "
            "which polkit lets control citadel-* units"
        )
    if str(reply.error_name).startswith(_ABSENT):
        return NoBusError(
            f"{subject}: D-Bus runs, but systemd does not. Services are controlled on the server"
        )
    if reply.error_name == "org.freedesktop.systemd1.NoSuchUnit":
        return SystemdError(f"{subject}: there is no such unit ({text}). It is installed by the playbook")
    return SystemdError(f"{subject}: {text}")


def _counter(value: Any) -> int | None:
    """A 64-bit property; systemd says 2^64-1 for a value that it does not have."""
    return None if value is None or value == _UNSET else int(value)

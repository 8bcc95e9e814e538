"""Sockets, and the life of a server on them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from citadel_llm.gateway.transport.limits import Limits
from citadel_llm.gateway.transport.request import Application
from citadel_llm.gateway.transport.server import HttpServer
from citadel_llm.schema.gateway import GatewaySettings
from citadel_llm.telemetry import get_logger
from citadel_llm.telemetry.systemd import PassedSocket

_TICK_S = 0.02
_AFTER_CANCEL_S = 1.0
_log = get_logger("citadel.gateway.listener")


class ListenError(Exception):
    """A listener that cannot be opened. The message says which and what to do."""


def open_sockets(
    settings: GatewaySettings, passed: list[PassedSocket]
) -> tuple[socket.socket, socket.socket]:
    """The API's and the internal listener: those that the service manager passed, else new ones.

    A passed socket is recognised by its name (`api`, `internal`) or by its port. Raises ListenError.
    """
    found: dict[str, socket.socket] = {}
    ports = {settings.port: "api", settings.internal_port: "internal"}
    for item in passed:
        address = item.sock.getsockname()
        role = item.name if item.name in ("api", "internal") else ports.get(_port(address))
        if role is None or role in found:
            raise ListenError(
                f"socket {item.name!r} on {address} is neither port {settings.port} nor "
                f"{settings.internal_port}: make the socket unit and api_gateway agree"
            )
        found[role] = item.sock
    return (
        found.get("api") or _bind(settings.host, settings.port, "port", settings.backlog),
        found.get("internal")
        or _bind(settings.internal_host, settings.internal_port, "internal_port", settings.backlog),
    )


def _port(address: Any) -> int:
    return int(address[1]) if isinstance(address, tuple) else -1


def _bind(host: str, port: int, setting: str, backlog: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        sock = socket.create_server((host, port), family=family, backlog=backlog)
    except OSError as error:
        raise ListenError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; "
            f"change api_gateway.{setting} or stop what uses it"
        ) from error
    sock.setblocking(False)
    return sock


def limits_of(settings: GatewaySettings) -> Limits:
    """What the transport needs of the settings."""
    return Limits(
        head_bytes=settings.max_header_bytes,
        head_fields=settings.max_headers,
        body_bytes=settings.max_body_bytes,
        head_s=settings.timeouts.head_s,
        body_s=settings.timeouts.body_s,
        keepalive_s=settings.keepalive_s,
        connections=settings.max_connections,
        connections_per_address=settings.max_connections_per_address,
    )


class Listener:
    """Serves an application until it is told to stop, and stops politely. Made inside the running loop."""

    def __init__(
        self,
        application: Application,
        limits: Limits,
        *,
        backlog: int,
        drain_idle_s: float,
        drain_timeout_s: float,
    ) -> None:
        self.ready = asyncio.Event()
        self.http = HttpServer(application, limits)
        self._backlog = backlog
        self._stopping = asyncio.Event()
        self._hurry = False
        self._drain_idle_s = drain_idle_s
        self._drain_timeout_s = drain_timeout_s

    def stop(self) -> None:
        """Begin to drain."""
        self._stopping.set()

    def stop_now(self) -> None:
        """Drain no longer."""
        self._hurry = True
        self._stopping.set()

    async def serve(self, sock: socket.socket) -> None:
        """Serve on a socket until all is over."""
        await self.http.listen(sock, self._backlog)
        self.ready.set()
        await self._stopping.wait()
        await self._drain()

    async def _drain(self) -> None:
        """Accept no more, answer what is under way, and what is already on its way over idle connections."""
        loop = asyncio.get_running_loop()
        http = self.http
        end = loop.time() + self._drain_timeout_s
        # Clients are told to close with their next answer, so that none is cut off while it sends a request.
        http.stop_accepting()
        await self._wait_while(lambda: bool(http.connections), min(end, loop.time() + self._drain_idle_s))
        for connection in list(http.connections):
            connection.shut_idle()
        await self._wait_while(lambda: bool(http.connections), end)
        if http.connections:
            await self._cut_off()

    async def _wait_while(self, condition: Callable[[], bool], end: float) -> None:
        loop = asyncio.get_running_loop()
        while condition() and loop.time() < end and not self._hurry:  # noqa: ASYNC110 (polling costs nothing here)
            await asyncio.sleep(_TICK_S)

    async def _cut_off(self) -> None:
        http = self.http
        _log.warning("requests were cut off because draining took too long", requests=http.busy)
        for connection in list(http.connections):
            connection.shut_down()
        self._hurry = False
        await self._wait_while(
            lambda: bool(http.connections), asyncio.get_running_loop().time() + _AFTER_CANCEL_S
        )
        for connection in list(http.connections):
            connection.abort()

"""Sockets and the HTTP server on them."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
from collections.abc import Callable, Generator
from typing import Any

import uvicorn

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


class Listener(uvicorn.Server):
    """A server that leaves signals alone and stops politely."""

    def __init__(
        self, app: Any, settings: GatewaySettings, *, drain_idle_s: float, drain_timeout_s: float
    ) -> None:
        config = uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan="off",
            interface="asgi3",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=math.ceil(settings.keepalive_s),
            backlog=settings.backlog,
        )
        super().__init__(config)
        self.ready = asyncio.Event()
        self._stopping = asyncio.Event()
        self._drain_idle_s = drain_idle_s
        self._drain_timeout_s = drain_timeout_s

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """The process handles signals, not the server."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.ready.set()

    async def main_loop(self) -> None:
        """Renew the Date header each second until `stop`."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), 1.0)

    def stop(self) -> None:
        """Begin to drain."""
        self.should_exit = True
        self._stopping.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, answer what is under way, and what is already on its way over idle connections."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._drain_timeout_s
        for server in self.servers:
            server.close()
        # Connections that are told to close after their next answer need not be cut while a request arrives.
        self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]
        idle_end = min(end, loop.time() + self._drain_idle_s)
        await self._wait_while(lambda: bool(self.server_state.connections), idle_end)
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await self._wait_while(self._busy, end)
        if self._busy():
            await self._cancel()
        for sock in sockets or []:
            sock.close()

    async def _wait_while(self, condition: Callable[[], bool], end: float) -> None:
        loop = asyncio.get_running_loop()
        while condition() and loop.time() < end and not self.force_exit:  # noqa: ASYNC110 (uvicorn has no event)
            await asyncio.sleep(_TICK_S)

    def _busy(self) -> bool:
        return bool(self.server_state.connections or self.server_state.tasks)

    async def _cancel(self) -> None:
        tasks = set(self.server_state.tasks)
        _log.warning("requests were cut off because draining took too long", requests=len(tasks))
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_AFTER_CANCEL_S)
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()

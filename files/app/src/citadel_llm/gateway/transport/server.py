"""What all connections of one listener share."""

from __future__ import annotations

import asyncio
import socket

from citadel_llm.gateway.transport.connection import ClientConnection
from citadel_llm.gateway.transport.limits import ConnectionCount, Limits
from citadel_llm.gateway.transport.request import Application


class HttpServer:
    """Accepts connections for an application. It must be made inside the running loop."""

    def __init__(self, application: Application, limits: Limits) -> None:
        self.application = application
        self.limits = limits
        self.loop = asyncio.get_running_loop()
        self.draining = False
        self.count = ConnectionCount(limits)
        self.connections: set[ClientConnection] = set()
        self._servers: list[asyncio.Server] = []

    async def listen(self, sock: socket.socket, backlog: int) -> None:
        """Accept on a socket that is bound."""
        server = await self.loop.create_server(lambda: ClientConnection(self), sock=sock, backlog=backlog)
        self._servers.append(server)

    def stop_accepting(self) -> None:
        """Close the listening sockets, and tell clients with their next answer to close."""
        self.draining = True
        for server in self._servers:
            server.close()
        self._servers.clear()

    def opened(self, connection: ClientConnection, address: str) -> bool:
        """A connection has been accepted. False when it is one too many."""
        if not self.count.enter(address):
            return False
        self.connections.add(connection)
        return True

    def closed(self, connection: ClientConnection, address: str) -> None:
        self.count.leave(address)
        self.connections.discard(connection)

    @property
    def busy(self) -> int:
        """Connections on which a request is being served."""
        return sum(not connection.idle for connection in self.connections)

"""What a client may cost before anybody knows who it is."""

from __future__ import annotations

from dataclasses import dataclass

EDGE_ADDRESSES = frozenset({"127.0.0.1", "::1", ""})
"""Where the edge connects from. It counts its own clients, so its connections are not counted per address."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one listener. Sizes in bytes, times in seconds."""

    head_bytes: int = 32 * 1024
    head_fields: int = 100
    body_bytes: int = 32 * 1024 * 1024
    head_s: float = 15.0
    body_s: float = 60.0
    keepalive_s: float = 75.0
    linger_s: float = 2.0
    connections: int = 16_384
    connections_per_address: int = 1_024


class ConnectionCount:
    """Open connections, in all and by address."""

    def __init__(self, limits: Limits) -> None:
        self.total = 0
        self.refused = 0
        self._limits = limits
        self._by_address: dict[str, int] = {}

    def enter(self, address: str) -> bool:
        """Count a connection. False when it is one too many; it is not counted then."""
        here = self._by_address.get(address, 0)
        too_many_here = address not in EDGE_ADDRESSES and here >= self._limits.connections_per_address
        if too_many_here or self.total >= self._limits.connections:
            self.refused += 1
            return False
        self.total += 1
        self._by_address[address] = here + 1
        return True

    def leave(self, address: str) -> None:
        """A connection that was counted is gone."""
        self.total -= 1
        left = self._by_address[address] - 1
        if left:
            self._by_address[address] = left
        else:
            del self._by_address[address]

"""The service manager's protocol: notifications, the watchdog, and sockets that were passed in."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass

_FIRST_FD = 3


def notify(*states: str) -> bool:
    """Tell the service manager, e.g. ``notify("READY=1", "STATUS=…")``. False when there is none to tell."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.connect(address)
            sock.sendall("\n".join(states).encode())
    except OSError:
        return False  # a lost notification must not end a service that works
    return True


def notify_reloading() -> bool:
    """Tell that a reload begins; `notify("READY=1")` tells its end."""
    return notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def watchdog_interval() -> float | None:
    """Seconds between two ``WATCHDOG=1`` (half of what the unit allows); None without a watchdog."""
    usec = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID", "")
    if not usec.isdigit() or int(usec) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 2_000_000


@dataclass(frozen=True, slots=True)
class PassedSocket:
    """A listening socket that the service manager opened. `name` is its FileDescriptorName."""

    name: str
    sock: socket.socket


def passed_sockets() -> list[PassedSocket]:
    """Take the sockets of a socket unit, once: the variables are removed, so no child takes them again."""
    pid = os.environ.pop("LISTEN_PID", "")
    count = os.environ.pop("LISTEN_FDS", "")
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    taken = []
    for offset in range(int(count)):
        fd = _FIRST_FD + offset
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
        sock.setblocking(False)
        taken.append(PassedSocket(names[offset] if offset < len(names) else "", sock))
    return taken

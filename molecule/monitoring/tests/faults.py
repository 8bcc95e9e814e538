"""Faults that are made for real, what each must be told as, and how it is mended."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

FASTER = float(os.environ.get("CITADEL_RULES_FASTER", "10"))
"""How many times faster than in production the rules are; see the scenario's inventory."""
AMBIENT = {"Watchdog", "ClockNotSynchronised"}
"""The first always fires; lab hosts have the clock of the machine below them, which may have no source."""
_CERTIFICATE = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=spare -days {days}"
    " -keyout /srv/spare.key -out /srv/spare.new 2>/dev/null && mv /srv/spare.new /srv/spare.crt"
)
_LOOK_NOW = "" if FASTER == 1 else " && systemctl restart citadel-exporter"
"""The exporter looks at certificates once a minute, at GPUs twice; that is not divided."""


@dataclass(frozen=True)
class Fault:
    """`promised` is within how many seconds it is told with the rules as they are by default: the wait of the
    rule, two scrapes, the exporter's own interval, and the group's wait."""

    name: str
    alert: str
    make: str
    mend: str
    promised: float
    labels: dict[str, str] = field(default_factory=dict)
    on_central: bool = False

    @property
    def within(self) -> float:
        """Seconds within which it must be told here, where the machine is busy."""
        return self.promised / FASTER + 45


TOGETHER = (
    Fault(
        "an engine is killed",
        "EngineDown",
        "systemctl kill -s KILL citadel-engine@stand-in",
        "systemctl reset-failed citadel-engine@stand-in && systemctl start citadel-engine@stand-in",
        150,
        {"deployment": "stand-in"},
    ),
    Fault(
        "an engine hangs",
        "EngineDown",
        "systemctl kill -s STOP citadel-engine@spare",
        "systemctl kill -s CONT citadel-engine@spare",
        150,
        {"deployment": "spare"},
    ),
    Fault(
        "a disk is full",
        "DiskAlmostFull",
        "dd if=/dev/zero of=/mnt/small/fill bs=1M 2>/dev/null; df /mnt/small",
        "rm /mnt/small/fill",
        360,
        {"mountpoint": "/mnt/small"},
    ),
    Fault("a GPU is hot", "GpuHot", "touch /srv/hot", "rm /srv/hot", 360, {"gpu": "1"}),
    Fault(
        "a neighbour is away",
        "NeighbourUnreachable",
        "systemctl stop neighbour",
        "systemctl start neighbour",
        390,
        {"probe": "neighbour"},
        on_central=True,
    ),
    Fault(
        "the driver reports an Xid",
        "GpuXidFatal",
        "echo 'NVRM: Xid (PCI:0000:01:00): 79, GPU has fallen off the bus.' >> /srv/kernel.log",
        "true",
        90,
        {"gpu": "0", "xid": "79"},
    ),
    Fault(
        "a certificate ends in two days",
        "CertificateEnds",
        _CERTIFICATE.format(days=2) + _LOOK_NOW,
        _CERTIFICATE.format(days=90) + _LOOK_NOW,
        720,
        {"certificate": "spare"},
    ),
)
GATEWAY = Fault(
    "the gateway is stopped",
    "GatewayDown",
    "systemctl stop citadel-gateway.socket citadel-gateway.service",
    "systemctl start citadel-gateway.socket citadel-gateway.service",
    150,
)
HOST = Fault(
    "a host cannot be reached",
    "HostDown",
    "systemctl stop citadel-listener@metrics",
    "systemctl start citadel-listener@metrics",
    120,
)

"""Every path and name of the lab, in one place.

State, by default `/var/lib/citadel-lab` (`CITADEL_LAB_STATE`):

    lock, locks/NAME.lock        serialise lab commands
    id_ed25519, id_ed25519.pub   the key that every host accepts for root
    known_hosts                  the hosts' own keys, for UserKnownHostsFile
    network.json                 the subnet in use
    hosts/NAME/
        host.json                the record: address, suite, base image, disks, whether it was completed
        ip, suite                two facts of the record as plain files, for shell scripts
        runner, pid              `PID STARTTIME` of the supervisor, PID of the host's own PID 1
        console.log, runner.log  what PID 1 prints, what the supervisor prints
        cgroups                  the host's cgroup directories, one a line
        upper, work, root        the overlay
        disk-UID-NAME.img        loop disks (sparse)

Cache, by default `~/.cache/citadel` (`CITADEL_CACHE`): `lab/SUITE-KEY/`, one root file system per image.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
REPOSITORY = PACKAGE.parent
GUEST = PACKAGE / "guest"
MACHINE_RUN = Path("/run/citadel-lab")
DEFAULT_NETWORK = "10.213.77.0/24"


@dataclass(frozen=True)
class HostPaths:
    """Files of one host."""

    directory: Path

    @property
    def record(self) -> Path:
        return self.directory / "host.json"

    @property
    def runner(self) -> Path:
        return self.directory / "runner"

    @property
    def pid(self) -> Path:
        return self.directory / "pid"

    @property
    def outer_pid(self) -> Path:
        return self.directory / "pid.boot"

    @property
    def console(self) -> Path:
        return self.directory / "console.log"

    @property
    def runner_log(self) -> Path:
        return self.directory / "runner.log"

    @property
    def cgroups(self) -> Path:
        return self.directory / "cgroups"

    @property
    def upper(self) -> Path:
        return self.directory / "upper"

    @property
    def work(self) -> Path:
        return self.directory / "work"

    @property
    def root(self) -> Path:
        return self.directory / "root"

    def disk(self, uid: str, name: str) -> Path:
        return self.directory / f"disk-{uid}-{name}.img"


@dataclass(frozen=True)
class State:
    """One lab: a state directory, and the names that it gives to things of the machine."""

    directory: Path

    @classmethod
    def from_environment(cls) -> State:
        return cls(Path(os.environ.get("CITADEL_LAB_STATE") or "/var/lib/citadel-lab").resolve())

    @property
    def tag(self) -> str:
        """Six characters that keep labs with different state directories apart."""
        return hashlib.sha256(str(self.directory).encode()).hexdigest()[:6]

    @property
    def bridge(self) -> str:
        return f"lab-{self.tag}"

    @property
    def nft_table(self) -> str:
        return f"citadel_lab_{self.tag}"

    @property
    def lock(self) -> Path:
        return self.directory / "lock"

    @property
    def key(self) -> Path:
        return self.directory / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.directory / "known_hosts"

    @property
    def network(self) -> Path:
        return self.directory / "network.json"

    @property
    def hosts(self) -> Path:
        return self.directory / "hosts"

    def host(self, name: str) -> HostPaths:
        return HostPaths(self.hosts / name)

    def host_lock(self, name: str) -> Path:
        return self.directory / "locks" / f"{name}.lock"

    def cgroup(self, name: str) -> str:
        return f"citadel-lab-{self.tag}-{name}"

    def veth(self, address: str) -> str:
        """The machine's end of a host's cable; interface names have at most 15 characters."""
        return f"lv{self.tag}.{address.rpartition('.')[2]}"


def image_cache() -> Path:
    """The folder of the base images."""
    cache = os.environ.get("CITADEL_CACHE")
    return (Path(cache) if cache else Path.home() / ".cache" / "citadel").resolve() / "lab"

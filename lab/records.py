"""What the lab remembers of a host, and which names and addresses are taken."""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from lab.paths import HostPaths, State
from lab.system import LabError, read_text, size_in_bytes, write_atomic

NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
DISK = re.compile(r"[a-z][a-z0-9]{1,14}")
# Names that a host has of its own: a link over one of them would break it.
RESERVED_DISKS = re.compile(
    r"(loop|tty|null|zero|full|random|urandom|fuse|shm|pts|mqueue|net|log|fd|std|core|disk$).*"
)


@dataclass(frozen=True)
class HostRecord:
    """One host. `disks` maps a device name to its size in bytes; `uid` marks the files of its disks."""

    name: str
    address: str
    suite: str
    base: str
    uid: str = field(default_factory=lambda: secrets.token_hex(4))
    disks: dict[str, int] = field(default_factory=dict)
    completed: bool = False

    def with_disk(self, name: str, size: int) -> HostRecord:
        return replace(self, disks={**self.disks, name: size})

    def without_disk(self, name: str) -> HostRecord:
        return replace(self, disks={key: size for key, size in self.disks.items() if key != name})

    def save(self, paths: HostPaths) -> None:
        write_atomic(paths.record, json.dumps(asdict(self), indent=2) + "\n")


def load(paths: HostPaths) -> HostRecord | None:
    """The record, or None where there is none yet."""
    text = read_text(paths.record)
    return HostRecord(**json.loads(text)) if text else None


def load_all(state: State) -> list[HostRecord]:
    """Every host that has a record, by name."""
    directories = sorted(state.hosts.glob("*")) if state.hosts.is_dir() else []
    return [record for path in directories if (record := load(HostPaths(path))) is not None]


def require(state: State, name: str) -> HostRecord:
    """The record of a host; raises LabError naming the hosts there are."""
    record = load(state.host(check_name(name)))
    if record is None:
        names = ", ".join(known.name for known in load_all(state)) or "none"
        raise LabError(f"no host {name!r} (hosts: {names}): 'python3 -m lab up {name}' makes it")
    return record


def check_name(name: str) -> str:
    """A host name of the lab is a DNS label in lower case, at most 40 characters."""
    if not NAME.fullmatch(name):
        raise LabError(
            f"host name {name!r}: use up to 40 lower-case letters, digits and hyphens, a letter first"
        )
    return name


def parse_disk(text: str) -> tuple[str, int]:
    """`nvme0n1=2G` as `("nvme0n1", 2147483648)`."""
    name, separator, size = text.partition("=")
    if not separator:
        raise LabError(f"--disk {text!r}: give DEVICE=SIZE, such as nvme0n1=2G")
    return check_disk(name), size_in_bytes(size)


def check_disk(name: str) -> str:
    """A name below /dev that does not hide a device of the host's own."""
    if not DISK.fullmatch(name) or RESERVED_DISKS.fullmatch(name):
        raise LabError(f"disk name {name!r}: use a device name such as nvme0n1, sda or vdb")
    return name


def hosts_file(name: str, own: str, others: list[HostRecord]) -> str:
    """A new host's /etc/hosts."""
    head = f"127.0.0.1 localhost\n{own} {name}\n::1 localhost ip6-localhost ip6-loopback\n"
    return head + neighbours_block(name, others)


BEGIN, END = "# lab hosts: begin", "# lab hosts: end"


def neighbours_block(name: str, hosts: list[HostRecord]) -> str:
    """The other hosts of the lab, between two marks."""
    lines = [f"{host.address} {host.name}" for host in hosts if host.name != name]
    return "\n".join([BEGIN, *lines, END]) + "\n"


def replace_block(text: str, block: str) -> str:
    """Put a new block in the place of the old one, or at the end."""
    pattern = re.compile(rf"^{BEGIN}\n.*?^{END}\n", re.MULTILINE | re.DOTALL)
    if pattern.search(text):
        return pattern.sub(lambda _: block, text, count=1)
    return text + ("" if not text or text.endswith("\n") else "\n") + block


def nameservers(candidates: tuple[Path, ...]) -> str:
    """The first resolv.conf that a host can use: a resolver on loopback answers only the machine itself."""
    for path in candidates:
        text = read_text(path)
        servers = re.findall(r"^nameserver\s+(\S+)", text, re.MULTILINE)
        if any(not server.startswith("127.") and server != "::1" for server in servers):
            return text
    raise LabError(
        f"no name server that a host can reach in {' or '.join(map(str, candidates))}: add one there"
    )

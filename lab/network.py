"""The private bridge, address translation to the outside, and the kernel settings that both need."""

from __future__ import annotations

import ipaddress
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.paths import DEFAULT_NETWORK, MACHINE_RUN, State
from lab.system import LabError, lock, read_text, run, wait_until, write_atomic

FIRST_STATIC, FIRST_AUTOMATIC, LAST = 10, 100, 254
# Setting -> least value while any lab runs. Every systemd inside needs a dozen of root's inotify instances.
SETTINGS = {"net/ipv4/ip_forward": 1, "fs/inotify/max_user_instances": 1024}


@dataclass(frozen=True)
class Subnet:
    """A /24: .1 is the machine, .10 to .99 are for fixed addresses, .100 to .254 are given out."""

    network: ipaddress.IPv4Network

    @classmethod
    def parse(cls, text: str) -> Subnet:
        try:
            network = ipaddress.IPv4Network(text)
        except ValueError as error:
            raise LabError(
                f"CITADEL_LAB_NET={text!r}: {error}; give a /24 such as {DEFAULT_NETWORK}"
            ) from error
        if network.prefixlen != 24:
            raise LabError(f"CITADEL_LAB_NET={text!r}: give a /24 such as {DEFAULT_NETWORK}")
        return cls(network)

    @property
    def gateway(self) -> str:
        return str(self.network[1])

    def check_static(self, address: str) -> str:
        """Raises LabError unless the address is one that a host can be given."""
        try:
            parsed = ipaddress.IPv4Address(address)
        except ValueError as error:
            raise LabError(f"--ip {address!r}: {error}") from error
        if parsed not in self.network or not FIRST_STATIC <= int(parsed) & 0xFF <= LAST:
            low, high = self.network[FIRST_STATIC], self.network[LAST]
            raise LabError(
                f"--ip {address}: choose an address from {low} to {high} (CITADEL_LAB_NET moves them)"
            )
        return address

    def allocate(self, taken: set[str]) -> str:
        """The lowest free automatic address."""
        for number in range(FIRST_AUTOMATIC, LAST + 1):
            if (address := str(self.network[number])) not in taken:
                return address
        raise LabError(f"no address left in {self.network}: take a host down ('lab list')")


def configured_subnet(state: State) -> Subnet:
    """The subnet of the running lab, else the one of the environment, else the default.

    Raises LabError when the environment asks for another than the running lab's.
    """
    asked = os.environ.get("CITADEL_LAB_NET")
    recorded = read_text(state.network)
    if not recorded:
        return Subnet.parse(asked or DEFAULT_NETWORK)
    running = Subnet.parse(json.loads(recorded)["network"])
    if asked and Subnet.parse(asked) != running:
        raise LabError(f"CITADEL_LAB_NET={asked}, but hosts run on {running.network}: 'lab clean' first")
    return running


def conflicts(subnet: Subnet, routes: list[dict[str, Any]], own_bridge: str) -> list[str]:
    """The machine's routes (as `ip -json route` prints them) that overlap with the subnet."""
    found = []
    for route in routes:
        destination = str(route.get("dst", "default"))
        if destination == "default" or route.get("dev") == own_bridge:
            continue
        if ipaddress.IPv4Network(destination, strict=False).overlaps(subnet.network):
            found.append(f"{destination} dev {route.get('dev', '?')}")
    return found


def ensure(state: State) -> Subnet:
    """Make what is missing of bridge, table and settings. The caller holds the state's lock."""
    subnet = configured_subnet(state)
    routes = json.loads(run(["ip", "-json", "-4", "route", "show", "table", "main"]) or "[]")
    if taken := conflicts(subnet, routes, state.bridge):
        raise LabError(f"{subnet.network} overlaps with route {taken[0]}: set CITADEL_LAB_NET to a free /24")
    write_atomic(state.network, json.dumps({"network": str(subnet.network)}) + "\n")
    if not _has_interface(state.bridge):
        run(["ip", "link", "add", state.bridge, "type", "bridge"])
    run(["ip", "address", "replace", f"{subnet.gateway}/24", "dev", state.bridge])
    run(["ip", "link", "set", state.bridge, "up"])
    run(["nft", "--file", "-"], stdin=_table(state, subnet))
    _hold_settings(state)
    return subnet


def _table(state: State, subnet: Subnet) -> str:
    """Our own table, replaced as a whole: others cannot reach in, hosts can reach out."""
    table, bridge, network = state.nft_table, state.bridge, subnet.network
    return f"""
table ip {table}
delete table ip {table}
table ip {table} {{
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    ip saddr {network} ip daddr != {network} masquerade
  }}
  chain forward {{
    type filter hook forward priority filter;
    oifname "{bridge}" iifname != "{bridge}" ct state new drop
  }}
}}
"""


def remove(state: State) -> None:
    """Take away everything that ensure() made. The caller holds the state's lock."""
    if _has_interface(state.bridge):
        run(["ip", "link", "delete", state.bridge])
    if f"table ip {state.nft_table}\n" in run(["nft", "list", "tables", "ip"]):
        run(["nft", "delete", "table", "ip", state.nft_table])
    _release_settings(state)
    state.network.unlink(missing_ok=True)


def plug(state: State, pid: int, address: str) -> None:
    """Lay a cable from the bridge to `eth0` in the network namespace of a process."""
    cable = state.veth(address)
    unplug(state, address)
    # Always the same hardware address: another one would be unknown to its neighbours for half a minute.
    hardware = "02:00:" + ipaddress.IPv4Address(address).packed.hex(":")
    end = ["peer", "name", "eth0", "address", hardware, "netns", str(pid)]
    run(["ip", "link", "add", cable, "type", "veth", *end])
    run(["ip", "link", "set", cable, "master", state.bridge, "up"])
    commands = ["link set lo up", f"address add {address}/24 dev eth0", "link set eth0 up"]
    commands.append(f"route add default via {address.rpartition('.')[0]}.1")
    enter = ["nsenter", "--target", str(pid), "--net"]
    run([*enter, "ip", "-batch", "-"], stdin="\n".join(commands) + "\n")


def unplug(state: State, address: str) -> None:
    """Remove a host's cable. The kernel may be about to: it ends a namespace after its last process."""
    cable = state.veth(address)
    if _has_interface(cable):
        run(["ip", "link", "delete", cable], check=False)
    if not wait_until(lambda: not _has_interface(cable), 5):
        raise LabError(f"network interface {cable} cannot be removed: 'ip link delete {cable}'")


def _has_interface(name: str) -> bool:
    return Path("/sys/class/net", name).exists()


def _hold_settings(state: State) -> None:
    """Raise kernel settings; the first lab on the machine notes what they were."""
    with lock(MACHINE_RUN / "lock", "the machine's settings"):
        previous = MACHINE_RUN / "previous.json"
        boot = read_text(Path("/proc/sys/kernel/random/boot_id")).strip()
        noted = json.loads(read_text(previous) or "{}")
        if noted.get("boot") != boot:
            values = {name: int(read_text(Path("/proc/sys", name))) for name in SETTINGS}
            write_atomic(previous, json.dumps({"boot": boot, "values": values}) + "\n")
        (MACHINE_RUN / f"user-{state.tag}").touch()
        for name, least in SETTINGS.items():
            if int(read_text(Path("/proc/sys", name))) < least:
                Path("/proc/sys", name).write_text(f"{least}\n")


def _release_settings(state: State) -> None:
    """The last lab on the machine puts the settings back, unless somebody else changed them since."""
    with lock(MACHINE_RUN / "lock", "the machine's settings"):
        (MACHINE_RUN / f"user-{state.tag}").unlink(missing_ok=True)
        previous = MACHINE_RUN / "previous.json"
        if _users() or not previous.exists():
            return
        for name, value in json.loads(previous.read_text())["values"].items():
            path = Path("/proc/sys", name)
            if value < SETTINGS[name] == int(path.read_text()):
                path.write_text(f"{value}\n")
        previous.unlink()


def _users() -> set[str]:
    """Labs that hold the settings, without those whose bridge is gone."""
    tags = {path.name.removeprefix("user-") for path in MACHINE_RUN.glob("user-*")}
    for tag in [tag for tag in tags if not _has_interface(f"lab-{tag}")]:
        (MACHINE_RUN / f"user-{tag}").unlink(missing_ok=True)
        tags.discard(tag)
    return tags

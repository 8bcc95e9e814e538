# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network identity and clock of a host: what only the running kernel can tell."""

from __future__ import annotations

import ctypes
import socket
import struct
from typing import Any, Dict, Iterator, List, Optional, Tuple

from ansible_collections.citadel.llm.plugins.module_utils._host_info_tree import Tree

RTM_NEWADDR = 20
RTM_GETADDR = 22
NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_REQUEST_DUMP = 0x301
IFA_ADDRESS = 1
IFA_LOCAL = 2
STA_UNSYNC = 0x40
TIME_DAEMONS = ("chronyd", "ntpd", "systemd-timesyn", "ptp4l", "phc2sys", "openntpd")


def addresses() -> List[Dict[str, Any]]:
    """``address, prefix, family, interface, scope`` of every address of the running host, by netlink.

    Raises OSError where the kernel refuses the question.
    """
    request = struct.pack("=IHHII", 24, RTM_GETADDR, NLM_F_REQUEST_DUMP, 1, 0) + bytes(8)
    found: List[Dict[str, Any]] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as kernel:
        kernel.settimeout(1.0)
        kernel.sendto(request, (0, 0))
        while True:
            done = False
            for kind, body in _messages(kernel.recv(1 << 16)):
                done = done or kind in (NLMSG_DONE, NLMSG_ERROR)
                if kind == RTM_NEWADDR:
                    entry = _address(body)
                    if entry is not None:
                        found.append(entry)
            if done:
                return found


def _messages(data: bytes) -> Iterator[Tuple[int, bytes]]:
    while len(data) >= 16:
        length, kind = struct.unpack_from("=IH", data)
        if length < 16:
            return
        yield kind, data[16:length]
        data = data[(length + 3) & ~3 :]


def _address(body: bytes) -> Optional[Dict[str, Any]]:
    family, prefix, _flags, scope, index = struct.unpack_from("=BBBBI", body)
    attributes = {}
    rest = body[8:]
    while len(rest) >= 4:
        length, kind = struct.unpack_from("=HH", rest)
        if length < 4:
            break
        attributes[kind] = rest[4:length]
        rest = rest[(length + 3) & ~3 :]
    packed = attributes.get(IFA_LOCAL) or attributes.get(IFA_ADDRESS)
    if packed is None or family not in (socket.AF_INET, socket.AF_INET6):
        return None
    try:
        interface = socket.if_indextoname(index)
    except OSError:
        interface = None
    return {
        "address": socket.inet_ntop(family, packed),
        "prefix": prefix,
        "family": "ipv4" if family == socket.AF_INET else "ipv6",
        "interface": interface,
        "scope": {0: "global", 253: "link", 254: "host"}.get(scope, "other"),
    }


def interfaces(tree: Tree) -> List[Dict[str, Any]]:
    """``name, state, mtu, speed_mbps, mac, physical`` of every interface but the loopback."""
    result = []
    for name in tree.names("/sys/class/net"):
        base = "/sys/class/net/" + name
        if name == "lo" or not tree.exists(base + "/mtu"):
            continue
        speed = tree.number(base + "/speed")
        result.append(
            {
                "name": name,
                "state": tree.text(base + "/operstate"),
                "mtu": tree.number(base + "/mtu"),
                "speed_mbps": speed if speed and speed > 0 else None,
                "mac": tree.text(base + "/address"),
                "physical": tree.exists(base + "/device"),
            }
        )
    return result


def default_gateway(tree: Tree) -> Optional[Dict[str, str]]:
    """``interface, address`` of the default route with the lowest metric, or None."""
    routes = []
    for line in tree.lines("/proc/net/route")[1:]:
        fields = line.split()
        if len(fields) >= 8 and fields[1] == "00000000" and fields[7] == "00000000":
            gateway = socket.inet_ntop(socket.AF_INET, struct.pack("=I", int(fields[2], 16)))
            routes.append((int(fields[6]), fields[0], gateway))
    if not routes:
        return None
    _metric, interface, gateway = min(routes)
    return {"interface": interface, "address": gateway}


def clock_synchronised() -> Optional[bool]:
    """What the kernel's clock discipline says (adjtimex, reading only); None where it cannot be asked."""
    buffer = ctypes.create_string_buffer(512)  # struct timex is 208 bytes; modes = 0 only reads
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    except (OSError, AttributeError):
        return None
    if state < 0:
        return None
    status = struct.unpack_from("@Illlli", buffer.raw)[5]
    return not status & STA_UNSYNC


def time_daemons(tree: Tree) -> List[str]:
    """Those daemons among the running processes that discipline the clock."""
    running = set()
    for name in tree.names("/proc"):
        if name.isdigit():
            running.add(tree.text("/proc/%s/comm" % name))
    return [daemon for daemon in TIME_DAEMONS if daemon in running]

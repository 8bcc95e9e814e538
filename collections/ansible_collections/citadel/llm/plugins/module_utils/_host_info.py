# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts about a host that matter to serving models. Reads /proc, /sys and /etc; runs no command."""

from __future__ import annotations

import os
import re
import resource
import socket
import sys
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from ansible_collections.citadel.llm.plugins.module_utils import _host_info_cpu, _host_info_network
from ansible_collections.citadel.llm.plugins.module_utils._host_info_tree import Tree

SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
HYPERVISORS = (
    ("QEMU", "kvm"),
    ("KVM", "kvm"),
    ("OpenStack", "kvm"),
    ("Google", "kvm"),
    ("Amazon EC2", "amazon"),
    ("VMware", "vmware"),
    ("VirtualBox", "virtualbox"),
    ("innotek", "virtualbox"),
    ("Xen", "xen"),
    ("Bochs", "bochs"),
    ("Parallels", "parallels"),
    ("Microsoft Corporation", "hyperv"),
)
SYSCTLS = {
    "file_max": "/proc/sys/fs/file-max",
    "nr_open": "/proc/sys/fs/nr_open",
    "max_map_count": "/proc/sys/vm/max_map_count",
    "overcommit_memory": "/proc/sys/vm/overcommit_memory",
    "pid_max": "/proc/sys/kernel/pid_max",
    "somaxconn": "/proc/sys/net/core/somaxconn",
    "swappiness": "/proc/sys/vm/swappiness",
}


class Calls(NamedTuple):
    """What is asked of the running kernel instead of its files."""

    addresses: Callable[[], List[Dict[str, Any]]] = _host_info_network.addresses
    clock_synchronised: Callable[[], Optional[bool]] = _host_info_network.clock_synchronised
    hostname: Callable[[], str] = socket.gethostname
    architecture: Callable[[], str] = lambda: os.uname().machine
    kernel: Callable[[], str] = lambda: os.uname().release


def gather(root: str = "/", calls: Optional[Calls] = None) -> Dict[str, Any]:
    """Everything about the host; what cannot be found out is None, never a guess.

    Files are read below ``root``. Host name, addresses and clock always are those of the running kernel;
    kernel release and architecture are, where the tree has no record of them.
    """
    tree, calls = Tree(root), calls or Calls()
    system = operating_system(tree)
    system["kernel"] = tree.text("/proc/sys/kernel/osrelease") or calls.kernel()
    system["architecture"] = tree.text("/proc/sys/kernel/arch") or calls.architecture()
    virtual = virtualization(tree)
    return {
        "cpu": _host_info_cpu.cpu(tree),
        "memory": _host_info_cpu.memory(tree),
        "os": system,
        "python": {"version": "%d.%d.%d" % sys.version_info[:3], "executable": sys.executable},
        "virtualization": virtual,
        "machine": _machine(tree),
        "boot": _boot(tree),
        "reboot": reboot(tree, str(system["kernel"]), virtual["container"] is not None),
        "time": {
            "synchronized": calls.clock_synchronised(),
            "daemons": _host_info_network.time_daemons(tree),
        },
        "network": _network(tree, calls),
        "tuning": _tuning(tree),
    }


def operating_system(tree: Tree) -> Dict[str, Any]:
    """``id, version, name, codename, init`` from os-release and the first process."""
    text = tree.text("/etc/os-release") or tree.text("/usr/lib/os-release") or ""
    fields = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals:
            fields[name.strip()] = value.strip().strip("\"'")
    version = fields.get("VERSION_ID")
    point = re.match(r"[\d.]+", fields.get("VERSION", ""))
    if version and point and point.group().startswith(version + "."):
        version = point.group()
    if fields.get("ID") == "debian" and version:
        exact = tree.text("/etc/debian_version") or ""
        version = exact if exact.startswith(version + ".") else version
    return {
        "id": fields.get("ID"),
        "version": version,
        "name": fields.get("PRETTY_NAME"),
        "codename": fields.get("VERSION_CODENAME"),
        "init": tree.text("/proc/1/comm"),
    }


def virtualization(tree: Tree) -> Dict[str, Optional[str]]:
    """``type``: C(none), a hypervisor's name or None where unknown; ``container``: its manager or None."""
    return {"type": _hypervisor(tree), "container": _container(tree)}


def _hypervisor(tree: Tree) -> Optional[str]:
    told = " ".join(
        tree.text("/sys/class/dmi/id/" + name) or "" for name in ("sys_vendor", "product_name", "bios_vendor")
    )
    cpuinfo = tree.text("/proc/cpuinfo") or ""
    guest = re.search(r"^flags\s*:.*\bhypervisor\b", cpuinfo, re.MULTILINE) is not None
    named = next((kind for text, kind in HYPERVISORS if text.lower() in told.lower()), None)
    if named == "hyperv" and not guest:  # the maker of tablets and laptops, too
        named = None
    if named:
        return named
    if guest:
        return tree.text("/sys/hypervisor/type") or "other"
    return "none" if cpuinfo else None


def _container(tree: Tree) -> Optional[str]:
    recorded = tree.text("/run/systemd/container")
    if recorded:
        return recorded
    for entry in (tree.data("/proc/1/environ") or b"").split(b"\0"):
        if entry.startswith(b"container=") and len(entry) > 10:
            return entry[10:].decode("utf-8", "replace")
    if tree.exists("/.dockerenv"):
        return "docker"
    return "podman" if tree.exists("/run/.containerenv") else None


def _machine(tree: Tree) -> Dict[str, Optional[str]]:
    base = "/sys/class/dmi/id/"
    return {
        "vendor": tree.text(base + "sys_vendor"),
        "product": tree.text(base + "product_name"),
        "board": tree.text(base + "board_name"),
        "bios_version": tree.text(base + "bios_version"),
        "bios_date": tree.text(base + "bios_date"),
    }


def _boot(tree: Tree) -> Dict[str, Any]:
    uptime = re.match(r"(\d+)", tree.text("/proc/uptime") or "")
    secure = tree.data(SECURE_BOOT)  # four bytes of attributes, then the value
    uefi = tree.exists("/sys/firmware/efi")
    return {
        "mode": "uefi" if uefi else "bios",
        "secure_boot": (secure[4] == 1 if secure and len(secure) >= 5 else None) if uefi else False,
        "uptime_s": int(uptime.group(1)) if uptime else None,
    }


def reboot(tree: Tree, running: str, container: bool) -> Dict[str, Any]:
    """``required`` and the ``reasons``, worked out from the state of now: no stored flag is needed."""
    reasons = []
    if tree.exists("/run/reboot-required"):
        packages = sorted(set(tree.lines("/run/reboot-required.pkgs")))
        reasons.append("packages ask for it: " + ", ".join(packages) if packages else "a package asks for it")
    if not container:
        reasons.extend(_kernel_reasons(tree, running))
    return {"required": bool(reasons), "reasons": reasons}


def _kernel_reasons(tree: Tree, running: str) -> List[str]:
    modules = tree.names("/lib/modules") or tree.names("/usr/lib/modules")
    if modules and running not in modules:
        return ["the modules of the running kernel %s are no longer installed" % running]
    flavour = _flavour(running)
    installed = [name[len("vmlinuz-") :] for name in tree.names("/boot") if name.startswith("vmlinuz-")]
    newer = [
        release
        for release in installed
        if _flavour(release) == flavour and version_key(release) > version_key(running)
    ]
    if not newer:
        return []
    return ["kernel %s is installed, %s is running" % (max(newer, key=version_key), running)]


def _flavour(release: str) -> str:
    return re.sub(r"^[\d.\-+~]+(rc\d+)?", "", release)


def version_key(version: str) -> Tuple[int, ...]:
    """The numbers of a version, for comparing: C(6.8.0-60-generic) is (6, 8, 0, 60)."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:6])


def _network(tree: Tree, calls: Calls) -> Dict[str, Any]:
    try:
        known = calls.addresses()  # type: Optional[List[Dict[str, Any]]]
    except OSError:
        known = None
    hostname = calls.hostname()
    return {
        "hostname": hostname.split(".")[0],
        "fqdn": _fqdn(tree, hostname),
        "addresses": known,
        "interfaces": _host_info_network.interfaces(tree),
        "gateway": _host_info_network.default_gateway(tree),
    }


def _fqdn(tree: Tree, hostname: str) -> Optional[str]:
    """The full name as the host itself records it; a name server is not asked, it may not answer."""
    if "." in hostname:
        return hostname
    for line in tree.lines("/etc/hosts"):
        names = line.partition("#")[0].split()[1:]
        if hostname in names:
            full = [name for name in names if name.startswith(hostname + ".")]
            if full:
                return full[0]
    for line in tree.lines("/etc/resolv.conf"):
        words = line.split()
        if len(words) > 1 and words[0] == "domain":
            return hostname + "." + words[1]
    return None


def _tuning(tree: Tree) -> Dict[str, Any]:
    command_line = (tree.text("/proc/cmdline") or "").split()
    result = {
        "iommu": {
            "groups": len(tree.names("/sys/kernel/iommu_groups")),
            "parameters": [word for word in command_line if "iommu" in word],
        },
        "huge_pages": _host_info_cpu.huge_pages(tree),
        "shm_mib": _shm_mib(tree),
        "cgroup_version": _cgroup_version(tree),
        "limits": {
            "open_files": _limit(resource.RLIMIT_NOFILE),
            "locked_memory_kib": _limit(resource.RLIMIT_MEMLOCK, 1024),
        },
    }  # type: Dict[str, Any]
    result["sysctl"] = {name: tree.number(path) for name, path in SYSCTLS.items()}
    return result


def _limit(kind: int, unit: int = 1) -> Optional[int]:
    """The hard limit of this session in units, None for unlimited."""
    hard = resource.getrlimit(kind)[1]
    return None if hard == resource.RLIM_INFINITY else hard // unit


def _shm_mib(tree: Tree) -> Optional[int]:
    try:
        state = os.statvfs(tree.path("/dev/shm"))  # noqa: S108 (looked at, nothing is created)
    except OSError:
        return None
    return state.f_blocks * state.f_frsize >> 20


def _cgroup_version(tree: Tree) -> Optional[int]:
    if tree.exists("/sys/fs/cgroup/cgroup.controllers"):
        return 2
    return 1 if tree.names("/sys/fs/cgroup") else None

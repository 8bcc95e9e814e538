# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts about a host, read from trees that are dressed as one machine or another."""

from __future__ import annotations

import json
import os
import pathlib
import socket
import struct
from typing import Any, Dict, List, Union

import pytest

from ansible_collections.citadel.llm.plugins.module_utils import _host_info as host_info
from ansible_collections.citadel.llm.plugins.module_utils import _host_info_cpu as cpu_info
from ansible_collections.citadel.llm.plugins.module_utils import _host_info_network as network_info
from ansible_collections.citadel.llm.plugins.module_utils._host_info_tree import Tree

Files = Dict[str, Union[str, bytes]]


def dress(root: pathlib.Path, files: Files) -> str:
    for name, content in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(root)


def cpuinfo(
    model: str, cores: int, threads_per_core: int = 1, flags: str = "fpu avx avx2", sockets: int = 1
) -> str:
    blocks: List[str] = []
    for package in range(sockets):
        for core in range(cores):
            for _thread in range(threads_per_core):
                blocks.append(
                    "processor\t: %d\nvendor_id\t: GenuineIntel\nmodel name\t: %s\nphysical id\t: %d\n"
                    "core id\t\t: %d\nflags\t\t: %s\n" % (len(blocks), model, package, core * 4, flags)
                )
    return "\n".join(blocks) + "\n"


def calls(**changes: Any) -> host_info.Calls:
    one = {"address": "192.0.2.9", "prefix": 24, "family": "ipv4", "interface": "eth0", "scope": "global"}
    values: Dict[str, Any] = {
        "addresses": lambda: [one],
        "clock_synchronised": lambda: True,
        "hostname": lambda: "server-one",
        "architecture": lambda: "x86_64",
        "kernel": lambda: "6.8.0-60-generic",
    }
    values.update(changes)
    return host_info.Calls(**values)


def memory_table(sizes_gib: Any, correction: int, kind: int = 0x22) -> bytes:
    """An SMBIOS table with one array and a module for each size."""
    array = struct.pack("<BBHBBB", 16, 15, 1, 3, 3, correction) + bytes(8) + b"\0\0"
    modules = b""
    for number, size in enumerate(sizes_gib):
        area = bytearray(0x28)
        area[0], area[1], area[0x12] = 17, len(area), kind
        if size >= 32:
            struct.pack_into("<H", area, 0x0C, 0x7FFF)
            struct.pack_into("<I", area, 0x1C, size * 1024)
        else:
            struct.pack_into("<H", area, 0x0C, size * 1024)
        modules += bytes(area) + b"DIMM %d\0\0" % number
    return array + modules + struct.pack("<BBH", 127, 4, 9) + b"\0\0"


RECORDED: Files = {
    "/proc/cpuinfo": cpuinfo("Intel(R) Core(TM) Ultra 9 285K", 24, flags="fpu avx avx2 avx_vnni f16c"),
    "/proc/meminfo": "MemTotal:  131072000 kB\nMemAvailable: 120000000 kB\nSwapTotal: 8388604 kB\n"
    "SwapFree: 8388604 kB\nHugePages_Total: 2\nHugePages_Free:  1\nHugepagesize:  2048 kB\n",
    "/etc/os-release": 'ID=ubuntu\nVERSION_ID="24.04"\nVERSION="24.04.2 LTS (Noble Numbat)"\n'
    'PRETTY_NAME="Ubuntu 24.04.2 LTS"\nVERSION_CODENAME=noble\n',
    "/etc/hosts": "127.0.0.1 localhost\n127.0.1.1 server-one.example.org server-one # itself\n",
    "/proc/sys/kernel/osrelease": "6.8.0-60-generic\n",
    "/proc/sys/vm/swappiness": "60\n",
    "/proc/1/comm": "systemd\n",
    "/proc/77/comm": "chronyd\n",
    "/proc/uptime": "3600.25 7000.1\n",
    "/proc/cmdline": "BOOT_IMAGE=/vmlinuz root=/dev/sda2 intel_iommu=on iommu=pt quiet\n",
    "/proc/net/route": "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n"
    "eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\n"
    "eth0\t000200C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\n",
    "/sys/class/dmi/id/sys_vendor": "ASUS\n",
    "/sys/class/dmi/id/product_name": "System Product Name\n",
    "/sys/class/net/eth0/mtu": "1500\n",
    "/sys/class/net/eth0/speed": "2500\n",
    "/sys/class/net/eth0/operstate": "up\n",
    "/sys/class/net/lo/mtu": "65536\n",
    "/sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
    "/sys/kernel/iommu_groups/0/type": "DMA\n",
    "/sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
    host_info.SECURE_BOOT: b"\x06\0\0\0\x01",
    "/lib/modules/6.8.0-60-generic/modules.dep": "",
    "/boot/vmlinuz-6.8.0-60-generic": "",
    "/boot/vmlinuz-6.8.0-59-generic": "",
}


def test_the_first_server(tmp_path: pathlib.Path) -> None:
    host = host_info.gather(dress(tmp_path, RECORDED), calls())
    assert host["cpu"]["model"] == "Intel(R) Core(TM) Ultra 9 285K"
    assert (host["cpu"]["cores"], host["cpu"]["threads"], host["cpu"]["sockets"]) == (24, 24, 1)
    assert host["cpu"]["flags"] == ["avx", "avx2", "avx_vnni", "f16c"]
    assert host["memory"]["total_mib"] == 128000
    assert host["os"] == {
        "id": "ubuntu",
        "version": "24.04.2",
        "name": "Ubuntu 24.04.2 LTS",
        "codename": "noble",
        "init": "systemd",
        "kernel": "6.8.0-60-generic",
        "architecture": "x86_64",
    }
    assert host["virtualization"] == {"type": "none", "container": None}
    assert host["boot"] == {"mode": "uefi", "secure_boot": True, "uptime_s": 3600}
    assert host["reboot"] == {"required": False, "reasons": []}
    assert host["time"] == {"synchronized": True, "daemons": ["chronyd"]}
    assert host["network"]["fqdn"] == "server-one.example.org"
    assert host["network"]["gateway"] == {"interface": "eth0", "address": "192.0.2.1"}
    assert [one["name"] for one in host["network"]["interfaces"]] == ["eth0"]
    assert host["network"]["interfaces"][0]["speed_mbps"] == 2500
    assert host["tuning"]["iommu"] == {"groups": 1, "parameters": ["intel_iommu=on", "iommu=pt"]}
    assert host["tuning"]["huge_pages"] == {
        "total": 2,
        "free": 1,
        "size_kib": 2048,
        "transparent": "madvise",
    }
    assert host["tuning"]["cgroup_version"] == 2
    assert host["tuning"]["sysctl"]["swappiness"] == 60
    json.dumps(host)


def test_an_empty_tree_gives_no_guess(tmp_path: pathlib.Path) -> None:
    host = host_info.gather(str(tmp_path), calls())
    assert host["cpu"]["model"] is None and host["cpu"]["cores"] is None and host["cpu"]["threads"] is None
    assert host["memory"]["total_mib"] is None and host["memory"]["ecc"] is None
    assert host["os"]["id"] is None
    assert host["virtualization"]["type"] is None
    assert host["tuning"]["cgroup_version"] is None
    json.dumps(host)


def test_addresses_that_cannot_be_asked_are_none(tmp_path: pathlib.Path) -> None:
    def refuse() -> Any:
        raise OSError("not permitted")

    assert host_info.gather(str(tmp_path), calls(addresses=refuse))["network"]["addresses"] is None


def test_sockets_and_threads(tmp_path: pathlib.Path) -> None:
    root = dress(tmp_path, {"/proc/cpuinfo": cpuinfo("AMD EPYC 9354 32-Core Processor", 32, 2, sockets=2)})
    cpu = cpu_info.cpu(Tree(root))
    assert (cpu["sockets"], cpu["cores"], cpu["threads"]) == (2, 64, 128)


def test_an_arm_processor_takes_its_topology_from_sys(tmp_path: pathlib.Path) -> None:
    block = (
        "processor : %d\nFeatures : fp asimd sve sve2 bf16 i8mm\nCPU implementer : 0x41\nCPU part : 0xd4f\n"
    )
    files: Files = {"/proc/cpuinfo": "\n".join(block % number for number in range(4))}
    for number in range(4):
        base = "/sys/devices/system/cpu/cpu%d/topology/" % number
        files[base + "physical_package_id"], files[base + "core_id"] = "0\n", "%d\n" % number
    cpu = cpu_info.cpu(Tree(dress(tmp_path, files)))
    assert cpu["model"] == "Arm Neoverse V2" and cpu["cores"] == 4
    assert cpu["flags"] == ["asimd", "bf16", "i8mm", "sve", "sve2"]


@pytest.mark.parametrize(
    "sizes, correction, installed_gib, ecc",
    [((64, 64), 3, 128, False), ((16, 16), 6, 32, True), ((0, 16), 5, 16, True), ((64,), 2, 64, None)],
)
def test_memory_modules(
    tmp_path: pathlib.Path, sizes: Any, correction: int, installed_gib: int, ecc: Any
) -> None:
    root = dress(tmp_path, {"/sys/firmware/dmi/tables/DMI": memory_table(sizes, correction)})
    memory = cpu_info.memory(Tree(root))
    assert memory["installed_mib"] == installed_gib * 1024
    assert memory["ecc"] is ecc and memory["type"] == "DDR5"


def test_a_damaged_firmware_table_tells_what_comes_before_the_damage(tmp_path: pathlib.Path) -> None:
    table = memory_table((16, 16), 3)
    for length in range(len(table)):
        (tmp_path / "dmi").mkdir(exist_ok=True)
        root = dress(tmp_path, {"/sys/firmware/dmi/tables/DMI": table[:length]})
        assert cpu_info.memory(Tree(root))["installed_mib"] in (None, 16384, 32768)


def test_memory_errors_are_counted_over_all_controllers(tmp_path: pathlib.Path) -> None:
    base = "/sys/devices/system/edac/mc/"
    files: Files = {base + "mc0/ce_count": "3", base + "mc0/ue_count": "0", base + "mc1/ce_count": "4"}
    files.update({base + "mc1/ue_count": "1", base + "power": ""})
    memory = cpu_info.memory(Tree(dress(tmp_path, files)))
    assert memory["ecc_errors"] == {"correctable": 7, "uncorrectable": 1} and memory["ecc"] is True


@pytest.mark.parametrize(
    "files, expected",
    [
        (
            {"/run/reboot-required": "", "/run/reboot-required.pkgs": "linux-base\nlibc6\nlibc6\n"},
            "libc6, linux-base",
        ),
        ({"/run/reboot-required": ""}, "a package asks"),
        ({"/lib/modules/6.8.0-61-generic/x": ""}, "no longer installed"),
        (
            {"/boot/vmlinuz-6.8.0-100-generic": "", "/boot/vmlinuz-6.8.0-99-generic": ""},
            "kernel 6.8.0-100-generic",
        ),
    ],
)
def test_a_pending_reboot(tmp_path: pathlib.Path, files: Files, expected: str) -> None:
    state = host_info.reboot(Tree(dress(tmp_path, files)), "6.8.0-60-generic", container=False)
    assert state["required"] and expected in state["reasons"][0]


def test_no_reboot_for_another_flavour_an_older_kernel_or_in_a_container(tmp_path: pathlib.Path) -> None:
    files: Files = {"/boot/vmlinuz-6.9.0-1-lowlatency": "", "/boot/vmlinuz-6.8.0-59-generic": ""}
    tree = Tree(dress(tmp_path, files))
    assert not host_info.reboot(tree, "6.8.0-60-generic", container=False)["required"]
    tree = Tree(dress(tmp_path, {"/lib/modules/5.0.0/x": ""}))
    assert not host_info.reboot(tree, "6.8.0-60-generic", container=True)["required"]


@pytest.mark.parametrize(
    "files, expected",
    [
        ({"/sys/class/dmi/id/sys_vendor": "QEMU", "/proc/cpuinfo": "flags : hypervisor"}, ("kvm", None)),
        ({"/proc/cpuinfo": "flags\t: fpu hypervisor\n"}, ("other", None)),
        ({"/sys/class/dmi/id/sys_vendor": "Microsoft Corporation", "/proc/cpuinfo": "x"}, ("none", None)),
        (
            {"/sys/class/dmi/id/sys_vendor": "Microsoft Corporation", "/proc/cpuinfo": "flags : hypervisor"},
            ("hyperv", None),
        ),
        ({"/run/systemd/container": "lxc\n", "/proc/cpuinfo": "x"}, ("none", "lxc")),
        ({"/proc/1/environ": b"A=b\0container=podman\0", "/proc/cpuinfo": "x"}, ("none", "podman")),
        ({"/.dockerenv": "", "/proc/cpuinfo": "x"}, ("none", "docker")),
    ],
)
def test_virtualisation(tmp_path: pathlib.Path, files: Files, expected: Any) -> None:
    found = host_info.virtualization(Tree(dress(tmp_path, files)))
    assert (found["type"], found["container"]) == expected


def test_debian_tells_its_point_release(tmp_path: pathlib.Path) -> None:
    root = dress(
        tmp_path, {"/etc/os-release": 'ID=debian\nVERSION_ID="12"\n', "/etc/debian_version": "12.11\n"}
    )
    assert host_info.operating_system(Tree(root))["version"] == "12.11"


def test_the_running_kernel_tells_its_addresses() -> None:
    entries = network_info.addresses()
    loopback = [entry for entry in entries if entry["address"] == "127.0.0.1"]
    if not loopback:
        pytest.skip("this machine has no IPv4 loopback address")
    assert loopback[0]["prefix"] == 8 and loopback[0]["interface"] == "lo"
    assert all(
        socket.inet_pton(socket.AF_INET6 if e["family"] == "ipv6" else socket.AF_INET, e["address"])
        for e in entries
    )


def test_the_running_kernel_tells_about_its_clock() -> None:
    assert network_info.clock_synchronised() in (True, False, None)


def test_files_that_refuse_large_reads_are_read(tmp_path: pathlib.Path) -> None:
    path = "/proc/sys/kernel/pid_max"
    if not os.path.exists(path):
        pytest.skip("no /proc/sys here")
    assert (Tree("/").number(path) or 0) > 0


def test_a_large_file_is_read_whole(tmp_path: pathlib.Path) -> None:
    text = "processor\t: 0\n" * 20000
    assert Tree(dress(tmp_path, {"/proc/cpuinfo": text})).text("/proc/cpuinfo") == text.strip()

# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest

from ansible_collections.citadel.llm.plugins.module_utils import _compatibility as compatibility
from ansible_collections.citadel.llm.plugins.module_utils import _driver_packages as packages
from ansible_collections.citadel.llm.plugins.module_utils import _driver_state as state
from ansible_collections.citadel.llm.plugins.module_utils import _findings as findings
from ansible_collections.citadel.llm.plugins.module_utils import _gpu_info as gpu_info
from ansible_collections.citadel.llm.plugins.module_utils._driver_check import Expected, check
from ansible_collections.citadel.llm.tests.unit.plugins.module_utils.gpu_testing import (
    bad,
    fake_smi,
    one,
    pci_gpu,
    read,
    write,
)

KERNEL = "6.8.0-60-generic"
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build"
CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Release Build"
NAMES = ("nvidia-driver-575-open", "nvidia-dkms-575-open", "libnvidia-compute-575", "nvidia-utils-575")


def dpkg(root: Path, versions: Dict[str, str], held: "tuple[str, ...]" = ()) -> None:
    paragraphs = [
        f"Package: {name}\nStatus: {'hold' if name in held else 'install'} ok installed\nVersion: {version}\n"
        for name, version in versions.items()
    ]
    write(
        root, "var/lib/dpkg/status", "\n".join(["Package: bash\nStatus: install ok installed\n", *paragraphs])
    )


def host(
    root: Path,
    loaded: str = "575.57.08",
    library: Optional[str] = None,
    package: Optional[str] = None,
    held: "tuple[str, ...]" = NAMES,
    flavour: str = OPEN,
) -> Path:
    """A made-up host with two GPUs and a driver in order, but for what is told otherwise."""
    for address in ("0000:01:00.0", "0000:02:00.0"):
        pci_gpu(root, address, driver="nvidia")
    write(root, "proc/sys/kernel/osrelease", KERNEL + "\n")
    write(root, "proc/driver/nvidia/version", flavour.format(loaded) + "\nGCC version: gcc 13\n")
    write(root, f"lib/modules/{KERNEL}/modules.dep", "updates/dkms/nvidia.ko.zst:\n")
    write(root, f"usr/lib/x86_64-linux-gnu/libnvidia-ml.so.{library or loaded}", "")
    write(root, "usr/bin/unattended-upgrade", "")
    write(root, "etc/apt/apt.conf.d/20auto-upgrades", 'APT::Periodic::Unattended-Upgrade "1";\n')
    dpkg(root, dict.fromkeys(NAMES, f"{package or loaded}-0ubuntu0.24.04.2"), held)
    return root


def look(root: Path, fixture: str = "rtx-5060-ti-x2-575.xml", code: int = 0) -> Dict[str, Any]:
    program = fake_smi(root, fixture=fixture, code=code)
    return gpu_info.gather(gpu_info.Request(nvidia_smi=program, root=str(root), kernel_log="/dev/null"))


def test_a_driver_in_order(tmp_path: Path) -> None:
    found = check(
        look(host(tmp_path)),
        Expected(
            version="575.57.08",
            branch="575",
            version_min="570",
            version_max="575",
            flavour="open",
            cuda_min="12.8",
            stack=compatibility.stack({"name": "vllm-0.9.2"}),
            held=True,
        ),
    )
    assert bad(found) == []
    assert findings.verdict(found) == "ready"


def test_the_current_stack_needs_a_newer_driver(tmp_path: Path) -> None:
    found = check(look(host(tmp_path)), Expected(stack=compatibility.stack({"name": "cuda"})))
    assert bad(found) == ["driver.cuda"]
    finding = one(found, "driver.cuda")
    assert finding.severity == "blocking" and finding.expected == "driver 580.65.06 or newer"
    assert "vLLM 0.19.1 (torch 2.10.0+cu128)" in finding.remedy


def test_no_driver_of_old_gpus_runs_the_current_stack() -> None:
    found = check(read("gtx-680-304.xml"), Expected(stack=compatibility.stack({"name": "cuda"})))
    assert "Branch 470 is the last" in one(found, "driver.cuda").remedy


@pytest.mark.parametrize(
    ("expected", "id", "severity"),
    [
        (Expected(version="580.65.06"), "driver.branch", "deviation"),
        (Expected(branch="580"), "driver.branch", "deviation"),
        (Expected(version_min="580"), "driver.version", "blocking"),
        (Expected(version_max="570"), "driver.version", "blocking"),
        (Expected(cuda_min="13.0"), "driver.cuda", "blocking"),
    ],
)
def test_other_versions(tmp_path: Path, expected: Expected, id: str, severity: str) -> None:  # noqa: A002
    finding = one(
        [finding for finding in check(look(host(tmp_path)), expected) if finding.severity != "ok"], id
    )
    assert finding.severity == severity and finding.found == "575.57.08"


def test_flavours(tmp_path: Path) -> None:
    info = look(host(tmp_path, flavour=CLOSED))
    assert info["kernel_module_flavour"] == "proprietary"
    assert one(check(info, Expected()), "driver.flavour_required").severity == "blocking"
    for gpu in info["gpus"]:
        gpu.update(name="NVIDIA L4", compute_capability="8.9")
    assert bad(check(info, Expected())) == []
    assert bad(check(info, Expected(flavour="open"))) == ["driver.flavour"]
    hidden = dict(info, kernel_module_flavour=None)
    assert one(check(hidden, Expected(flavour="open")), "driver.flavour").unknown


def test_the_flavour_of_a_hidden_module_is_that_of_its_packages(tmp_path: Path) -> None:
    root = host(tmp_path)
    (root / "proc/driver/nvidia/version").unlink()
    assert look(root)["kernel_module_flavour"] == "open"
    dpkg(root, {"nvidia-dkms-570": "570.1.1-1"})
    assert look(root)["kernel_module_flavour"] is None


def test_upgraded_under_the_running_system(tmp_path: Path) -> None:
    root = host(tmp_path, library="575.64.03", package="575.64.03")
    info = look(root, "driver-library-mismatch.txt", 18)
    assert info["driver_version"] == "575.57.08" and info["reboot_required"] is True
    found = check(info, Expected())
    assert bad(found) == ["driver.mismatch", "driver.reboot"]
    assert "module package is 575.64.03" in one(found, "driver.reboot").why


def test_a_restart_that_the_distribution_asks_for(tmp_path: Path) -> None:
    root = host(tmp_path)
    write(root, "run/reboot-required", "*** System restart required ***\n")
    write(root, "run/reboot-required.pkgs", "linux-image-6.8.0-62-generic\nlinux-base\n")
    finding = one(check(look(root), Expected()), "driver.reboot")
    assert finding.severity == "deviation" and "linux-image-6.8.0-62-generic" in finding.why


def test_the_next_kernel_has_no_module(tmp_path: Path) -> None:
    root = host(tmp_path)
    write(root, "lib/modules/6.8.0-100-generic/modules.dep", "kernel/drivers/net/tun.ko:\n")
    finding = one(check(look(root), Expected()), "driver.next_kernel")
    assert finding.severity == "deviation" and "6.8.0-100-generic" in finding.subject
    write(root, "lib/modules/6.8.0-100-generic/modules.dep", "kernel/nvidia-575-open/nvidia.ko:\n")
    assert bad(check(look(root), Expected())) == []


@pytest.mark.parametrize(
    ("held", "conf", "prefs", "wanted", "ids"),
    [
        ((), "", "", False, ["driver.held"]),
        (("nvidia-driver-575-open",), "", "", False, ["driver.metapackage"]),
        (NAMES[1:], "", "", False, []),
        (
            (),
            'Unattended-Upgrade::Package-Blacklist {\n "nvidia-"; // comment\n "libnvidia-";\n};\n',
            "",
            False,
            [],
        ),
        ((), 'APT::Periodic::Unattended-Upgrade "0";\n', "", False, []),
        ((), 'APT::Periodic::Unattended-Upgrade "0";\n', "", True, ["driver.held"]),
        ((), "", "Package: *nvidia*\nPin: version 575.57.08-*\nPin-Priority: 1001\n", False, []),
        ((), "", "Package: *nvidia*\nPin: release a=noble\nPin-Priority: 1001\n", False, ["driver.held"]),
    ],
)
def test_upgrades_that_nobody_watches(
    tmp_path: Path, held: "tuple[str, ...]", conf: str, prefs: str, wanted: bool, ids: List[str]
) -> None:
    root = host(tmp_path, held=held)
    write(root, "etc/apt/apt.conf.d/50unattended-upgrades", conf)
    write(root, "etc/apt/preferences.d/nvidia", prefs)
    found = check(look(root), Expected(held=wanted))
    assert bad(found) == ids
    for name in ids:
        assert (
            "apt-mark hold" in one(found, name).remedy and "nvidia-dkms-575-open" in one(found, name).remedy
        )


def test_kinds_of_packages() -> None:
    kinds = {
        "cuda-drivers": "metapackage",
        "nvidia-driver-575-open": "metapackage",
        "nvidia-driver-575-server-open": "metapackage",
        "nvidia-open": "metapackage",
        "linux-modules-nvidia-575-open-generic": "metapackage",
        "linux-modules-nvidia-575-open-6.8.0-60-generic": "module",
        "nvidia-kernel-source-575-open": "module",
        "libnvidia-compute-575": "library",
        "nvidia-utils-575": "library",
        "nvidia-fabricmanager-575": "fabricmanager",
        "libnvidia-gl-575": "other",
    }
    assert {name: packages.kind(name) for name in kinds} == kinds
    assert packages.driver_version("1:575.57.08-0ubuntu1") == "575.57.08"
    assert packages.driver_version("6.8.0-60.63+575.57.08-1") is None


def test_no_driver(tmp_path: Path) -> None:
    pci_gpu(tmp_path, driver="nouveau")
    (tmp_path / "sys/module/nouveau").mkdir(parents=True)
    info = gpu_info.gather(
        gpu_info.Request(nvidia_smi=str(tmp_path / "none"), root=str(tmp_path), kernel_log="/dev/null")
    )
    found = check(info, Expected(version_min="570"))
    assert bad(found) == ["driver.installed", "driver.version", "driver.nouveau"]
    assert "open kernel module" in one(found, "driver.installed").remedy
    assert one(found, "driver.version").unknown


def test_a_driver_that_is_not_loaded_because_of_secure_boot(tmp_path: Path) -> None:
    root = host(tmp_path)
    (root / "proc/driver/nvidia/version").unlink()
    (root / "sys/firmware/efi/efivars").mkdir(parents=True)
    (root / state._SECURE_BOOT).write_bytes(b"\x06\x00\x00\x00\x01")
    write(root, "dmesg", "nvidia: Loading of module with unavailable key is rejected\n")
    program = fake_smi(root, fixture="driver-not-loaded.txt", code=9)
    info = gpu_info.gather(
        gpu_info.Request(nvidia_smi=program, root=str(root), kernel_log=str(root / "dmesg"))
    )
    found = check(info, Expected())
    assert bad(found) == ["driver.loaded", "driver.secure_boot"]
    assert "unavailable key" in one(found, "driver.loaded").why


def test_a_host_without_gpus_needs_no_driver(tmp_path: Path) -> None:
    (tmp_path / "sys/bus/pci/devices").mkdir(parents=True)
    info = gpu_info.gather(
        gpu_info.Request(nvidia_smi=str(tmp_path / "none"), root=str(tmp_path), kernel_log="/dev/null")
    )
    assert findings.verdict(check(info, Expected())) == "ready"
    assert findings.verdict(check(info, Expected(stack=compatibility.stack({"name": "cpu"})))) == "ready"
    found = check(info, Expected(stack=compatibility.stack({"name": "cuda"})))
    assert bad(found) == ["driver.installed", "driver.cuda"]


def test_an_answer_that_does_not_come(tmp_path: Path) -> None:
    pci_gpu(tmp_path)
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nexec sleep 30\n", encoding="utf-8")
    program.chmod(0o755)
    info = gpu_info.gather(
        gpu_info.Request(nvidia_smi=str(program), root=str(tmp_path), timeout=0.2, kernel_log="/dev/null")
    )
    assert one(check(info, Expected()), "driver.loaded").unknown


@pytest.mark.parametrize(
    ("change", "severity", "unknown", "said"),
    [
        ({"installed": False}, "blocking", False, "not installed"),
        ({"active": False, "state": "failed"}, "blocking", False, "failed"),
        ({"version": "575.51.03"}, "blocking", False, "575.51.03"),
        ({"active": None}, "blocking", True, ""),
        ({}, "ok", False, "active"),
    ],
)
def test_fabric_manager(
    tmp_path: Path, change: Dict[str, Any], severity: str, unknown: bool, said: str
) -> None:
    info = look(host(tmp_path))
    info["fabric_manager"] = {
        "needed": True,
        "installed": True,
        "active": True,
        "enabled": True,
        "state": "active",
        "version": "575.57.08",
        **change,
    }
    finding = one(check(info, Expected()), "driver.fabric_manager")
    assert (finding.severity, finding.unknown) == (severity, unknown)
    assert said in str(finding.found or "")


def test_a_driver_that_does_not_support_the_gpu() -> None:
    info = dict(read("rtx-5060-ti-x2-575.xml"), driver_version="565.57.01")
    assert one(check(info, Expected()), "driver.gpu_support").expected == "branch 570 or newer"
    old = dict(read("gtx-680-304.xml"), driver_version="535.54.03")
    assert one(check(old, Expected()), "driver.gpu_support").expected == "branches 304 to 470"


def test_ptx_needs_the_builds_own_driver() -> None:
    info = dict(read("rtx-5060-ti-x2-575.xml"), driver_version="565.57.01")
    for gpu in info["gpus"]:
        gpu.update(compute_capability="13.0")
    found = check(info, Expected(stack=compatibility.stack({"torch": "2.7.0+cu128"})))
    assert one(found, "driver.ptx").expected == "driver 570.26 or newer"


def test_state_of_this_host_is_looked_at_quickly() -> None:
    described = state.describe()
    assert set(described) >= {"loaded_version", "library_version", "secure_boot", "packages", "kernel"}

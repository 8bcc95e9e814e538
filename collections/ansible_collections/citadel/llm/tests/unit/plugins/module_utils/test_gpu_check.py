# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional

import pytest

from ansible_collections.citadel.llm.plugins.module_utils import _compatibility as compatibility
from ansible_collections.citadel.llm.plugins.module_utils import _findings as findings
from ansible_collections.citadel.llm.plugins.module_utils import _gpu_info as gpu_info
from ansible_collections.citadel.llm.plugins.module_utils import _gpu_rules as rules
from ansible_collections.citadel.llm.plugins.module_utils._gpu_check import check
from ansible_collections.citadel.llm.plugins.module_utils._gpu_expected import Expected, Record
from ansible_collections.citadel.llm.tests.unit.plugins.module_utils.gpu_testing import (
    bad,
    fake_smi,
    one,
    pci_gpu,
    read,
)

FIRST = "rtx-5060-ti-x2-575.xml"
WANTED = Expected(
    count=2,
    name="RTX 5060 Ti",
    memory_gb=16,
    compute_capability="8.0",
    tensor_parallel=((0, 1),),
    stack=compatibility.stack({"name": "cuda"}),
    persistence=True,
    mig=False,
)


def test_the_expected_gpus_are_ready() -> None:
    found = check(read("rtx-5060-ti-x2-580.xml"), WANTED)
    assert bad(found) == []
    assert findings.verdict(found) == "ready"


def test_the_recorded_stack_blocks_and_the_remedy_names_another() -> None:
    wanted = Expected(count=2, stack=compatibility.stack({"name": "vllm-0.9.2"}))
    found = check(read(FIRST), wanted)
    assert bad(found) == ["stack.architecture"]
    finding = one(found, "stack.architecture")
    assert (
        finding.severity == "blocking"
        and finding.subject == "stack vllm-0.9.2 on 2 x NVIDIA GeForce RTX 5060 Ti"
    )
    assert finding.expected == "kernels for sm_120" and "sm_120" not in finding.found
    assert "no kernel image" in finding.why and "stack cuda (vLLM 0.33.0" in finding.remedy


def test_records_that_contradict() -> None:
    records = (
        Record("data sheet", "RTX 4070", 2, 16),
        Record("inventory", "RTX 5060 Ti", 2, 16),
        Record("purchase", "RTX 4070", 2, 12),
        Record("rack plan", None, 4, None),
    )
    found = [
        finding for finding in check(read(FIRST), Expected(records=records)) if finding.id == "gpu.record"
    ]
    assert [(finding.subject, finding.severity) for finding in found] == [
        ("data sheet", "deviation"),
        ("inventory", "ok"),
        ("purchase", "deviation"),
        ("rack plan", "deviation"),
    ]
    assert found[0].expected == "RTX 4070 with 12 GB" and "cannot be right" in found[0].why
    assert "2 x NVIDIA GeForce RTX 5060 Ti" in found[0].remedy
    assert "does not agree" in found[2].why


def test_an_impossible_record_is_told_without_a_driver(tmp_path: Path) -> None:
    info = gpu_info.gather(gpu_info.Request(nvidia_smi=str(tmp_path / "none"), root=str(tmp_path)))
    found = check(info, Expected(records=(Record("data sheet", "RTX 4070", 2, 16),)))
    assert one(found, "gpu.record").severity == "deviation"


def test_a_card_that_is_not_what_it_says() -> None:
    info = read(FIRST)
    info["gpus"][1].update(name="NVIDIA GeForce RTX 4070")
    found = check(info, WANTED)
    assert one(found, "gpu.memory_label").expected == "12 GB"
    assert bad(found)[:2] == ["gpu.model", "gpu.memory_label"]
    assert "gpu.mixed" in bad(found)


@pytest.mark.parametrize(
    ("change", "expected", "id", "severity"),
    [
        ({}, Expected(count=4), "gpu.count", "blocking"),
        ({}, Expected(count=1), "gpu.surplus", "deviation"),
        ({}, Expected(memory_mib=16384), "gpu.memory", "blocking"),
        ({}, Expected(memory_gb=24), "gpu.memory", "blocking"),
        ({}, Expected(name="RTX 5070"), "gpu.model", "deviation"),
        ({}, Expected(compute_capability="12.1"), "gpu.compute_capability", "blocking"),
        ({}, Expected(tensor_parallel=((0, 1, 2),)), "gpu.group", "blocking"),
        ({"memory_total_mib": 8151}, Expected(tensor_parallel=((0, 1),)), "gpu.mixed", "deviation"),
        ({"persistence_enabled": False}, Expected(persistence=True), "gpu.persistence", "deviation"),
        ({"mig_enabled": True}, Expected(mig=False), "gpu.mig", "blocking"),
        ({"ecc_enabled": False}, Expected(ecc=True), "gpu.ecc_mode", "deviation"),
        ({"nvlink": {"links": 4, "active": 3}}, Expected(), "gpu.nvlink", "deviation"),
        ({"reset_required": True}, Expected(), "gpu.reset", "blocking"),
        ({"memory_used_mib": 900, "processes": None}, Expected(), "gpu.memory_in_use", "deviation"),
        ({"throttle_reasons": ["sw_thermal_slowdown"]}, Expected(), "gpu.throttling", "deviation"),
    ],
)
def test_each_deviation(change: Dict[str, Any], expected: Expected, id: str, severity: str) -> None:  # noqa: A002
    info = read(FIRST)
    info["gpus"][0].update(change)
    found = [finding for finding in check(info, expected) if finding.severity != "ok"]
    assert {finding.id for finding in found} == {id}
    assert {finding.severity for finding in found} == {severity}
    assert all(finding.why and finding.remedy and not finding.unknown for finding in found)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"name": None}, Expected(name="RTX 5060 Ti")),
        ({"memory_total_mib": None}, Expected(memory_gb=16)),
        ({"compute_capability": None}, Expected(compute_capability="8.0")),
        ({"compute_capability": None}, Expected(stack=compatibility.stack({"name": "cuda"}))),
    ],
)
def test_what_is_not_known_is_not_ok(change: Dict[str, Any], expected: Expected) -> None:
    info = read(FIRST)
    info["gpus"] = [dict(info["gpus"][0], **change)]
    info["attached_gpus"] = 1
    found = [finding for finding in check(info, expected) if finding.severity != "ok"]
    assert len(found) == 1 and found[0].unknown


def test_a_build_that_is_not_in_the_table() -> None:
    stack = compatibility.stack({"torch": "3.0.0+cu140"})
    finding = one(check(read(FIRST), Expected(stack=stack)), "stack.known")
    assert finding.unknown and "get_arch_list" in finding.remedy


def test_a_stack_without_cuda_needs_no_kernels() -> None:
    assert bad(check(read(FIRST), Expected(stack=compatibility.stack({"name": "cpu"})))) == []


def test_gpus_that_are_too_old_for_vllm() -> None:
    found = check(read("gtx-680-304.xml"), Expected(stack=compatibility.stack({"name": "vllm-0.9.2"})))
    assert one(found, "stack.vllm").severity == "blocking"


def test_the_hot_gpu() -> None:
    found = check(read("rtx-4090-hot.xml"), Expected(persistence=True))
    assert bad(found) == [
        "gpu.pcie_width",
        "gpu.pcie_generation",
        "gpu.throttling",
        "gpu.persistence",
        "gpu.memory_in_use",
    ]
    used = one(found, "gpu.memory_in_use")
    assert "miner (pid 777)" in used.found and "password" not in str(used)
    assert "92 °C" in one(found, "gpu.throttling").why


def test_programs_that_may_use_the_gpu() -> None:
    found = check(read("rtx-4090-hot.xml"), Expected(allowed_processes=("/miner", "Xorg")))
    assert "gpu.memory_in_use" not in bad(found)


def test_an_idle_link_may_be_slow() -> None:
    assert "gpu.pcie_generation" not in [finding.id for finding in check(read(FIRST), Expected())]


def test_broken_memory() -> None:
    found = check(read("h100-ecc-errors.xml"), Expected())
    assert bad(found) == ["gpu.ecc_errors", "gpu.row_remap_failed", "gpu.reset"]
    info = read("h100-ecc-errors.xml")
    gpu = info["gpus"][0]
    gpu["ecc_errors"]["volatile"]["uncorrected"] = 0
    gpu["ecc_errors"]["sram_threshold_exceeded"] = False
    gpu["row_remap"]["failed"] = False
    assert bad(check(info, Expected())) == ["gpu.ecc_history", "gpu.row_remap", "gpu.reset"]


def test_xid_events() -> None:
    info = read(FIRST)
    info["xid_events"] = [
        {"pci_bus_id": "0000:02:00", "xid": 79, "count": 1, "message": "GPU has fallen off the bus."},
        {"pci_bus_id": "0000:01:00", "xid": 13, "count": 3, "message": "Warp Exception"},
    ]
    found = check(info, Expected())
    gone, program = one(found, "gpu.xid_hardware"), one(found, "gpu.xid")
    assert gone.severity == "blocking" and gone.subject.startswith("GPU 1 ") and "fell off" in gone.why
    assert program.severity == "deviation" and program.subject.startswith("GPU 0 ")


def test_a_kernel_log_that_may_not_be_read() -> None:
    info = dict(read(FIRST), kernel_log_error="/dev/kmsg: Operation not permitted")
    finding = one(check(info, Expected()), "gpu.xid")
    assert finding.unknown and "Operation not permitted" in finding.why


@pytest.mark.parametrize(
    ("fixture", "unknown"),
    [
        ("driver-library-mismatch.txt", False),
        ("driver-not-loaded.txt", False),
        ("gpu-lost.txt", False),
        ("library-missing.txt", False),
        ("no-devices.txt", False),
        ("nvml-unavailable.txt", True),
    ],
)
def test_when_nvidia_smi_does_not_answer(tmp_path: Path, fixture: str, unknown: bool) -> None:
    pci_gpu(tmp_path)
    pci_gpu(tmp_path, "0000:02:00.0")
    program = fake_smi(tmp_path, fixture=fixture, code=9)
    info = gpu_info.gather(gpu_info.Request(nvidia_smi=program, root=str(tmp_path), kernel_log="/dev/null"))
    found = check(info, Expected(count=2, memory_gb=16))
    readable = one(found, "gpu.readable")
    assert readable.severity == "blocking" and readable.unknown is unknown
    assert one(found, "gpu.count").severity == "ok"
    assert all(finding.unknown for finding in found if finding.id == "gpu.memory")


def test_a_gpu_that_was_lost_among_others() -> None:
    info = dict(read(FIRST), attached_gpus=3)
    assert bad(check(info, Expected())) == ["gpu.attached"]
    info = dict(
        read(FIRST), messages=["Unable to determine the device handle for GPU0000:03:00.0: GPU is lost."]
    )
    assert bad(check(info, Expected())) == ["gpu.attached"]
    info = read(FIRST)
    info["gpus"][1].update(name=None, memory_total_mib=None)
    assert "gpu.attached" in bad(check(info, Expected()))
    info = read(FIRST)
    info["gpus"][1]["lost"] = True
    assert "gpu.attached" in bad(check(info, Expected()))


def test_memory_that_cannot_be_repaired() -> None:
    found = check(read("rubin-615.xml"), Expected())
    assert one(found, "gpu.row_remap_failed").severity == "blocking"
    assert "gpu.pcie_width" in bad(found)


@pytest.mark.parametrize(
    ("bus", "count", "ids", "verdict"),
    [
        (True, None, [], "ready"),
        (True, 0, [], "ready"),
        (True, 2, ["gpu.count"], "blocked"),
        (False, 2, ["gpu.readable", "gpu.count"], "blocked"),
    ],
)
def test_a_host_without_gpus(
    tmp_path: Path, bus: bool, count: Optional[int], ids: "list[str]", verdict: str
) -> None:
    if bus:
        (tmp_path / "sys/bus/pci/devices").mkdir(parents=True)
    request = gpu_info.Request(nvidia_smi=str(tmp_path / "none"), root=str(tmp_path), kernel_log="/dev/null")
    found = check(gpu_info.gather(request), Expected(count=count))
    assert bad(found) == ids
    assert findings.verdict(found) == verdict


def test_a_stack_that_needs_a_gpu_on_a_host_without_one(tmp_path: Path) -> None:
    (tmp_path / "sys/bus/pci/devices").mkdir(parents=True)
    request = gpu_info.Request(nvidia_smi=str(tmp_path / "none"), root=str(tmp_path), kernel_log="/dev/null")
    info = gpu_info.gather(request)
    found = check(info, Expected(stack=compatibility.stack({"name": "cuda"})))
    assert bad(found) == ["gpu.count"] and "stack cpu" in str(
        [finding for finding in found if finding.severity == "blocking"]
    )
    assert bad(check(info, Expected(stack=compatibility.stack({"name": "cpu"})))) == []


def test_every_rule_has_a_severity_and_unknown_rules_are_refused() -> None:
    assert all(rule.severity in ("deviation", "blocking") and rule.meaning for rule in rules.RULES.values())
    with pytest.raises(KeyError):
        rules.kept("gpu.nothing", "GPU")

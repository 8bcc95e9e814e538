# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest

from ansible_collections.citadel.llm.plugins.module_utils import _gpu_info as gpu_info
from ansible_collections.citadel.llm.plugins.module_utils import _gpu_smi as smi
from ansible_collections.citadel.llm.tests.unit.plugins.module_utils.gpu_testing import (
    FIXTURES,
    fake_smi,
    pci_gpu,
    read,
    write,
)

RECORDINGS = os.environ.get("CITADEL_GPU_RECORDINGS", "")
needs_recordings = pytest.mark.skipif(
    not RECORDINGS, reason="CITADEL_GPU_RECORDINGS names no directory with recordings"
)
WORDS = {True: "Enabled", False: "Disabled", None: None}


def names() -> List[str]:
    if not RECORDINGS:
        return ["none"]
    return sorted(json.loads((Path(RECORDINGS) / "expected.json").read_text(encoding="utf-8")))


def independent(gpu: Dict[str, Any]) -> Dict[str, Any]:
    """A GPU under the keys of the independent reading."""
    processes = gpu["processes"]
    return {
        "name": gpu["name"],
        "uuid": gpu["uuid"],
        "memory_total_mib": gpu["memory_total_mib"],
        "memory_used_mib": gpu["memory_used_mib"],
        "pci_bus_id": gpu["pci_bus_id"],
        "pcie_gen_current": gpu["pcie"]["generation"],
        "pcie_gen_max": gpu["pcie"]["generation_max"],
        "pcie_width_current": gpu["pcie"]["width"],
        "pcie_width_max": gpu["pcie"]["width_max"],
        "power_limit_w": gpu["power_limit_w"],
        "temperature_c": gpu["temperature_c"],
        "ecc_current": WORDS[gpu["ecc_enabled"]],
        "mig_current": WORDS[gpu["mig_enabled"]],
        "processes": None if processes is None else [process["pid"] for process in processes],
    }


@needs_recordings
@pytest.mark.parametrize("name", names())
def test_recording_reads_as_the_independent_reading(name: str) -> None:
    expected = json.loads((Path(RECORDINGS) / "expected.json").read_text(encoding="utf-8"))[name]
    started = time.process_time()
    result = gpu_info.gather(gpu_info.Request(source=str(Path(RECORDINGS) / f"{name}.xml")))
    assert time.process_time() - started < 1
    assert result["error"] is None and result["driver"] is None
    assert result["driver_version"] == expected["driver_version"]
    assert result["cuda_version"] == expected["cuda_version"]
    assert [independent(gpu) for gpu in result["gpus"]] == expected["gpus"]
    for gpu in result["gpus"]:
        assert gpu["compute_capability"] and gpu["architecture"], gpu["name"]


def test_the_first_servers_gpus() -> None:
    result = read("rtx-5060-ti-x2-575.xml")
    assert (result["driver_version"], result["cuda_version"], result["source"]) == (
        "575.57.08",
        "12.9",
        "file",
    )
    first, second = result["gpus"]
    assert (first["index"], second["index"]) == (0, 1)
    assert first["name"] == "NVIDIA GeForce RTX 5060 Ti"
    assert (first["compute_capability"], first["architecture"]) == ("12.0", "Blackwell")
    assert (first["memory_total_mib"], first["memory_used_mib"]) == (16311, 0)
    assert first["pcie"]["generation"] == 1 and first["pcie"]["generation_max"] == 5
    assert first["pcie"]["width"] == first["pcie"]["width_max"] == 8
    assert (first["power_limit_w"], first["power_draw_w"], first["temperature_c"]) == (180.0, 9.71, 34)
    assert first["ecc_enabled"] is None and first["mig_enabled"] is None
    assert first["clock_reasons"] == ["gpu_idle"] and first["throttle_reasons"] == []
    assert first["processes"] == [] and first["mig_devices"] == []
    json.dumps(result)


def test_mig() -> None:
    (gpu,) = read("a100-mig.xml")["gpus"]
    assert gpu["mig_enabled"] is True and gpu["memory_total_mib"] == 81920
    (device,) = gpu["mig_devices"]
    assert (device["gpu_instance_id"], device["multiprocessors"], device["memory_total_mib"]) == (
        1,
        42,
        40192,
    )
    (process,) = gpu["processes"]
    assert (process["pid"], process["gpu_instance_id"], process["memory_mib"]) == (4242, 1, 1112)


def test_vgpu_guest_has_no_link_power_or_temperature() -> None:
    (gpu,) = read("a40-vgpu-guest.xml")["gpus"]
    assert gpu["compute_capability"] == "8.6" and gpu["virtualization"] == "VGPU"
    assert gpu["pcie"]["width"] is None and gpu["power_limit_w"] is None and gpu["temperature_c"] is None
    assert gpu["processes"] == [
        {
            "pid": 900,
            "name": None,
            "type": "C",
            "memory_mib": None,
            "gpu_instance_id": None,
            "compute_instance_id": None,
        }
    ]


def test_memory_errors_and_repairs() -> None:
    (gpu,) = read("h100-ecc-errors.xml")["gpus"]
    assert gpu["ecc_errors"]["volatile"]["uncorrected"] == 4
    assert gpu["ecc_errors"]["sram_threshold_exceeded"] is True
    assert gpu["row_remap"] == {"corrected": 0, "uncorrected": 1, "pending": True, "failed": True}
    assert gpu["recovery_action"] == "Reset" and gpu["fabric"]["state"] == "Completed"


def test_throttling() -> None:
    (gpu,) = read("rtx-4090-hot.xml")["gpus"]
    assert gpu["throttle_reasons"] == ["sw_power_cap", "hw_slowdown", "hw_thermal_slowdown"]


def test_old_driver_with_other_section_names_and_units() -> None:
    result = read("gtx-680-304.xml")
    (gpu,) = result["gpus"]
    assert result["cuda_version"] is None
    assert (gpu["memory_total_mib"], gpu["memory_used_mib"]) == (2047, 236)
    assert (gpu["compute_capability"], gpu["architecture"]) == ("3.0", "Kepler")
    assert gpu["processes"] is None and gpu["clock_reasons"] is None and gpu["power_limit_w"] is None


def test_unknown_fields_and_other_units() -> None:
    (gpu,) = read("future-schema.xml")["gpus"]
    assert (gpu["memory_total_mib"], gpu["memory_used_mib"]) == (16311, 2)


def test_versions_under_their_new_names_and_a_rack() -> None:
    result = read("rubin-615.xml")
    assert (result["driver_version"], result["cuda_version"]) == ("615.99", "13.4")
    assert result["messages"] == [] and result["fabric_manager"]["needed"] is False
    (gpu,) = result["gpus"]
    assert (gpu["architecture"], gpu["compute_capability"]) == ("Rubin", "10.7")
    assert (gpu["power_limit_w"], gpu["power_draw_w"]) == (2300.0, 398.48)
    assert (gpu["pcie"]["generation_max"], gpu["pcie"]["generation_host_max"]) == (6, None)
    assert gpu["throttle_reasons"] == ["board_limit"]
    assert gpu["ecc_errors"]["unrepairable_memory"] is True
    (process,) = gpu["processes"]
    assert (process["name"], process["type"]) == ("/opt/my tools/bin/serve --model a b", "M+C")
    assert process["memory_mib"] is None


def test_a_gpu_that_is_lost_keeps_what_was_read_before() -> None:
    text = (FIXTURES / "rtx-5060-ti-x2-575.xml").read_text(encoding="utf-8")
    whole, _tag, rest = text.rpartition("<gpu_temp>")
    lost = whole + "<gpu_temp>GPU is lost" + rest[rest.index("</gpu_temp>") :]
    result = gpu_info.parse(lost.encode())
    assert [gpu["lost"] for gpu in result["gpus"]] == [False, True]
    assert result["gpus"][1]["temperature_c"] is None and result["gpus"][1]["memory_total_mib"] == 16311


def test_clock_reasons_that_the_driver_does_not_tell() -> None:
    text = (FIXTURES / "rtx-4090-hot.xml").read_text(encoding="utf-8")
    unknown = re.sub(r"(<(clocks_\w+_reason_\w+)>)[^<]*", r"\1N/A", text)
    (gpu,) = gpu_info.parse(unknown.encode())["gpus"]
    assert gpu["clock_reasons"] is None and gpu["throttle_reasons"] is None


def test_a_licence_before_the_document_is_no_message() -> None:
    text = (FIXTURES / "future-schema.xml").read_text(encoding="utf-8")
    assert gpu_info.parse(("<!--\n  All rights\n  reserved.\n-->\n" + text).encode())["messages"] == []


def test_memory_that_the_driver_does_not_tell() -> None:
    (gpu,) = read("gb10-shared-memory.xml")["gpus"]
    assert gpu["memory_total_mib"] is None and gpu["compute_capability"] == "12.1"


@pytest.mark.parametrize(
    ("fixture", "code"),
    [
        ("driver-library-mismatch.txt", "version_mismatch"),
        ("driver-not-loaded.txt", "driver_not_loaded"),
        ("gpu-lost.txt", "gpu_lost"),
        ("library-missing.txt", "library_missing"),
        ("no-devices.txt", "no_devices"),
        ("nvml-unavailable.txt", "nvml_unavailable"),
    ],
)
@pytest.mark.parametrize("way", ["file", "command"])
def test_why_nvidia_smi_did_not_answer(tmp_path: Path, fixture: str, code: str, way: str) -> None:
    if way == "file":
        result = read(fixture)
    else:
        program = fake_smi(tmp_path, fixture=fixture, code=9)
        result = gpu_info.gather(gpu_info.Request(nvidia_smi=program, root=str(tmp_path)))
    assert result["error_code"] == code and result["error"]
    assert result["gpus"] == [] and result["source"] == "none"


def test_mismatch_asks_for_a_restart(tmp_path: Path) -> None:
    program = fake_smi(tmp_path, fixture="driver-library-mismatch.txt", code=18)
    result = gpu_info.gather(gpu_info.Request(nvidia_smi=program, root=str(tmp_path)))
    assert result["reboot_required"] is True and "mismatch" in result["reboot_reasons"][0]


def test_missing_command_leaves_the_identity_on_the_bus(tmp_path: Path) -> None:
    pci_gpu(tmp_path, driver="nouveau")
    write(
        tmp_path,
        "usr/share/misc/pci.ids",
        "10de  NVIDIA Corporation\n\t2d04  GB206 [GeForce RTX 5060 Ti]\n10df  E\n",
    )
    result = gpu_info.gather(gpu_info.Request(nvidia_smi=str(tmp_path / "none"), root=str(tmp_path)))
    assert (result["error_code"], result["source"]) == ("command_missing", "pci")
    (gpu,) = result["gpus"]
    assert (gpu["name"], gpu["compute_capability"]) == ("GeForce RTX 5060 Ti", "12.0")
    assert (gpu["pcie"]["generation"], gpu["pcie"]["generation_max"], gpu["pcie"]["width"]) == (1, 5, 8)
    assert gpu["pci_driver"] == "nouveau" and gpu["memory_total_mib"] is None and gpu["uuid"] is None
    assert set(gpu) >= set(read("rtx-5060-ti-x2-575.xml")["gpus"][0])


def test_command_that_hangs_is_ended(tmp_path: Path) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho begun\nexec sleep 60\n", encoding="utf-8")
    program.chmod(0o755)
    started = time.monotonic()
    result = gpu_info.gather(gpu_info.Request(nvidia_smi=str(program), root=str(tmp_path), timeout=0.3))
    assert time.monotonic() - started < 30
    assert result["error_code"] == "timeout" and "0.3 s" in result["error"]


def test_command_that_never_ends_writing_is_cut_off(tmp_path: Path) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nexec yes '<nvidia_smi_log>'\n", encoding="utf-8")
    program.chmod(0o755)
    answer = smi.query(str(program), 20)
    assert answer.status in ("failed", "ok") and len(answer.output) < 40 * 1024 * 1024


def test_the_bus_is_asked_for_names_of_a_working_gpu(tmp_path: Path) -> None:
    pci_gpu(tmp_path, driver="nvidia")
    write(
        tmp_path,
        "proc/driver/nvidia/version",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  575.57.08",
    )
    program = fake_smi(tmp_path, fixture="rtx-5060-ti-x2-575.xml")
    result = gpu_info.gather(gpu_info.Request(nvidia_smi=program, root=str(tmp_path)))
    assert result["source"] == "nvidia-smi" and result["kernel_module_flavour"] == "open"
    assert [gpu.get("pci_driver") for gpu in result["gpus"]] == ["nvidia", None]
    assert result["reboot_required"] is False and result["driver"]["loaded_version"] == "575.57.08"


def test_compute_capability_is_asked_for_when_nothing_tells_it(tmp_path: Path) -> None:
    text = (Path(__file__).parent / "fixtures/gpu/rtx-5060-ti-x2-575.xml").read_text(encoding="utf-8")
    text = (
        text.replace("2D0410DE", "FFF010DE").replace("RTX 5060 Ti", "Novelty").replace("Blackwell", "Novel")
    )
    (tmp_path / "xml").write_text(text, encoding="utf-8")
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\n"
        f"case $1 in -q) cat {tmp_path}/xml;; "
        "*) echo 'GPU-11111111-2222-3333-4444-00000000000a, 14.0'; echo 'GPU-x, [N/A]';; esac\n",
        encoding="utf-8",
    )
    program.chmod(0o755)
    first, second = gpu_info.gather(gpu_info.Request(nvidia_smi=str(program), root=str(tmp_path)))["gpus"]
    assert (first["compute_capability"], first["compute_capability_source"]) == ("14.0", "nvidia-smi")
    assert second["compute_capability"] is None


def test_nvlinks(tmp_path: Path) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\nprintf 'GPU 0: A100 (UUID: GPU-a)\\n\\t Link 0: 25 GB/s\\n\\t Link 1: <inactive>\\n"
        "GPU 1: NVIDIA A100 (UUID: GPU-b)\\n'\n",
        encoding="utf-8",
    )
    program.chmod(0o755)
    assert smi.nvlinks(str(program), 5) == {
        "GPU-a": {"links": 2, "active": 1},
        "GPU-b": {"links": 0, "active": 0},
    }


@pytest.mark.parametrize(
    ("fixture", "switches", "needed"),
    [
        ("h100-ecc-errors.xml", None, True),
        ("rtx-5060-ti-x2-575.xml", 0, False),
        ("rtx-5060-ti-x2-575.xml", None, None),
        ("a100-mig.xml", 6, True),
    ],
)
def test_where_a_fabric_manager_is_needed(
    fixture: str, switches: Optional[int], needed: Optional[bool]
) -> None:
    assert gpu_info.fabric_needed(dict(read(fixture), nvswitches=switches)) is needed


def test_unreadable_file() -> None:
    result = gpu_info.gather(gpu_info.Request(source="/nowhere/nvidia-smi.xml"))
    assert result["error_code"] == "unreadable" and "/nowhere/nvidia-smi.xml" in result["error"]

"""GPUs, from what the collection's own reader finds in recordings of nvidia-smi."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.citadel.llm.plugins.module_utils import _gpu_info
from citadel_llm.exporter import gpus
from citadel_llm.exporter.samples import Sample, families

RECORDINGS = (
    Path(__file__).resolve().parents[4]
    / "collections/ansible_collections/citadel/llm/tests/unit/plugins/module_utils/fixtures/gpu"
)


def state(recording: str) -> dict[str, Any]:
    return _gpu_info.gather(_gpu_info.Request(source=str(RECORDINGS / recording)))


def values(found: list[Sample], metric: str) -> dict[tuple[str, ...], float]:
    return {sample.labels: sample.value for sample in found if sample.metric == metric}


def test_two_cards_of_the_first_server() -> None:
    found = gpus.samples(state("rtx-5060-ti-x2-575.xml"))
    assert values(found, "citadel_gpu_up") == {(): 1}
    assert values(found, "citadel_gpus") == {(): 2}
    assert values(found, "citadel_gpu_pcie_width") == {
        ("0", "current"): 8,
        ("0", "max"): 8,
        ("1", "current"): 8,
        ("1", "max"): 8,
    }
    assert values(found, "citadel_gpu_row_remap_failed") == {}, "a card without it has no such series"
    assert (
        "0",
        "GPU-11111111-2222-3333-4444-00000000000a",
        "NVIDIA GeForce RTX 5060 Ti",
        "575.57.08",
    ) in values(found, "citadel_gpu_info")


def test_errors_of_memory_and_reasons_of_slowness() -> None:
    found = gpus.samples(state("h100-ecc-errors.xml"))
    assert any(values(found, "citadel_gpu_ecc_errors").values())
    hot = values(gpus.samples(state("rtx-4090-hot.xml")), "citadel_gpu_throttled")
    assert {reason for (_gpu, reason), value in hot.items() if value} & {
        "hw_thermal_slowdown",
        "sw_thermal_slowdown",
        "hw_slowdown",
    }
    assert {reason for _gpu, reason in hot} == set(gpus.THROTTLE_REASONS)


@pytest.mark.parametrize(
    ("recording", "code"),
    [
        ("driver-library-mismatch.txt", "version_mismatch"),
        ("gpu-lost.txt", "gpu_lost"),
        ("no-devices.txt", "no_devices"),
    ],
)
def test_a_driver_that_does_not_answer(recording: str, code: str) -> None:
    found = gpus.samples(state(recording))
    assert values(found, "citadel_gpu_up") == {(): 0}
    assert values(found, "citadel_gpu_error") == {(code,): 1}
    assert values(found, "citadel_gpu_driver_mismatch") == {(): float(code == "version_mismatch")}


def test_xid_events_belong_to_their_card() -> None:
    answer = state("rtx-5060-ti-x2-575.xml")
    answer["xid_events"] = [
        {"pci_bus_id": "0000:02:00", "xid": 79, "count": 2, "message": "fell off the bus"},
        {"pci_bus_id": "0000:0a:00", "xid": 31, "count": 1, "message": ""},
    ]
    found = gpus.samples(answer)
    assert values(found, "citadel_gpu_xid_errors") == {("1", "79"): 2, ("0000:0a:00", "31"): 1}


def test_every_recording_gives_samples_that_are_defined() -> None:
    for path in sorted(RECORDINGS.glob("*.*")):
        if path.suffix in {".xml", ".txt"}:
            families(gpus.DEFINITIONS, gpus.samples(state(path.name)))


def script(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "command.py"
    path.write_text(text)
    return [sys.executable, str(path)]


def test_the_command_is_run_apart(tmp_path: Path) -> None:
    answer = json.dumps(state("rtx-5060-ti-x2-575.xml"))
    found = gpus.read(script(tmp_path, f"print({answer!r})"))
    assert values(found, "citadel_gpus") == {(): 2}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import sys; sys.exit('no driver')", "exit status 1: no driver"),
        ("print('nothing')", "not the state of GPUs"),
        ("print('{}')", "not the state of GPUs"),
        ("import time; time.sleep(60)", "timed out"),
    ],
)
def test_a_command_that_fails_says_why(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(gpus.GpuCommandError, match=reason):
        gpus.read(script(tmp_path, text), timeout_s=1.5 if "sleep" in text else 20)
    with pytest.raises(gpus.GpuCommandError, match="No such file"):
        gpus.read([str(tmp_path / "missing")])

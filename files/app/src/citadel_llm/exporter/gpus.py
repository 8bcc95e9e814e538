"""The GPUs, from the JSON that a command prints: it runs apart, so a driver that hangs hangs only that."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any

from citadel_llm.exporter.samples import Definition, Sample

_G = ("gpu",)
DEFINITIONS = {
    "citadel_gpu_up": Definition("Whether the driver answers."),
    "citadel_gpu_error": Definition("Why it does not.", ("code",)),
    "citadel_gpu_driver_mismatch": Definition("Whether the driver and its library differ in version."),
    "citadel_gpu_reboot_required": Definition("Whether the driver waits for a restart of the server."),
    "citadel_gpus": Definition("GPUs that the driver shows."),
    "citadel_gpus_on_bus": Definition("GPUs that the PCI bus shows."),
    "citadel_gpu_info": Definition("A GPU and its driver.", ("gpu", "uuid", "name", "driver")),
    "citadel_gpu_xid_errors": Definition("Xid events since boot.", ("gpu", "xid"), "counter"),
    "citadel_gpu_row_remap_rows": Definition("Memory rows that were put out of use.", ("gpu", "kind")),
    "citadel_gpu_row_remap_pending": Definition("Whether a remapping waits for a reset.", _G),
    "citadel_gpu_row_remap_failed": Definition("Whether a row could not be remapped.", _G),
    "citadel_gpu_retired_pages": Definition("Memory pages that were put out of use.", ("gpu", "kind")),
    "citadel_gpu_ecc_errors": Definition("Memory errors over the card's life.", ("gpu", "kind"), "counter"),
    "citadel_gpu_throttled": Definition("Whether a reason slows the GPU down now.", ("gpu", "reason")),
    "citadel_gpu_pcie_generation": Definition("PCIe generation of the link.", ("gpu", "which")),
    "citadel_gpu_pcie_width": Definition("PCIe lanes of the link.", ("gpu", "which")),
    "citadel_gpu_reset_required": Definition("Whether the GPU asks to be reset.", _G),
}
THROTTLE_REASONS = (
    "hw_slowdown",
    "hw_thermal_slowdown",
    "hw_power_brake_slowdown",
    "sw_thermal_slowdown",
    "sw_power_cap",
)
_TIMEOUT_S = 20.0


class GpuCommandError(Exception):
    """The command did not tell the state of the GPUs; the message says why."""


def read(command: Sequence[str], timeout_s: float = _TIMEOUT_S) -> list[Sample]:
    """Run the command and turn its answer into samples. Raises GpuCommandError."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=timeout_s, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GpuCommandError(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip()[-300:]
        raise GpuCommandError(f"{command[0]}: exit status {done.returncode}: {said}")
    try:
        state = json.loads(done.stdout)
        return samples(state)
    except (ValueError, KeyError, TypeError) as error:
        raise GpuCommandError(f"{command[0]}: its answer is not the state of GPUs: {error!r}") from error


def samples(state: dict[str, Any]) -> list[Sample]:
    """Samples of one answer. Raises KeyError and TypeError when it lacks a part."""
    error = state["error_code"]
    gpus = [] if error else state["gpus"]
    found = [
        Sample("citadel_gpu_up", float(not error)),
        Sample("citadel_gpu_driver_mismatch", float(error == "version_mismatch")),
        Sample("citadel_gpus", len(gpus)),
    ]
    if error:
        found.append(Sample("citadel_gpu_error", 1, (str(error),)))
    found += _some("citadel_gpus_on_bus", None if state["pci_gpus"] is None else len(state["pci_gpus"]))
    found += _some("citadel_gpu_reboot_required", state["reboot_required"])
    for gpu in gpus:
        found += _gpu(gpu, str(state["driver_version"] or ""))
    found += _xid(state)
    return found


def _some(metric: str, value: float | bool | None, *labels: str) -> Iterator[Sample]:
    """A sample, or none where the card does not have the value."""
    if value is not None:
        yield Sample(metric, float(value), labels)


def _gpu(gpu: dict[str, Any], driver: str) -> Iterator[Sample]:
    index = str(gpu["index"])
    yield Sample("citadel_gpu_info", 1, (index, str(gpu["uuid"] or ""), str(gpu["name"] or ""), driver))
    remap, pages, pcie = gpu["row_remap"], gpu["retired_pages"], gpu["pcie"]
    for kind in ("corrected", "uncorrected"):
        yield from _some("citadel_gpu_row_remap_rows", remap[kind], index, kind)
        yield from _some("citadel_gpu_ecc_errors", gpu["ecc_errors"]["aggregate"][kind], index, kind)
    yield from _some("citadel_gpu_row_remap_pending", remap["pending"], index)
    yield from _some("citadel_gpu_row_remap_failed", remap["failed"], index)
    for kind in ("single_bit", "double_bit"):
        yield from _some("citadel_gpu_retired_pages", pages[kind], index, kind)
    if gpu["clock_reasons"] is not None:
        active = set(gpu["clock_reasons"])
        for reason in THROTTLE_REASONS:
            yield Sample("citadel_gpu_throttled", float(reason in active), (index, reason))
    yield from _some("citadel_gpu_pcie_generation", pcie["generation"], index, "current")
    yield from _some("citadel_gpu_pcie_generation", pcie["generation_max"], index, "max")
    yield from _some("citadel_gpu_pcie_width", pcie["width"], index, "current")
    yield from _some("citadel_gpu_pcie_width", pcie["width_max"], index, "max")
    yield from _some("citadel_gpu_reset_required", gpu["reset_required"], index)


def _xid(state: dict[str, Any]) -> Iterator[Sample]:
    """Counts by GPU and number. A card that fell off the bus is named by its address."""
    by_address = {_bus(gpu["pci_bus_id"]): str(gpu["index"]) for gpu in state["gpus"]}
    for event in state["xid_events"] or []:
        address = str(event["pci_bus_id"]).lower()
        gpu = by_address.get(_bus(address), address)
        yield Sample("citadel_gpu_xid_errors", float(event["count"]), (gpu, str(event["xid"])))


def _bus(address: str | None) -> str:
    """`0000:01:00`: without the function, and with as much of the domain as the kernel writes."""
    return str(address or "").lower().split(".")[0][-10:]

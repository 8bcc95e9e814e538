# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything about a host's GPUs and their driver, gathered within one time limit."""

from __future__ import annotations

import re
import time
from typing import Any, Dict, List, NamedTuple, Optional

from ansible_collections.citadel.llm.plugins.module_utils import _driver_packages as driver_packages
from ansible_collections.citadel.llm.plugins.module_utils import _driver_state as driver_state
from ansible_collections.citadel.llm.plugins.module_utils import _gpu_fields as fields
from ansible_collections.citadel.llm.plugins.module_utils import _gpu_pci as pci
from ansible_collections.citadel.llm.plugins.module_utils import _gpu_products as products
from ansible_collections.citadel.llm.plugins.module_utils import _gpu_smi as smi
from ansible_collections.citadel.llm.plugins.module_utils import _gpu_xml as xml
from ansible_collections.citadel.llm.plugins.module_utils import _kernel_log as kernel_log
from ansible_collections.citadel.llm.plugins.module_utils._gpu_values import integer, text

# Compute capabilities and names of GPUs that can have NVLink: no other is asked for its links.
_NVLINK_CAPABILITIES = frozenset({"6.0", "7.0", "8.0", "9.0", "10.0", "10.3", "10.7"})
_NVLINK_NAMES = re.compile(
    r"3090|2080|TITAN RTX|Quadro (?:RTX|GP|GV)|RTX A[4-6]\d00|\bA(?:30|40)\b", re.IGNORECASE
)
# Racks whose fabric is managed from the switch trays, not from the host.
_RACK_SCALE = re.compile(r"\bGB[23]00\b")


class Request(NamedTuple):
    """What to look at. ``source`` is a recording of ``nvidia-smi -q -x``; without it the command is run."""

    nvidia_smi: str = "nvidia-smi"
    source: Optional[str] = None
    root: str = "/"
    kernel_log: Optional[str] = None
    timeout: float = 5.0

    @property
    def live(self) -> bool:
        """Whether this host is looked at, and not the recording of another one."""
        return self.source is None or self.root != "/"


def parse(data: bytes) -> Dict[str, Any]:
    """The answer of ``nvidia-smi -q -x`` as plain JSON values. Raises GpuXmlError for anything else."""
    document = xml.load(data)
    root = document.root
    # Drivers from 610 on call both by new names, beside the old ones for a while.
    cuda = re.search(r"\d+\.\d+", text(root, "cuda_version") or text(root, "cuda_umd_version") or "")
    return {
        "driver_version": text(root, "driver_version") or text(root, "kmd_version"),
        "cuda_version": cuda.group() if cuda else None,
        "timestamp": text(root, "timestamp"),
        "attached_gpus": integer(root, "attached_gpus"),
        "gpus": [fields.gpu_from_xml(node, index) for index, node in enumerate(root.all("gpu"))],
        "messages": document.messages,
        "repairs": document.repairs,
    }


def _nothing() -> Dict[str, Any]:
    return {
        "driver_version": None,
        "cuda_version": None,
        "timestamp": None,
        "attached_gpus": None,
        "gpus": [],
        "messages": [],
        "repairs": [],
    }


def _fetch(request: Request) -> smi.Answer:
    if request.source is None:
        return smi.query(request.nvidia_smi, request.timeout)
    try:
        with open(request.source, "rb") as stream:
            data = stream.read(xml.MAX_BYTES + 1)
    except OSError as error:
        return smi.Answer("unreadable", b"", f"{request.source}: {error.strerror}", None)
    if b"nvidia_smi_log" not in data.replace(b"\x00", b""):
        word = smi.classify(data[:4000].decode("utf-8", "replace"))
        if word:
            return smi.Answer(word, data, data[:500].decode("utf-8", "replace").strip(), None)
    return smi.Answer(smi.OK, data, "", None)


def _read_smi(request: Request) -> Dict[str, Any]:
    answer = _fetch(request)
    result = _nothing()
    result.update(source="none", error=None, error_code=None)
    if answer.status != smi.OK:
        result.update(error=answer.message, error_code=answer.status)
        return result
    try:
        result.update(parse(answer.output))
    except xml.GpuXmlError as error:
        around = answer.output[:4000] + answer.output[-4000:]
        word = smi.classify(around.decode("utf-8", "replace"))
        result.update(error=str(error), error_code=word or "unreadable")
        return result
    result["source"] = "nvidia-smi" if request.source is None else "file"
    if answer.returncode:
        result["messages"] = (result["messages"] + [answer.message])[:20]
    return result


def _complete(result: Dict[str, Any], request: Request, deadline: float) -> None:
    """Ask once more for what the XML of some drivers does not tell, while there is time."""
    gpus = result["gpus"]
    if any(gpu["compute_capability"] is None for gpu in gpus) and time.monotonic() < deadline:
        told = smi.compute_capabilities(request.nvidia_smi, deadline - time.monotonic())
        for gpu in gpus:
            if gpu["compute_capability"] is None and gpu["uuid"] in told:
                gpu["compute_capability"] = told[gpu["uuid"]]
                gpu["compute_capability_source"] = "nvidia-smi"
                gpu["architecture"] = gpu["architecture"] or products.architecture_of(told[gpu["uuid"]])
    if any(_may_have_nvlink(gpu) for gpu in gpus) and time.monotonic() < deadline:
        links = smi.nvlinks(request.nvidia_smi, deadline - time.monotonic())
        for gpu in gpus:
            gpu["nvlink"] = gpu["nvlink"] or links.get(gpu["uuid"])


def _may_have_nvlink(gpu: Dict[str, Any]) -> bool:
    known = gpu["compute_capability"] in _NVLINK_CAPABILITIES
    return known or bool(_NVLINK_NAMES.search(gpu["name"] or ""))


def _same_bus(first: Optional[str], second: str) -> bool:
    """``00000000:01:00.0`` and ``0000:01:00.0`` are one address."""
    return bool(first) and str(first).lower()[-12:] == second.lower()[-12:]


def _add_pci(result: Dict[str, Any], request: Request) -> None:
    found = pci.devices(request.root)
    result["pci_gpus"] = None if found is None else pci.identities(found, request.root)
    result["nvswitches"] = None if found is None else len(pci.nvswitches(found))
    for gpu in result["gpus"]:
        for card in result["pci_gpus"] or []:
            if _same_bus(gpu["pci_bus_id"], card["pci_bus_id"]):
                gpu["pci_driver"] = card["pci_driver"]
    if result["error_code"] and result["pci_gpus"]:
        result["gpus"] = [complete_identity(card) for card in result["pci_gpus"]]
        result["source"] = "pci"


def complete_identity(card: Dict[str, Any]) -> Dict[str, Any]:
    """A GPU that only the bus knows, with every key that nvidia-smi's answer has."""
    gpu = fields.gpu_from_xml(xml.Node("gpu", {}), card["index"])
    pcie = dict(gpu["pcie"], **card["pcie"])
    gpu.update(card, pcie=pcie)
    return gpu


def fabric_needed(result: Dict[str, Any]) -> Optional[bool]:
    """Whether GPUs work only with a fabric manager on this host: NVSwitch systems, but not racks."""
    gpus = result["gpus"]
    if any(_RACK_SCALE.search(gpu["name"] or "") or gpu["fabric"]["cluster_uuid"] for gpu in gpus):
        return False
    if any(gpu["fabric"]["state"] for gpu in gpus):
        return True
    switches = result.get("nvswitches")
    return None if switches is None else switches > 0


def _add_log(result: Dict[str, Any], request: Request, timeout: float) -> None:
    log = kernel_log.read(request.kernel_log, timeout)
    result["xid_events"] = None if log.lines is None else kernel_log.xid_events(log.lines)
    result["module_messages"] = [] if log.lines is None else kernel_log.module_messages(log.lines)
    result["kernel_log_source"] = log.source
    result["kernel_log_error"] = log.error


def _flavour(state: Dict[str, Any], running: Optional[str]) -> Optional[str]:
    """Of the loaded module; where that is hidden, of the installed one of the running version."""
    if state.get("flavour") or not running:
        return state.get("flavour")
    if state.get("module_version") == running:
        return state.get("module_flavour")
    if state.get("module_package_version") == running:
        return driver_packages.flavour(state.get("packages"))
    return None


def _reboot(result: Dict[str, Any]) -> None:
    state = result["driver"]
    reasons: List[str] = [] if state is None else driver_state.reboot_reasons(state)
    if result["error_code"] == "version_mismatch" and not reasons:
        reasons.append(str(result["error"]).splitlines()[0])
    result["reboot_reasons"] = reasons
    result["reboot_required"] = bool(reasons) if reasons or state is not None else None


def gather(request: Request) -> Dict[str, Any]:
    """Everything, as plain JSON values. Never raises for the state of the host: ``error`` tells it.

    ``source`` tells where ``gpus`` comes from: ``nvidia-smi``, ``file``, ``pci`` (the bus alone) or ``none``.
    """
    deadline = time.monotonic() + request.timeout
    result = _read_smi(request)
    if result["source"] == "nvidia-smi":
        _complete(result, request, deadline)
    result.update(driver=None, pci_gpus=None, nvswitches=None)
    result.update(xid_events=None, module_messages=[], kernel_log_source=None, kernel_log_error=None)
    if request.live:
        _add_pci(result, request)
        result["driver"] = driver_state.describe(request.root, min(2.0, request.timeout))
        _add_log(result, request, min(1.0, request.timeout))
    elif request.kernel_log:
        _add_log(result, request, min(1.0, request.timeout))
    state = result["driver"] or {}
    result["driver_version"] = result["driver_version"] or state.get("loaded_version")
    result["kernel_module_flavour"] = _flavour(state, result["driver_version"])
    result["fabric_manager"] = dict(
        state.get("fabric_manager")
        or {"installed": None, "active": None, "enabled": None, "state": None, "version": None},
        needed=fabric_needed(result),
    )
    _reboot(result)
    return result

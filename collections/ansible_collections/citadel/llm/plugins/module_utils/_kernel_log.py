# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the NVIDIA driver wrote to the kernel log: Xid events, and why the module could not be loaded."""

from __future__ import annotations

import os
import re
import time
from typing import Any, Dict, List, NamedTuple, Optional

from ansible_collections.citadel.llm.plugins.module_utils import _gpu_smi as smi

MAX_EVENTS = 200
MAX_RECORDS = 200_000
_XID = re.compile(r"NVRM: Xid \((?:PCI:)?([0-9a-fA-F:.]+?)\): (\d+)(?:, *(.*))?")
_MODULE = re.compile(
    r"module verification failed|Loading of (?:unsigned )?module|key was rejected|Lockdown: .*unsigned module"
    r"|NVRM: API mismatch|NVRM: .*(?:requires use of the NVIDIA open kernel modules|not supported by open)"
    r"|NVRM: The NVIDIA GPU .*(?:fallen off|RmInitAdapter failed)|NVRM: .*RmInitAdapter failed",
    re.IGNORECASE,
)


class Log(NamedTuple):
    """``lines`` is None when the log could not be read; ``error`` then says why."""

    lines: Optional[List[str]]
    source: Optional[str]
    error: Optional[str]


def _from_kmsg(path: str, deadline: float) -> List[str]:
    """Every record of the kernel's ring buffer. Raises OSError when it may not be read."""
    lines: List[str] = []
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        while len(lines) < MAX_RECORDS and time.monotonic() < deadline:
            try:
                record = os.read(handle, 8192)
            except BlockingIOError:
                break
            except BrokenPipeError:  # the record was overwritten while we read: go on with the next
                continue
            if not record:
                break
            lines.append(record.decode("utf-8", "replace").partition(";")[2].partition("\n")[0])
    finally:
        os.close(handle)
    return lines


def _from_file(path: str) -> List[str]:
    with open(path, encoding="utf-8", errors="replace") as stream:
        return stream.read(1 << 25).splitlines()


def read(path: Optional[str], timeout: float, kmsg: str = "/dev/kmsg") -> Log:
    """The kernel log from a file, else from the kernel's ring buffer, else from the journal."""
    if path:
        try:
            return Log(_from_file(path), path, None)
        except OSError as error:
            return Log(None, None, f"{path}: {error.strerror}")
    deadline = time.monotonic() + timeout
    try:
        return Log(_from_kmsg(kmsg, deadline), kmsg, None)
    except OSError as error:
        reason = f"{kmsg}: {error.strerror}"
    left = max(0.1, deadline - time.monotonic())
    answer = smi.run(["journalctl", "-k", "-b", "-q", "-o", "cat", "--no-pager", "-n", "20000"], left)
    if answer.status == smi.OK and answer.output.strip():
        return Log(answer.output.decode("utf-8", "replace").splitlines(), "journalctl", None)
    return Log(
        None, None, f"{reason}; journalctl: {answer.message or 'shows no kernel messages to this user'}"
    )


def xid_events(lines: List[str]) -> List[Dict[str, Any]]:
    """Xid events, one for each GPU and number: ``pci_bus_id, xid, count, message`` (the last one's)."""
    events: Dict[Any, Dict[str, Any]] = {}
    for line in lines:
        match = _XID.search(line)
        if match is None:
            continue
        address, number, message = match.group(1).lower(), int(match.group(2)), (match.group(3) or "").strip()
        event = events.setdefault(
            (address, number), {"pci_bus_id": address, "xid": number, "count": 0, "message": ""}
        )
        event["count"] += 1
        event["message"] = message[:300]
        if len(events) >= MAX_EVENTS:
            break
    return list(events.values())


def module_messages(lines: List[str]) -> List[str]:
    """Lines that say why the driver's kernel module could not be loaded or used, the last five."""
    found = [
        line.strip()[:300] for line in lines if _MODULE.search(line) and re.search("nvidia|NVRM", line, re.I)
    ]
    return found[-5:]

# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.citadel.llm.plugins.module_utils import _gpu_xid as gpu_xid
from ansible_collections.citadel.llm.plugins.module_utils import _kernel_log as kernel_log

LINES = [
    "NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  575.57.08",
    "NVRM: Xid (PCI:0000:01:00): 13, pid=4242, name=python3, Graphics SM Warp Exception",
    "NVRM: Xid (PCI:0000:01:00): 13, pid=4243, name=python3, Graphics SM Warp Exception again",
    "NVRM: Xid (PCI:0000:02:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
    "NVRM: Xid (0000:03:00): 31",
    "usb 1-1: new high-speed USB device",
    "nvidia: module verification failed: signature and/or required key missing - tainting kernel",
]


def test_xid_events_are_counted_for_each_gpu_and_number() -> None:
    events = kernel_log.xid_events(LINES)
    assert [(event["pci_bus_id"], event["xid"], event["count"]) for event in events] == [
        ("0000:01:00", 13, 2),
        ("0000:02:00", 79, 1),
        ("0000:03:00", 31, 1),
    ]
    assert events[0]["message"].endswith("again") and "fallen off" in events[1]["message"]
    assert events[2]["message"] == ""


def test_why_the_module_is_not_loaded() -> None:
    assert kernel_log.module_messages(LINES) == [LINES[-1]]


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "dmesg"
    path.write_text("\n".join(LINES), encoding="utf-8")
    log = kernel_log.read(str(path), 1)
    assert log.lines == LINES and log.error is None


def test_a_log_that_may_not_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_args, **_more: None)
    log = kernel_log.read(None, 1, kmsg=str(tmp_path / "kmsg"))
    assert log.lines is None and log.error is not None
    assert "No such file" in log.error and "journalctl" in log.error
    log = kernel_log.read(str(tmp_path / "absent"), 1)
    assert log.lines is None and "absent" in str(log.error)


def test_the_ring_buffer_ends_where_it_has_no_more(tmp_path: Path) -> None:
    path = tmp_path / "kmsg"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(path, os.O_WRONLY)
    os.write(writer, b"4,1,2,-;" + LINES[3].encode() + b"\n")
    log = kernel_log.read(None, 1, kmsg=str(path))
    os.close(writer)
    os.close(reader)
    assert log.lines == [LINES[3]] and log.source == str(path)


@pytest.mark.parametrize(
    ("number", "hardware"), [(79, True), (48, True), (64, True), (95, True), (13, False), (63, False)]
)
def test_meanings(number: int, hardware: bool) -> None:
    assert gpu_xid.meaning(number).hardware is hardware


def test_a_number_that_nobody_knows() -> None:
    assert gpu_xid.meaning(9999) is gpu_xid.UNKNOWN

# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run nvidia-smi within a time limit and say in one word why it did not answer."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import time
from typing import Dict, List, NamedTuple, Optional, Tuple

from ansible_collections.citadel.llm.plugins.module_utils._gpu_xml import MAX_BYTES

OK = "ok"
MISSING = "command_missing"
TIMEOUT = "timeout"
FAILED = "failed"
# What nvidia-smi writes when it fails: in its words, in ours. The first that is found counts.
_SAID: Tuple[Tuple[str, str], ...] = (
    (r"Driver/library version mismatch", "version_mismatch"),
    (r"GPU is lost|has fallen off the bus", "gpu_lost"),
    (r"requires? (?:a )?reset|GPU requires reset", "reset_required"),
    (r"detected an issue with GPU interrupts", "interrupts"),
    (r"Unable to determine the device handle", "gpu_lost"),
    (r"No devices were found", "no_devices"),
    (r"couldn't communicate with the NVIDIA driver|Driver Not Loaded", "driver_not_loaded"),
    (
        r"couldn't find libnvidia-ml|libnvidia-ml\.so.{0,80}(?:cannot|not found)|NVML Shared Library",
        "library_missing",
    ),
    (r"Insufficient Permissions|Permission denied|does not have permission", "no_permission"),
    (r"access blocked by the operating system", "blocked_by_system"),
    (r"Failed to initialize NVML", "nvml_unavailable"),
)


class Answer(NamedTuple):
    """What a command wrote, or why it did not: ``status`` is ``ok`` or one word."""

    status: str
    output: bytes
    message: str
    returncode: Optional[int]


def classify(text: str) -> Optional[str]:
    """The reason that nvidia-smi gives in its output, as one word, or None."""
    for pattern, word in _SAID:
        if re.search(pattern, text, re.IGNORECASE):
            return word
    return None


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Kill the command; do not wait for long, for in uninterruptible sleep it cannot die."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=0.3)


def _read(process: "subprocess.Popen[bytes]", deadline: float) -> "Tuple[bytes, bytes, bool]":
    """Standard output, standard error, and whether both ended before the deadline and the size limit."""
    if process.stdout is None or process.stderr is None:
        raise ValueError("the command was started without pipes")
    parts: Dict[int, List[bytes]] = {process.stdout.fileno(): [], process.stderr.fileno(): []}
    out, err = parts
    waiting = set(parts)
    size = 0
    while waiting:
        ready = select.select(list(waiting), [], [], max(0.0, deadline - time.monotonic()))[0]
        if not ready or size > MAX_BYTES:
            break
        for handle in ready:
            data = os.read(handle, 1 << 16)
            size += len(data)
            parts[handle].append(data)
            if not data:
                waiting.discard(handle)
    return b"".join(parts[out]), b"".join(parts[err]), not waiting


def run(command: List[str], timeout: float) -> Answer:
    """Run a command without a shell for at most ``timeout`` seconds; never raises for what it does."""
    deadline = time.monotonic() + timeout
    program = shutil.which(
        command[0], path=os.environ.get("PATH", "") + ":/usr/bin:/usr/sbin:/sbin:/usr/local/bin"
    )
    if program is None:
        return Answer(MISSING, b"", f"{command[0]}: no such command", None)
    try:
        process = subprocess.Popen(
            [program, *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(os.environ, LC_ALL="C", LANGUAGE="C"),
            start_new_session=True,
        )
    except OSError as error:
        return Answer(FAILED, b"", f"{program}: {error.strerror or error}", None)
    output, errors, ended = _read(process, deadline)
    if ended:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=max(0.05, deadline - time.monotonic()))
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    if process.returncode is None:
        _end(process)
        if len(output) + len(errors) > MAX_BYTES:
            return Answer(FAILED, output, f"{program} wrote more than {MAX_BYTES} bytes", None)
        return Answer(TIMEOUT, output, f"{program} did not answer within {timeout:g} s", None)
    said = errors.decode("utf-8", "replace").strip()
    if process.returncode == 0:
        return Answer(OK, output, said, 0)
    said = (said + "\n" + output[:2000].decode("utf-8", "replace")).strip()
    return Answer(FAILED, output, said[:1000] or f"exit status {process.returncode}", process.returncode)


def query(program: str, timeout: float) -> Answer:
    """``nvidia-smi -q -x``; a failure is put down to its cause."""
    answer = run([program, "-q", "-x"], timeout)
    if answer.status in (MISSING, TIMEOUT):
        return answer
    if b"<nvidia_smi_log" in answer.output or b"\x00<\x00n\x00v" in answer.output:
        return answer._replace(status=OK)
    text = (answer.output[:4000].decode("utf-8", "replace") + "\n" + answer.message).strip()
    word = classify(text)
    if word is None and answer.status == OK:
        return answer
    return answer._replace(status=word or FAILED, message=text.split("\n\n")[0][:500] or answer.message)


def compute_capabilities(program: str, timeout: float) -> Dict[str, str]:
    """Compute capability by GPU uuid, as drivers from 510 on tell it; empty when they do not."""
    answer = run([program, "--query-gpu=uuid,compute_cap", "--format=csv,noheader"], timeout)
    result = {}
    if answer.status == OK:
        for line in answer.output.decode("utf-8", "replace").splitlines():
            uuid, _comma, value = line.partition(",")
            if re.match(r"^\s*\d+\.\d+\s*$", value):
                result[uuid.strip()] = value.strip()
    return result


def nvlinks(program: str, timeout: float) -> "Dict[str, Dict[str, int]]":
    """By GPU uuid: how many NVLinks there are and how many of them are up."""
    answer = run([program, "nvlink", "--status"], timeout)
    result: Dict[str, Dict[str, int]] = {}
    if answer.status != OK:
        return result
    current: Optional[Dict[str, int]] = None
    for line in answer.output.decode("utf-8", "replace").splitlines():
        heading = re.match(r"^GPU \d+: .*\(UUID: (\S+?)\)", line)
        if heading:
            current = result.setdefault(heading.group(1), {"links": 0, "active": 0})
        elif current is not None and re.match(r"^\s+Link \d+:", line):
            current["links"] += 1
            current["active"] += 0 if "inactive" in line.lower() else 1
    return result

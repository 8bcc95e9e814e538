# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever is done to nvidia-smi's output: it is read, or refused with a reason, and never anything else."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.citadel.llm.plugins.module_utils import _gpu_info as gpu_info
from ansible_collections.citadel.llm.plugins.module_utils import _gpu_xml as xml
from ansible_collections.citadel.llm.plugins.module_utils._driver_check import Expected as DriverExpected
from ansible_collections.citadel.llm.plugins.module_utils._driver_check import check as driver_check
from ansible_collections.citadel.llm.plugins.module_utils._gpu_check import check as gpu_check
from ansible_collections.citadel.llm.plugins.module_utils._gpu_expected import Expected
from ansible_collections.citadel.llm.tests.unit.plugins.module_utils.gpu_testing import FIXTURES, read

DOCUMENTS = sorted(path.read_bytes() for path in FIXTURES.glob("*.xml"))
LINES = [document.splitlines(keepends=True) for document in DOCUMENTS]
WORDS = [
    b"N/A",
    b"[Not Supported]",
    b"[N/A]",
    b"ERR!",
    b"[Unknown Error]",
    b"GPU is lost",
    b"Requested functionality has been deprecated",
    b"99999999999999999999999 MiB",
    b"-3 C",
    b"1e400 W",
    b"",
    b"\xc3\x28",
    b"\xef\xbf\xbf",
    b"0x",
    b"16",
]
BOUNDED = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
    database=None,
)


def read_or_refused(data: bytes) -> None:
    try:
        result = gpu_info.parse(data)
    except xml.GpuXmlError as error:
        assert str(error)
        return
    json.dumps(result)
    info = dict(read("no-devices.txt"), error=None, error_code=None, **result)
    found = gpu_check(
        info, Expected(count=2, memory_gb=16, compute_capability="8.0", persistence=True, mig=False)
    )
    found += driver_check(info, DriverExpected(version_min="570"))
    assert all(finding.why and finding.remedy for finding in found)


@BOUNDED
@given(st.sampled_from(DOCUMENTS), st.integers(0, 20_000), st.integers(0, 20_000))
def test_cut_out(document: bytes, first: int, length: int) -> None:
    read_or_refused(document[:first] + document[first + length :])


@BOUNDED
@given(
    st.sampled_from(DOCUMENTS), st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 255)), max_size=30)
)
def test_bytes_changed(document: bytes, changes: list[tuple[int, int]]) -> None:
    data = bytearray(document)
    for position, value in changes:
        data[position % len(data)] = value
    read_or_refused(bytes(data))


@BOUNDED
@given(st.sampled_from(LINES), st.randoms(use_true_random=False))
def test_lines_reordered(lines: list[bytes], random: object) -> None:
    mixed = list(lines)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    read_or_refused(b"".join(mixed))


@BOUNDED
@given(st.sampled_from(LINES), st.lists(st.tuples(st.integers(0, 1000), st.sampled_from(WORDS)), max_size=40))
def test_values_exchanged(lines: list[bytes], changes: list[tuple[int, bytes]]) -> None:
    changed = list(lines)
    for position, word in changes:
        line = changed[position % len(changed)]
        start, end = line.find(b">") + 1, line.rfind(b"</")
        if 0 < start <= end:
            changed[position % len(changed)] = line[:start] + word + line[end:]
    read_or_refused(b"".join(changed))


@BOUNDED
@given(st.binary(max_size=2000))
def test_anything(data: bytes) -> None:
    read_or_refused(b"<nvidia_smi_log>" + data + b"</nvidia_smi_log>")

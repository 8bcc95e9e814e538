# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.citadel.llm.plugins.module_utils import _gpu_info as gpu_info
from ansible_collections.citadel.llm.plugins.module_utils import _gpu_xml as xml
from ansible_collections.citadel.llm.tests.unit.plugins.module_utils.gpu_testing import FIXTURES

WHOLE = (FIXTURES / "rtx-5060-ti-x2-575.xml").read_bytes()


def test_reads_the_document_and_what_stands_around_it() -> None:
    document = xml.load(
        b"WARNING: infoROM is corrupted at gpu 0000:01:00.0\n" + WHOLE + b"\ntrailing words\n"
    )
    assert [node.tag for node in document.root.all("gpu")] == ["gpu", "gpu"]
    assert document.messages == ["WARNING: infoROM is corrupted at gpu 0000:01:00.0", "trailing words"]
    assert document.repairs == []


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le-bom"])
def test_other_encodings(encoding: str) -> None:
    text = WHOLE.decode()
    data = b"\xff\xfe" + text.encode("utf-16-le") if encoding == "utf-16-le-bom" else text.encode(encoding)
    assert len(gpu_info.parse(data)["gpus"]) == 2


def test_a_declared_encoding_that_nobody_knows_does_not_matter() -> None:
    data = WHOLE.replace(b'<?xml version="1.0" ?>', b'<?xml version="1.0" encoding="no-such-thing"?>')
    assert len(gpu_info.parse(data)["gpus"]) == 2


@pytest.mark.parametrize(
    ("name", "repair"),
    [
        (b"a & b", "process names were escaped"),
        (b"<defunct>", "process names were escaped"),
        (b"bell\x07", "XML does not allow"),
        (b"caf\xe9", ""),
    ],
)
def test_process_names_that_xml_does_not_allow(name: bytes, repair: str) -> None:
    process = (
        b"<process_info><pid>7</pid><process_name>" + name + b"</process_name>"
        b"<used_memory>12 MiB</used_memory></process_info>"
    )
    data = WHOLE.replace(b"<processes>", b"<processes>" + process, 1)
    result = gpu_info.parse(data)
    found = result["gpus"][0]["processes"][0]
    assert found["pid"] == 7 and found["memory_mib"] == 12 and found["name"]
    assert repair in " ".join(result["repairs"])


def bomb() -> bytes:
    entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    head = f'<!DOCTYPE nvidia_smi_log [<!ENTITY l0 "ha">{entities}]>'
    return f"{head}<nvidia_smi_log><driver_version>&l11;</driver_version></nvidia_smi_log>".encode()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"   \n", "empty"),
        (b"<html><body>captive portal</body></html>", "not the output of nvidia-smi"),
        (WHOLE[: len(WHOLE) // 2], "truncated"),
        (WHOLE[:40], "not the output of nvidia-smi"),
        (WHOLE.replace(b"</pci>", b"", 1), "line"),
        (bomb(), "refused"),
        (
            b'<!DOCTYPE nvidia_smi_log [<!ENTITY x SYSTEM "file:///etc/hostname">]><nvidia_smi_log>&x;</nvidia_smi_log>',
            "refused",
        ),
        (b"<nvidia_smi_log>" + b"<a>" * 60 + b"</a>" * 60 + b"</nvidia_smi_log>", "deep"),
        (
            b"<nvidia_smi_log>"
            + b"<supported_clocks>" * 60
            + b"</supported_clocks>" * 60
            + b"</nvidia_smi_log>",
            "deep",
        ),
        (b"<nvidia_smi_log>" + b"<a/>" * (xml.MAX_ELEMENTS + 1) + b"</nvidia_smi_log>", "elements"),
        (b"x" * (xml.MAX_BYTES + 1), "bytes"),
    ],
)
def test_what_is_refused_says_why(data: bytes, said: str) -> None:
    with pytest.raises(xml.GpuXmlError, match=said):
        xml.load(data)


@pytest.mark.parametrize("where", ["before", "inside", "after"])
def test_ten_megabytes_of_noise(where: str) -> None:
    noise = (b"noise without any sense \xff\xfe " * 1000 + b"\n") * 385
    data = {
        "before": noise + WHOLE,
        "inside": WHOLE.replace(b"<processes>", b"<noise>" + noise + b"</noise><processes>", 1),
        "after": WHOLE + noise,
    }[where]
    assert len(data) > 10_000_000
    result = gpu_info.parse(data)
    assert [gpu["memory_total_mib"] for gpu in result["gpus"]] == [16311, 16311]
    assert sum(len(line) for line in result["messages"]) < 10_000


def test_reordered_elements_read_the_same() -> None:
    document = xml.load(WHOLE)

    def turn(node: xml.Node) -> None:
        node.children.reverse()
        for child in node.children:
            turn(child)

    from ansible_collections.citadel.llm.plugins.module_utils._gpu_fields import gpu_from_xml

    straight = [gpu_from_xml(node, 0) for node in xml.load(WHOLE).root.all("gpu")]
    turn(document.root)
    turned = [gpu_from_xml(node, 0) for node in document.root.all("gpu")]
    for gpu in turned:
        gpu["clock_reasons"].reverse()
    assert list(reversed(turned)) == straight

# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which difference between a host and the records matters."""

from __future__ import annotations

import copy
from typing import Any, Dict, List

import pytest

from ansible_collections.citadel.llm.plugins.module_utils import _host_check as host_check
from ansible_collections.citadel.llm.plugins.module_utils._findings import Finding

HOST: Dict[str, Any] = {
    "cpu": {"model": "Intel(R) Core(TM) Ultra 9 285K", "cores": 24, "flags": ["avx", "avx2", "avx_vnni"]},
    "memory": {"total_mib": 128000, "ecc": None, "ecc_errors": None},
    "os": {
        "id": "ubuntu",
        "version": "24.04.2",
        "name": "Ubuntu 24.04.2 LTS",
        "kernel": "6.8.0-60-generic",
        "architecture": "x86_64",
    },
    "python": {"version": "3.12.3"},
    "virtualization": {"type": "none", "container": None},
    "reboot": {"required": False, "reasons": []},
    "time": {"synchronized": True, "daemons": ["chronyd"]},
    "network": {
        "hostname": "hx-llm-server-01",
        "fqdn": "hx-llm-server-01.example.org",
        "addresses": [
            {"address": "127.0.0.1", "scope": "host"},
            {"address": "192.168.10.29", "scope": "global"},
            {"address": "fe80::1", "scope": "link"},
        ],
    },
}


def host(**changes: Any) -> Dict[str, Any]:
    """The first server, with ``part__field=value`` changed."""
    changed = copy.deepcopy(HOST)
    for name, value in changes.items():
        part, _separator, field = name.partition("__")
        changed[part][field] = value
    return changed


def one(expected: Dict[str, Any], facts: Dict[str, Any]) -> Finding:
    findings = host_check.check(expected, facts)
    assert len(findings) == 1, findings
    return findings[0]


def test_the_first_server_as_it_was_found() -> None:
    findings = host_check.check(
        {
            "cpu": {"model": "AMD Threadripper PRO 7965WX", "cores_min": 16},
            "memory": {"expected_gb": 256.0, "minimum_gb": 64.0},
            "os": ["ubuntu 24.04", "debian 12"],
            "address": "192.168.10.27",
            "hostname": "hx-llm-server-01",
            "architecture": "x86_64",
            "virtualization": ["none"],
            "kernel_min": "5.15",
            "python_min": "3.9",
            "clock_synchronized": True,
            "reboot": True,
        },
        HOST,
    )
    told = {finding.id: (finding.severity, finding.found) for finding in findings}
    deviations = {name: found for name, (severity, found) in told.items() if severity != "ok"}
    assert deviations == {
        "host.cpu": "Intel Core Ultra 9 285K, 24 cores",
        "host.memory": "125 GB",
        "host.address": "192.168.10.29",
    }
    assert all(finding.severity != "blocking" for finding in findings)
    why = {finding.id: finding.why for finding in findings}
    assert why["host.cpu"].startswith("Different, suitable")
    assert why["host.memory"].startswith("Less, sufficient")
    assert why["host.address"].startswith("Different, functional")
    assert len(findings) == 11


def test_the_corrected_records_give_no_deviation() -> None:
    findings = host_check.check(
        {
            "cpu": {"model": "Core Ultra 9 285K", "cores_min": 24, "flags": ["avx2"]},
            "memory": {"expected_gb": 128.0, "minimum_gb": 128.0},
            "address": "192.168.10.29",
        },
        HOST,
    )
    assert [finding.severity for finding in findings] == ["ok", "ok", "ok"]


@pytest.mark.parametrize(
    "pattern, matches",
    [
        ("Core Ultra 9 285K", True),
        ("intel ultra 285k", True),
        ("Ultra 28?K", True),
        ("Core Ultra 9 285", False),
        ("Core i9", False),
        ("*", True),
    ],
)
def test_words_of_a_model(pattern: str, matches: bool) -> None:
    assert host_check.words_match(pattern, HOST["cpu"]["model"]) is matches


@pytest.mark.parametrize(
    "expected, facts, severity, in_why",
    [
        ({"cpu": {"cores_min": 32}}, host(), "blocking", "24 of at least 32"),
        ({"cpu": {"cores_min": 24}}, host(), "ok", ""),
        ({"cpu": {"flags": ["avx512f", "avx"]}}, host(), "blocking", "avx512f"),
        ({"memory": {"minimum_gb": 256.0}}, host(), "blocking", "minimum of 256"),
        ({"memory": {"expected_gb": 128.0}}, host(), "ok", ""),
        ({"memory": {"expected_gb": 64.0}}, host(), "ok", ""),
        ({"memory": {"expected_gb": 136.0}}, host(), "deviation", "no minimum"),
        ({"memory": {"ecc": True}}, host(memory__ecc=False), "deviation", "bit errors"),
        ({"memory": {"ecc": True}}, host(memory__ecc=True), "ok", ""),
        (
            {"memory": {"ecc": True}},
            host(memory__ecc=True, memory__ecc_errors={"correctable": 0, "uncorrectable": 2}),
            "blocking",
            "failing",
        ),
        ({"os": ["ubuntu 24.04"]}, host(), "ok", ""),
        ({"os": ["ubuntu"]}, host(), "ok", ""),
        ({"os": ["ubuntu 24.04.2"]}, host(), "ok", ""),
        ({"os": ["ubuntu 24.0"]}, host(), "deviation", "Another release"),
        ({"os": ["ubuntu 22.04"]}, host(), "deviation", "Another release"),
        ({"os": ["debian 12"]}, host(), "blocking", "not one of those"),
        ({"kernel_min": "6.10"}, host(), "blocking", "too old"),
        ({"kernel_min": "6.8"}, host(), "ok", ""),
        ({"python_min": "3.13"}, host(), "blocking", "too old"),
        ({"architecture": "aarch64"}, host(), "blocking", "do not run"),
        ({"hostname": "HX-LLM-Server-01"}, host(), "ok", ""),
        ({"hostname": "hx-llm-server-01.example.org"}, host(), "ok", ""),
        ({"hostname": "other"}, host(), "deviation", "is meant"),
        (
            {"virtualization": ["none"]},
            host(virtualization__type="kvm"),
            "deviation",
            "devices and performance",
        ),
        ({"virtualization": ["kvm", "none"]}, host(virtualization__type="kvm"), "ok", ""),
        ({"clock_synchronized": True}, host(time__synchronized=False), "deviation", "certificates"),
        ({"reboot": True}, host(reboot__reasons=["a package asks for it"]), "deviation", "installed"),
        ({"address": "192.168.10.27"}, host(network__addresses=[]), "blocking", "no address"),
    ],
)
def test_severities(expected: Dict[str, Any], facts: Dict[str, Any], severity: str, in_why: str) -> None:
    finding = one(expected, facts)
    assert finding.severity == severity
    assert in_why in finding.why
    assert not finding.unknown
    if severity != "ok":
        assert finding.remedy and finding.remedy != "Nothing to do."


@pytest.mark.parametrize(
    "expected, facts",
    [
        ({"cpu": {"model": "x"}}, host(cpu__model=None)),
        ({"cpu": {"cores_min": 1}}, host(cpu__cores=None)),
        ({"memory": {"minimum_gb": 1.0}}, host(memory__total_mib=None)),
        ({"memory": {"ecc": True}}, host(memory__ecc=None)),
        ({"os": ["debian"]}, host(os__id=None)),
        ({"kernel_min": "5"}, host(os__kernel=None)),
        ({"architecture": "x86_64"}, host(os__architecture=None)),
        ({"address": "192.0.2.1"}, host(network__addresses=None)),
        ({"virtualization": ["none"]}, host(virtualization__type=None)),
        ({"clock_synchronized": True}, host(time__synchronized=None)),
    ],
)
def test_what_is_not_known_is_never_ok(expected: Dict[str, Any], facts: Dict[str, Any]) -> None:
    finding = one(expected, facts)
    assert finding.unknown and finding.severity == "deviation"


def test_what_is_not_expected_is_not_told() -> None:
    nothing: List[Finding] = []
    expected: Dict[str, Any] = {
        "cpu": None,
        "memory": {},
        "os": [],
        "reboot": False,
        "clock_synchronized": False,
    }
    assert host_check.check(expected, HOST) == nothing


@pytest.mark.parametrize(
    "expected, message",
    [
        ({"address": "192.168.10"}, "192.168.10"),
        ({"kernel_min": "new"}, "new"),
        ({"python_min": "three"}, "three"),
    ],
)
def test_an_expectation_that_cannot_be_understood(expected: Dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        host_check.check(expected, HOST)


def test_an_ipv6_address_is_compared_as_an_address() -> None:
    facts = host(network__addresses=[{"address": "fd00::2", "scope": "global"}])
    assert one({"address": "fd00:0:0::2"}, facts).severity == "ok"

# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds the facts of a host against what was expected of it, and says whether a difference matters."""

from __future__ import annotations

import fnmatch
import ipaddress
import re
from typing import Any, Callable, Dict, List, Optional

from ansible_collections.citadel.llm.plugins.module_utils._findings import (
    Finding,
    blocking,
    deviation,
    ok,
    unknown,
)
from ansible_collections.citadel.llm.plugins.module_utils._host_info import version_key

# The firmware and the kernel keep a part of the installed memory: 128 GB installed show as 125 GB.
RESERVED_SHARE = 0.07


def check(expected: Dict[str, Any], host: Dict[str, Any]) -> List[Finding]:
    """One finding for each expectation that is given.

    ``expected`` has the module's options, ``host`` the shape of ``_host_info.gather``. A fact that is None
    gives an unknown finding where something was expected of it. Raises ValueError for an expectation
    that cannot be understood, naming it.
    """
    findings: List[Finding] = []
    for option, judge in CHECKS.items():
        wanted = expected.get(option)
        if wanted is not None and wanted is not False and wanted != [] and wanted != {}:
            findings.extend(judge(wanted, host))
    return findings


def words_match(pattern: str, text: str) -> bool:
    """Whether each word of ``pattern`` (with shell wildcards) is a word of ``text``, in any order or case."""
    words = _words(text)
    return all(any(fnmatch.fnmatchcase(word, want) for word in words) for want in _words(pattern))


def _words(text: str) -> List[str]:
    return re.sub(r"\((r|tm|c)\)|[®™,@]", " ", text.lower()).split()


def short_model(model: str) -> str:
    """A processor's name without trade marks and clock."""
    return re.sub(r"\s+", " ", re.sub(r"\((R|TM|C)\)|\bCPU\b|@.*$", " ", model, flags=re.IGNORECASE)).strip()


def _unknown(id_: str, subject: str, expected: Any, what: str, remedy: str = "") -> List[Finding]:
    return [
        unknown(
            id_,
            subject,
            expected=expected,
            why="%s could not be found out on this host." % what,
            remedy=remedy or "Look on the host itself, and run the check again.",
        )
    ]


def _cpu(wanted: Dict[str, Any], host: Dict[str, Any]) -> List[Finding]:
    cpu = host["cpu"]
    model, least = wanted.get("model"), wanted.get("cores_min")
    expected = ", ".join(
        part for part in (model, "at least %d cores" % least if least else None, _flag_text(wanted)) if part
    )
    if (model and not cpu["model"]) or (least and not cpu["cores"]):
        return _unknown("host.cpu", "cpu", expected, "The processor's name or number of cores")
    found = "%s, %s cores" % (short_model(cpu["model"] or "unnamed"), cpu["cores"] or "an unknown number of")
    missing = sorted(set(wanted.get("flags") or []) - set(cpu["flags"]))
    if least and cpu["cores"] < least:
        return [
            blocking(
                "host.cpu",
                "cpu",
                expected=expected,
                found=found,
                why="Too few cores: %d of at least %d." % (cpu["cores"], least),
                remedy="Use a host with at least %d cores, or lower cpu.cores_min in the inventory." % least,
            )
        ]
    if missing:
        return [
            blocking(
                "host.cpu",
                "cpu",
                expected=expected,
                found=found + ", without " + ", ".join(missing),
                why="The processor lacks instructions that were asked for: %s." % ", ".join(missing),
                remedy="Use a host that has them, or an engine build that does not need them.",
            )
        ]
    if model and not words_match(model, cpu["model"]):
        sufficient = "it has the cores and instructions that are needed" if least else "no minimum is set"
        return [
            deviation(
                "host.cpu",
                "cpu",
                expected=expected,
                found=found,
                why="Different, suitable: another model; %s." % sufficient,
                remedy="Record the real model in the inventory (cpu.model), or accept the deviation.",
            )
        ]
    return [ok("host.cpu", "cpu", expected=expected, found=found)]


def _flag_text(wanted: Dict[str, Any]) -> Optional[str]:
    return "with " + ", ".join(wanted["flags"]) if wanted.get("flags") else None


def _memory(wanted: Dict[str, Any], host: Dict[str, Any]) -> List[Finding]:
    findings = []
    if wanted.get("expected_gb") is not None or wanted.get("minimum_gb") is not None:
        findings.append(_memory_size(wanted.get("expected_gb"), wanted.get("minimum_gb"), host["memory"]))
    if wanted.get("ecc"):
        findings.extend(_memory_ecc(host["memory"]))
    return findings


def _memory_size(full: Optional[float], least: Optional[float], memory: Dict[str, Any]) -> Finding:
    expected = " and ".join(
        text for text in (full and "%g GB" % full, least and "at least %g GB" % least) if text
    )
    if memory["total_mib"] is None:
        return _unknown("host.memory", "memory", expected, "The size of the memory")[0]
    size = memory["total_mib"] / 1024.0
    found = "%.0f GB" % size
    usable = 1 - RESERVED_SHARE
    if least is not None and size < least * usable:
        return blocking(
            "host.memory",
            "memory",
            expected=expected,
            found=found,
            why="Less than the minimum of %g GB." % least,
            remedy="Add memory, or lower memory.minimum_gb if smaller models are served.",
        )
    if full is not None and size < full * usable:
        enough = "at least %g GB are needed" % least if least is not None else "no minimum is set"
        return deviation(
            "host.memory",
            "memory",
            expected=expected,
            found=found,
            why="Less, sufficient: %s." % enough,
            remedy="Record the real size in the inventory (memory.expected_gb), or accept the deviation.",
        )
    return ok("host.memory", "memory", expected=expected, found=found)


def _memory_ecc(memory: Dict[str, Any]) -> List[Finding]:
    expected = "memory with error correction"
    if memory["ecc"] is None:
        remedy = "Run as root: the firmware's tables are readable by root alone."
        return _unknown("host.memory_ecc", "memory", expected, "Error correction", remedy)
    errors = memory["ecc_errors"] or {}
    if errors.get("uncorrectable"):
        return [
            blocking(
                "host.memory_ecc",
                "memory",
                expected=expected,
                found="%d uncorrectable errors" % errors["uncorrectable"],
                why="A memory module is failing.",
                remedy="Find the module below /sys/devices/system/edac/mc and replace it.",
            )
        ]
    if not memory["ecc"]:
        return [
            deviation(
                "host.memory_ecc",
                "memory",
                expected=expected,
                found="memory without error correction",
                why="Different, functional: bit errors go unnoticed.",
                remedy="Accept the deviation, or fit ECC modules on a board that supports them.",
            )
        ]
    return [ok("host.memory_ecc", "memory", expected=expected, found=expected)]


def _os(wanted: List[str], host: Dict[str, Any]) -> List[Finding]:
    system = host["os"]
    expected = " or ".join(wanted)
    if not system["id"]:
        return _unknown("host.os", "operating system", expected, "The operating system (/etc/os-release)")
    found = "%s %s" % (system["id"], system["version"] or "")
    parsed = [(text.split()[0].lower(), text.split()[1:]) for text in wanted if text.split()]
    same = [version for name, version in parsed if name == system["id"].lower()]
    if any(not version or _is_version(version[0], system["version"] or "") for version in same):
        return [ok("host.os", "operating system", expected=expected, found=system["name"] or found)]
    if same:
        return [
            deviation(
                "host.os",
                "operating system",
                expected=expected,
                found=system["name"] or found,
                why="Another release of an expected system: not tried out.",
                remedy="Install an expected release, or add this one to the inventory once it is proven.",
            )
        ]
    return [
        blocking(
            "host.os",
            "operating system",
            expected=expected,
            found=system["name"] or found,
            why="This operating system is not one of those that are supported here.",
            remedy="Install one of: %s." % ", ".join(wanted),
        )
    ]


def _is_version(wanted: str, found: str) -> bool:
    return found == wanted or found.startswith(wanted + ".")


def _at_least(
    id_: str, subject: str, least: str, found: Optional[str], why: str, remedy: str
) -> List[Finding]:
    if not version_key(least):
        raise ValueError("the least version of the %s is %r: give numbers such as 6.8" % (subject, least))
    expected = "at least " + least
    if not found:
        return _unknown(id_, subject, expected, "The version of the " + subject)
    if version_key(found) < version_key(least):
        return [blocking(id_, subject, expected=expected, found=found, why=why, remedy=remedy)]
    return [ok(id_, subject, expected=expected, found=found)]


def _kernel(wanted: str, host: Dict[str, Any]) -> List[Finding]:
    why, remedy = "The kernel is too old.", "Install a newer kernel and boot it."
    return _at_least("host.kernel", "kernel", wanted, host["os"]["kernel"], why, remedy)


def _python(wanted: str, host: Dict[str, Any]) -> List[Finding]:
    why = "The Python that Ansible uses on this host is too old."
    remedy = "Install Python %s or newer and name it in ansible_python_interpreter." % wanted
    return _at_least("host.python", "python", wanted, host["python"]["version"], why, remedy)


def _architecture(wanted: str, host: Dict[str, Any]) -> List[Finding]:
    found = host["os"]["architecture"]
    if not found:
        return _unknown("host.architecture", "architecture", wanted, "The architecture")
    if found != wanted:
        why = "Programs built for %s do not run here." % wanted
        remedy = "Use a host of that architecture, or packages and wheels built for %s." % found
        return [
            blocking(
                "host.architecture", "architecture", expected=wanted, found=found, why=why, remedy=remedy
            )
        ]
    return [ok("host.architecture", "architecture", expected=wanted, found=found)]


def _address(wanted: str, host: Dict[str, Any]) -> List[Finding]:
    try:
        address = ipaddress.ip_address(wanted)
    except ValueError as error:
        raise ValueError("address: %r is no IP address" % wanted) from error
    known = host["network"]["addresses"]
    if known is None:
        return _unknown("host.address", "address", wanted, "The addresses")
    usable = [entry["address"] for entry in known if entry["scope"] == "global"]
    if any(ipaddress.ip_address(one) == address for one in usable):
        return [ok("host.address", "address", expected=wanted, found=wanted)]
    if not usable:
        return [
            blocking(
                "host.address",
                "address",
                expected=wanted,
                found=None,
                why="The host has no address that others can reach.",
                remedy="Configure the network.",
            )
        ]
    return [
        deviation(
            "host.address",
            "address",
            expected=wanted,
            found=", ".join(usable),
            why="Different, functional: the host can be reached under another address.",
            remedy="Record the real address in the inventory, in DNS and in the rules of firewalls.",
        )
    ]


def _hostname(wanted: str, host: Dict[str, Any]) -> List[Finding]:
    network = host["network"]
    found = network["fqdn"] if "." in wanted and network["fqdn"] else network["hostname"]
    if found.lower() == wanted.lower():
        return [ok("host.hostname", "host name", expected=wanted, found=found)]
    return [
        deviation(
            "host.hostname",
            "host name",
            expected=wanted,
            found=found,
            why="Different, functional; make sure that this is the host that is meant.",
            remedy="Set the name (hostnamectl hostname %s), or correct the inventory." % wanted,
        )
    ]


def _virtualization(wanted: List[str], host: Dict[str, Any]) -> List[Finding]:
    kinds = host["virtualization"]
    expected = " or ".join(wanted)
    if kinds["type"] is None and kinds["container"] is None:
        return _unknown("host.virtualization", "virtualisation", expected, "Virtualisation")
    found = kinds["container"] or kinds["type"]
    if found in wanted:
        return [ok("host.virtualization", "virtualisation", expected=expected, found=found)]
    return [
        deviation(
            "host.virtualization",
            "virtualisation",
            expected=expected,
            found=found,
            why="Different: devices and performance may not be those of the machine below.",
            remedy="Make sure that GPUs and disks are passed through, then record it in the inventory.",
        )
    ]


def _clock(_wanted: bool, host: Dict[str, Any]) -> List[Finding]:
    time = host["time"]
    if time["synchronized"] is None:
        return _unknown("host.clock", "clock", "synchronised", "The state of the clock")
    if time["synchronized"]:
        return [ok("host.clock", "clock", expected="synchronised", found="synchronised")]
    daemons = ", ".join(time["daemons"])
    remedy = "See why %s does not synchronise (timedatectl, chronyc tracking)." % daemons
    return [
        deviation(
            "host.clock",
            "clock",
            expected="synchronised",
            found="not synchronised" + ("" if daemons else ", no time daemon is running"),
            why="A wrong clock breaks certificates, tokens and the order of log lines.",
            remedy=remedy if daemons else "Install and start chrony or systemd-timesyncd.",
        )
    ]


def _reboot(_wanted: bool, host: Dict[str, Any]) -> List[Finding]:
    reasons = host["reboot"]["reasons"]
    if not reasons:
        return [ok("host.reboot", "reboot", expected="no reboot pending", found="no reboot pending")]
    return [
        deviation(
            "host.reboot",
            "reboot",
            expected="no reboot pending",
            found="; ".join(reasons),
            why="What runs is not what is installed: kernel modules such as the GPU driver's may not match.",
            remedy="Reboot the host before it is put to work.",
        )
    ]


CHECKS: Dict[str, Callable[[Any, Dict[str, Any]], List[Finding]]] = {
    "cpu": _cpu,
    "memory": _memory,
    "os": _os,
    "kernel_min": _kernel,
    "architecture": _architecture,
    "address": _address,
    "hostname": _hostname,
    "virtualization": _virtualization,
    "python_min": _python,
    "clock_synchronized": _clock,
    "reboot": _reboot,
}

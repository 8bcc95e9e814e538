# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds the ssh files of an account against what sshd and good practice ask for."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from ansible_collections.citadel.llm.plugins.module_utils._account_check_sight import Entry
from ansible_collections.citadel.llm.plugins.module_utils._findings import (
    Finding,
    blocking,
    deviation,
    ok,
    unknown,
)

GROUP_OR_OTHERS_WRITE = 0o022


def ssh_findings(wanted: Dict[str, Any], entry: Entry, ssh: Dict[str, Any]) -> List[Finding]:
    """``ssh`` has the shape of ``ssh_files``."""
    if "error" in ssh:
        return [
            unknown(
                "account.ssh",
                entry.name,
                expected="ssh files of the account",
                why="Could not look: %s." % ssh["error"],
                remedy="Run as root (become).",
            )
        ]
    count = wanted.get("ssh_keys")
    if ssh["directory"] is None and not count:
        return [ok("account.ssh", entry.name, expected="no keys needed", found="no ssh directory")]
    directory = entry.home + "/.ssh"
    findings = _home(entry, ssh["home"])
    findings += _modes("account.ssh_directory", directory, 0o700, entry, ssh["directory"])
    if ssh["directory"] is None:
        return findings
    findings += _modes("account.ssh_file", directory + "/authorized_keys", 0o600, entry, ssh["file"])
    return findings + (_keys(entry, ssh["keys"], count) if ssh["file"] else [])


def _home(entry: Entry, home: Optional[Dict[str, int]]) -> List[Finding]:
    if home is None or (not home["mode"] & GROUP_OR_OTHERS_WRITE and home["owner_uid"] in (0, entry.uid)):
        return []
    return [
        blocking(
            "account.ssh_home",
            entry.home,
            expected="written to by its owner alone",
            found="%04o, owner %d" % (home["mode"], home["owner_uid"]),
            why="sshd ignores the keys of an account whose home others can write to.",
            remedy="chown %s %s && chmod go-w %s" % (entry.name, entry.home, entry.home),
        )
    ]


def _modes(id_: str, path: str, want: int, entry: Entry, found: Optional[Dict[str, int]]) -> List[Finding]:
    expected = "%04o, owner %s" % (want, entry.name)
    remedy = "chown %s %s && chmod %o %s" % (entry.name, path, want, path)
    if found is None:
        why = "It is not there: nobody can log in by key."
        remedy = "Apply the stage account with account_authorized_keys."
        return [deviation(id_, path, expected=expected, found="missing", why=why, remedy=remedy)]
    is_owner = found["owner_uid"] == entry.uid
    text = "%04o, owner %s" % (found["mode"], entry.name if is_owner else found["owner_uid"])
    if found["mode"] == want and is_owner:
        return [ok(id_, path, expected=expected, found=text)]
    if not is_owner or found["mode"] & GROUP_OR_OTHERS_WRITE:
        why = "sshd ignores keys that others could have written."
        return [blocking(id_, path, expected=expected, found=text, why=why, remedy=remedy)]
    why = "Different, functional: others can read it." if found["mode"] & ~want else "Narrower than expected."
    return [deviation(id_, path, expected=expected, found=text, why=why, remedy=remedy)]


def _keys(entry: Entry, keys: List[Dict[str, Any]], count: Optional[int]) -> List[Finding]:
    good = [key for key in keys if key["type"]]
    found = "%d: %s" % (len(good), ", ".join(_name(key) for key in good)) if good else "none"
    expected = "keys that are strong" if count is None else "%d keys" % count
    findings = []
    if count is not None and len(good) != count:
        why = (
            "More keys than the inventory knows open this account."
            if len(good) > count
            else "Somebody who should be able to log in cannot."
        )
        remedy = "Apply the stage account: its list of keys is exclusive."
        findings.append(
            deviation("account.ssh_keys", entry.name, expected=expected, found=found, why=why, remedy=remedy)
        )
    weak = [key for key in keys if key["weakness"]]
    if weak:
        findings.append(
            deviation(
                "account.ssh_weak_keys",
                entry.name,
                expected="Ed25519, ECDSA, or RSA of at least 3072 bits",
                found="; ".join("line %d: %s" % (key["line"], key["weakness"]) for key in weak),
                why="These lines do not open the account safely, or not at all.",
                remedy="Have their owners make Ed25519 keys, and replace them in the inventory.",
            )
        )
    return findings or [ok("account.ssh_keys", entry.name, expected=expected, found=found)]


def _name(key: Dict[str, Any]) -> str:
    return "%s %d" % (key["type"], key["bits"]) if key["bits"] else str(key["type"])

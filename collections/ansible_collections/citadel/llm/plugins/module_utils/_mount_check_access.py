# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who owns an expected mount, and whether the service's user can really write to it."""

from __future__ import annotations

import errno
import grp
import os
import pwd
from typing import List

from ansible_collections.citadel.llm.plugins.module_utils import _storage_info_probe
from ansible_collections.citadel.llm.plugins.module_utils._findings import (
    Finding,
    blocking,
    deviation,
    ok,
    unknown,
)
from ansible_collections.citadel.llm.plugins.module_utils._mount_check_sight import Sight

REFUSED = (errno.EACCES, errno.EPERM)
EXHAUSTED = (errno.ENOSPC, errno.EDQUOT)


def access(sight: Sight, before_provisioning: bool, exhausted: bool) -> List[Finding]:
    """The findings about owner and writability, one for each cause.

    A wrong owner that keeps the user out is told once, with the owner. ``exhausted``: that no space or no
    inodes are left has been told already, and a write that fails for it is not told again.
    """
    owner = _ownership(sight, before_provisioning)
    written = _writing(sight, before_provisioning)
    refused = sight.write is not None and sight.write.errno in REFUSED
    if refused and any(finding.severity != "ok" for finding in owner):
        written = []
    if exhausted and sight.write is not None and sight.write.errno in EXHAUSTED:
        written = []
    return owner + written


def _ownership(sight: Sight, before: bool) -> List[Finding]:
    user, group = sight.wanted.get("owner"), sight.wanted.get("group")
    if not user and not group:
        return []
    expected = ":".join(name or "*" for name in (user, group))
    if sight.uid is None:
        return [
            unknown(
                "mount.owner",
                sight.path,
                expected=expected,
                why="Could not look: %s." % os.strerror(sight.errno or errno.EACCES),
                remedy="Run as root.",
            )
        ]
    found = "%s:%s" % (sight.owner, sight.group)
    if (not user or user == sight.owner) and (not group or group == sight.group):
        return [ok("mount.owner", sight.path, expected=expected, found=found)]
    facts = {"expected": expected, "found": found}
    remedy = "chown %s %s" % (":".join(name or "" for name in (user, group)), sight.path)
    if (user and not _exists(user)) or (group and not _group_exists(group)):
        why = "The expected account does not exist yet: the stages account and layout make it the owner."
        return [deviation("mount.owner", sight.path, why=why, remedy="Apply these stages.", **facts)]
    refused = sight.write is not None and sight.write.errno in REFUSED
    if refused and not before:
        why = "%s cannot write here." % sight.wanted["writable_by"]
        return [blocking("mount.owner", sight.path, why=why, remedy=remedy, **facts)]
    if before:
        why = "Not as expected yet: the stage layout makes it so."
        return [deviation("mount.owner", sight.path, why=why, remedy="Apply the stage layout.", **facts)]
    proven = sight.write is not None and sight.write.value
    why = (
        "Different, functional: the service's user can write." if proven else "Another owner than on record."
    )
    return [deviation("mount.owner", sight.path, why=why, remedy=remedy, **facts)]


def _writing(sight: Sight, before: bool) -> List[Finding]:
    user = sight.wanted.get("writable_by")
    if not user:
        return []
    expected = "writable by " + user
    answer = sight.write
    if answer is None:
        if not _exists(user):
            why, remedy = "There is no user %s on this host yet." % user, "Apply the stage account."
        else:
            why, remedy = "Only root can try as another user.", "Run as root (become)."
        return [unknown("mount.writable", sight.path, expected=expected, why=why, remedy=remedy)]
    if not answer.in_time:
        return [
            unknown(
                "mount.writable",
                sight.path,
                severity="blocking",
                expected=expected,
                found="no answer",
                why="Writing did not end in time: the disk or its server hangs.",
                remedy="Read the kernel's log (journalctl -k) for the device.",
            )
        ]
    if answer.errno is None:
        found = "a file was created, written and removed"
        return [ok("mount.writable", sight.path, expected=expected, found=found)]
    found = os.strerror(answer.errno)
    if answer.errno in REFUSED and before:
        why, remedy = "Not yet: the stage layout sets owner and mode.", "Apply the stage layout."
        return [
            deviation("mount.writable", sight.path, expected=expected, found=found, why=why, remedy=remedy)
        ]
    return [
        blocking(
            "mount.writable",
            sight.path,
            expected=expected,
            found=found,
            why="%s tried to create a file here, and could not." % user,
            remedy="Look at the modes on the way (namei -l %s), and at quotas." % sight.path,
        )
    ]


def _exists(user: str) -> bool:
    return _storage_info_probe.identity(user) is not None or user in {str(e.pw_uid) for e in pwd.getpwall()}


def _group_exists(group: str) -> bool:
    try:
        grp.getgrnam(group)
    except KeyError:
        return False
    return True

# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds an account against what was expected of it; access is tried by really being that user."""

from __future__ import annotations

import errno
import functools
import os
import stat
from typing import Any, Dict, List, Optional, Tuple

from ansible_collections.citadel.llm.plugins.module_utils import _account_check_sight as look
from ansible_collections.citadel.llm.plugins.module_utils import _storage_info_probe
from ansible_collections.citadel.llm.plugins.module_utils._account_check_ssh import ssh_findings
from ansible_collections.citadel.llm.plugins.module_utils._findings import (
    Finding,
    blocking,
    deviation,
    ok,
    unknown,
)
from ansible_collections.citadel.llm.plugins.module_utils._host_info_tree import Tree
from ansible_collections.citadel.llm.plugins.module_utils._mount_check_sight import try_write

SUDO_ORDER = (look.NONE, look.SCOPED, look.FULL)


def check(
    wanted: Dict[str, Any], root: str = "/", timeout: float = 2.0
) -> Tuple[List[Finding], Dict[str, Any]]:
    """The findings, and what the account is.

    ``wanted`` has the module's options. Users are those of the name service, or of the files below ``root``
    where that is a recorded tree; nobody can be switched to then.
    """
    tree = Tree(root)
    entry = look.databases(tree).user(wanted["user"])
    judge = _Judge(wanted, tree, timeout)
    if entry is None:
        return judge.absent(), {"user": wanted["user"], "exists": False}
    findings = judge.identity(entry)
    facts: Dict[str, Any] = dict(entry._asdict(), exists=True, user=entry.name)
    del facts["name"]
    if wanted.get("password_locked") is not None:
        facts["password_locked"] = look.password_locked(tree, entry.name)
        findings += judge.password(facts["password_locked"])
    if wanted.get("ssh"):
        facts["ssh"] = look.ssh_files(tree, entry.home, timeout)
        findings += ssh_findings(wanted, entry, facts["ssh"])
    if wanted.get("sudo"):
        facts["sudo"] = look.sudo_rights(entry.name, timeout)
        findings += judge.sudo(facts["sudo"])
    findings += judge.directories()
    return findings, facts


class _Judge:
    def __init__(self, wanted: Dict[str, Any], tree: Tree, timeout: float) -> None:
        self.wanted, self.tree, self.timeout = wanted, tree, timeout
        self.user = str(wanted["user"])
        self.before = bool(wanted.get("before_provisioning"))

    def _bad(self, id_: str, subject: Optional[str] = None, **facts: Any) -> Finding:
        """Blocking, or a deviation while the stage that puts it right is still to come."""
        return (deviation if self.before else blocking)(id_, subject or self.user, **facts)

    def absent(self) -> List[Finding]:
        """There is no such user; a number that somebody else has is what will keep it from being made."""
        findings = [
            self._bad(
                "account.exists",
                expected="user " + self.user,
                found="no such user",
                why="Not there yet: the stage account creates it."
                if self.before
                else "There is no such user.",
                remedy="Apply the stage account.",
            )
        ]
        found = look.databases(self.tree)
        for id_, name, holder in (
            ("account.uid", "uid", found.name_of_uid),
            ("account.gid", "gid", found.name_of_gid),
        ):
            number = self.wanted.get(name)
            taken = holder(number) if number is not None else None
            if taken is not None and not (name == "gid" and taken == (self.wanted.get("group") or self.user)):
                findings.append(
                    blocking(
                        id_,
                        self.user,
                        expected=number,
                        found="%s belongs to %s" % (number, taken),
                        why="The number is taken, so the account cannot be made with it.",
                        remedy="Give %s another number, or choose a free one as citadel_%s." % (taken, name),
                    )
                )
        return findings

    def identity(self, entry: look.Entry) -> List[Finding]:
        """The entry's fields, one finding for each that is expected."""
        findings = [ok("account.exists", self.user, expected="user " + self.user, found="uid %d" % entry.uid)]
        for name, found in (("uid", entry.uid), ("gid", entry.gid)):
            want = self.wanted.get(name)
            if want is not None:
                why = "Files on shared and restored disks belong to numbers, not to names."
                remedy = "Free the number, then change the account (%s) and the owner of its files." % (
                    "usermod -u" if name == "uid" else "groupmod -g"
                )
                findings.append(self._equal("account." + name, want, found, why, remedy, blocking))
        fields = (
            ("group", entry.group, "another primary group", "usermod -g %s %s"),
            ("home", entry.home, "another home directory", "usermod -d %s %s"),
            ("shell", entry.shell, "another login shell", "usermod -s %s %s"),
        )
        for name, text, what, command in fields:
            want = self.wanted.get(name)
            if want is not None:
                why, remedy = "Different, functional: %s." % what, command % (want, self.user)
                findings.append(self._equal("account." + name, want, text, why, remedy, deviation))
        return findings + self._groups(entry)

    def _equal(self, id_: str, want: Any, found: Any, why: str, remedy: str, severity: Any) -> Finding:
        if want == found:
            return ok(id_, self.user, expected=want, found=found)
        result: Finding = severity(id_, self.user, expected=want, found=found, why=why, remedy=remedy)
        return result

    def _groups(self, entry: look.Entry) -> List[Finding]:
        wanted = self.wanted.get("groups")
        if not wanted:
            return []
        missing = [name for name in wanted if name not in [*entry.groups, entry.group]]
        facts = {"expected": ", ".join(wanted), "found": ", ".join(entry.groups) or "none"}
        if not missing:
            return [ok("account.groups", self.user, **facts)]
        why = "It lacks what membership in %s opens." % ", ".join(missing)
        remedy = "usermod -a -G %s %s" % (",".join(missing), self.user)
        return [deviation("account.groups", self.user, why=why, remedy=remedy, **facts)]

    def password(self, locked: Optional[bool]) -> List[Finding]:
        """Whether a password opens the account."""
        want = self.wanted["password_locked"]
        expected = "no password opens it" if want else "a password is set"
        if locked is None:
            why = "Only root can read /etc/shadow, or it does not list the account."
            return [unknown("account.password", self.user, expected=expected, why=why, remedy="Run as root.")]
        found = "no password opens it" if locked else "a password is set"
        why = (
            "Different, functional; keys alone are meant to open the account."
            if want
            else "Keys alone open it."
        )
        remedy = ("passwd -l %s" if want else "passwd %s") % self.user
        return [self._equal("account.password", expected, found, why, remedy, deviation)]

    def sudo(self, rights: Dict[str, Any]) -> List[Finding]:
        """The rights by sudo that are in effect, whichever files grant them."""
        want, found = self.wanted["sudo"], rights["mode"]
        facts: Dict[str, Any] = {"expected": want, "found": found}
        if found is None:
            why, remedy = "Could not look: %s." % rights["reason"], "Run as root (become)."
            return [unknown("account.sudo", self.user, why=why, remedy=remedy, **facts)]
        if rights["reason"]:
            facts["found"] = "%s: %s" % (found, rights["reason"])
        if want == found:
            return [ok("account.sudo", self.user, **facts)]
        remedy = "Apply the stage account with account_sudo: %s, and look for other rules: sudo -l -U %s" % (
            want,
            self.user,
        )
        if SUDO_ORDER.index(found) > SUDO_ORDER.index(want):
            facts["found"] = "%s: %s" % (found, "; ".join(rights["rules"]))
            why = "The account may do more than it should."
        else:
            why = "People who use the account cannot do what they are meant to."
        return [self._bad("account.sudo", why=why, remedy=remedy, **facts)]

    def directories(self) -> List[Finding]:
        """Each directory's mode, and whether the user can really use it."""
        wanted = self.wanted.get("directories") or []
        looks = [functools.partial(_mode, self.tree.path(one["path"])) for one in wanted]
        modes = _storage_info_probe.run(looks, self.timeout)
        findings: List[Finding] = []
        there = []
        for one, answer in zip(wanted, modes):  # noqa: B905 (Python 3.9 has no strict)
            findings += self._directory_mode(one, answer)
            if answer.value is not None:
                there.append(one)
        return findings + self._tries(there)

    def _directory_mode(self, one: Dict[str, Any], answer: _storage_info_probe.Answer) -> List[Finding]:
        path, want = one["path"], one.get("mode")
        if answer.value is None:
            facts: Dict[str, Any] = {"expected": "a directory"}
            if not answer.in_time:
                why, remedy = "It does not answer.", "See the findings about mounts."
                return [
                    unknown("account.directory", path, severity="blocking", why=why, remedy=remedy, **facts)
                ]
            error = os.strerror(answer.errno or 0)
            if answer.errno == errno.EACCES:
                why, remedy = "Could not look: %s." % error, "Run as root (become)."
                return [unknown("account.directory", path, why=why, remedy=remedy, **facts)]
            why, remedy = "It is not there.", "Apply the stage layout."
            return [self._bad("account.directory", path, found=error, why=why, remedy=remedy, **facts)]
        if want is None:
            return []
        found = "%04o" % answer.value
        expected = "%04o" % int(want, 8)
        if found == expected:
            return [ok("account.directory", path, expected=expected, found=found)]
        wider = answer.value & ~int(want, 8)
        why = "More open than expected." if wider else "Narrower than expected."
        remedy = "chmod %s %s" % (expected, path)
        return [deviation("account.directory", path, expected=expected, found=found, why=why, remedy=remedy)]

    def _tries(self, wanted: List[Dict[str, Any]]) -> List[Finding]:
        wanted = [one for one in wanted if one.get("access", "read") != "none"]
        if not wanted:
            return []
        who = _storage_info_probe.identity(self.user) if self.tree.is_live else None
        if who is None or not _storage_info_probe.can_become(who):
            return [self._not_tried(one) for one in wanted]
        actions = {"read": _try_read, "write": try_write}
        tasks = [
            _storage_info_probe.as_user(
                who, functools.partial(actions[one.get("access", "read")], self.tree.path(one["path"]))
            )
            for one in wanted
        ]
        answers = _storage_info_probe.run(tasks, self.timeout)
        return [self._tried(one, answer) for one, answer in zip(wanted, answers)]  # noqa: B905

    def _not_tried(self, one: Dict[str, Any]) -> Finding:
        expected = "%s by %s" % (one.get("access", "read"), self.user)
        why, remedy = "Only root can try as another user.", "Run as root (become)."
        return unknown("account.access", one["path"], expected=expected, why=why, remedy=remedy)

    def _tried(self, one: Dict[str, Any], answer: _storage_info_probe.Answer) -> Finding:
        access = one.get("access", "read")
        expected = "%s by %s" % (access, self.user)
        if not answer.in_time:
            why, remedy = "The attempt did not end in time.", "See the findings about mounts."
            return unknown(
                "account.access", one["path"], severity="blocking", expected=expected, why=why, remedy=remedy
            )
        if answer.errno is None:
            return ok("account.access", one["path"], expected=expected, found="tried, and it works")
        return self._bad(
            "account.access",
            one["path"],
            expected=expected,
            found=os.strerror(answer.errno),
            why="%s tried, and could not." % self.user,
            remedy="Look at the modes on the way: namei -l %s" % one["path"],
        )


def _mode(path: str) -> int:
    status = os.stat(path)
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    return stat.S_IMODE(status.st_mode)


def _try_read(path: str) -> bool:
    os.listdir(path)
    return True

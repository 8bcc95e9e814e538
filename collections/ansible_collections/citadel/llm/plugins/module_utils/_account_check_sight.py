# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an account really is: its entries in the databases, its ssh files, its rights by sudo."""

from __future__ import annotations

import functools
import grp
import os
import pwd
import re
import shutil
import stat
import subprocess
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from ansible_collections.citadel.llm.plugins.module_utils import _storage_info_probe
from ansible_collections.citadel.llm.plugins.module_utils._account_check_keys import parse_keys
from ansible_collections.citadel.llm.plugins.module_utils._host_info_tree import Tree

COMMAND_PATH = "/usr/bin:/usr/local/bin:/bin:/usr/sbin:/usr/local/sbin:/sbin"
LONGEST_KEY_FILE = 1 << 20
NONE, SCOPED, FULL = "none", "scoped", "full"


class Entry(NamedTuple):
    """An account as the name service tells it."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str
    group: str
    groups: List[str]


class Databases(NamedTuple):
    """Where accounts are looked up: the name service of the running host, or the files of a tree."""

    user: Callable[[str], Optional[Entry]]
    name_of_uid: Callable[[int], Optional[str]]
    name_of_gid: Callable[[int], Optional[str]]


def databases(tree: Tree) -> Databases:
    """The name service of this host, or C(/etc/passwd) and C(/etc/group) of a recorded tree."""
    if tree.is_live:
        return Databases(_live_user, _live_uid, _live_gid)
    users = [fields for fields in (line.split(":") for line in tree.lines("/etc/passwd")) if len(fields) >= 7]
    groups = [fields for fields in (line.split(":") for line in tree.lines("/etc/group")) if len(fields) >= 4]
    names = {int(fields[2]): fields[0] for fields in groups}

    def user(name: str) -> Optional[Entry]:
        for fields in users:
            if fields[0] == name:
                gid = int(fields[3])
                more = [group[0] for group in groups if name in group[3].split(",") and int(group[2]) != gid]
                group = names.get(gid, str(gid))
                return Entry(name, int(fields[2]), gid, fields[5], fields[6], group, sorted(more))
        return None

    return Databases(user, {int(fields[2]): fields[0] for fields in users}.get, names.get)


def _live_user(name: str) -> Optional[Entry]:
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        return None
    more = [gid for gid in os.getgrouplist(name, found.pw_gid) if gid != found.pw_gid]
    groups = sorted(_live_gid(gid) or str(gid) for gid in more)
    group = _live_gid(found.pw_gid) or str(found.pw_gid)
    return Entry(name, found.pw_uid, found.pw_gid, found.pw_dir, found.pw_shell, group, groups)


def _live_uid(uid: int) -> Optional[str]:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def _live_gid(gid: int) -> Optional[str]:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return None


def password_locked(tree: Tree, user: str) -> Optional[bool]:
    """Whether no password opens the account; None where the shadow file may not be read."""
    text = tree.text("/etc/shadow")
    if text is None:
        return None
    for line in text.splitlines():
        fields = line.split(":")
        if fields[0] == user and len(fields) > 1:
            return fields[1].startswith(("!", "*"))
    return None


def ssh_files(tree: Tree, home: str, timeout: float) -> Dict[str, Any]:
    """``home, directory, file`` (each ``owner_uid, mode`` or None) and ``keys``, or an ``error``."""
    task = functools.partial(_read_ssh, tree.path(home))
    answer = _storage_info_probe.run([task], timeout)[0]
    if not answer.in_time:
        return {"error": "the home directory does not answer"}
    if answer.errno is not None:
        return {"error": os.strerror(answer.errno)}
    found = dict(answer.value)
    found["keys"] = parse_keys(found.pop("text"))
    return found


def _read_ssh(home: str) -> Dict[str, Any]:
    directory = os.path.join(home, ".ssh")
    file = os.path.join(directory, "authorized_keys")
    found = {"home": _mode(home), "directory": _mode(directory), "file": _mode(file), "text": ""}
    if found["file"]:
        with open(file, "r", encoding="utf-8", errors="replace") as stream:
            found["text"] = stream.read(LONGEST_KEY_FILE)
    return found


def _mode(path: str) -> Optional[Dict[str, int]]:
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return {"owner_uid": status.st_uid, "mode": stat.S_IMODE(status.st_mode)}


def sudo_rights(user: str, timeout: float, run: Callable[..., Any] = subprocess.run) -> Dict[str, Any]:
    """``mode`` (none, scoped, full, or None where it could not be found out), ``rules``, and ``reason``.

    Asks sudo itself what is in effect; that needs root, or a user who asks about itself.
    """
    command = shutil.which("sudo", path=COMMAND_PATH)
    if command is None:
        return {"mode": NONE, "rules": [], "reason": "sudo is not installed"}
    argv = [command, "-n", "-l"]
    if os.geteuid() == 0:
        argv += ["-U", user]
    elif pwd.getpwuid(os.geteuid()).pw_name != user:
        return {"mode": None, "rules": [], "reason": "only root can ask about another user"}
    environment = {"PATH": COMMAND_PATH, "LC_ALL": "C"}
    try:
        done = run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=timeout,
            env=environment,
            check=False,
            universal_newlines=True,
        )
    except subprocess.TimeoutExpired:
        return {"mode": None, "rules": [], "reason": "sudo did not answer within %g s" % timeout}
    except OSError as error:
        return {"mode": None, "rules": [], "reason": "sudo cannot be run: %s" % error}
    return parse_sudo(done.stdout, done.stderr)


def parse_sudo(output: str, errors: str = "") -> Dict[str, Any]:
    """What C(sudo -l) says, in the shape of ``sudo_rights``."""
    if "is not allowed to run sudo" in output + errors:
        return {"mode": NONE, "rules": [], "reason": ""}
    _before, marker, listed = output.partition("may run the following commands")
    if not marker:
        reason = (errors.strip().splitlines() or ["sudo gave an answer that is not understood"])[-1]
        return {"mode": None, "rules": [], "reason": reason}
    rules = [line.strip() for line in listed.splitlines()[1:] if line.strip()]
    mode = FULL if any(_is_everything(rule) for rule in rules) else (SCOPED if rules else NONE)
    return {"mode": mode, "rules": rules, "reason": ""}


def _is_everything(rule: str) -> bool:
    match = re.match(r"\(([^)]*)\)\s*((?:[A-Z_]+:\s*)*)(.*)$", rule)
    if match is None:
        return False
    users = [user.strip() for user in match.group(1).split(":")[0].split(",")]
    commands = [command.strip() for command in match.group(3).split(",")]
    return "ALL" in commands and bool({"ALL", "root"} & set(users))

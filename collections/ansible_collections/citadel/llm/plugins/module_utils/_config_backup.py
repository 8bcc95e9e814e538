# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups of a configuration tree: ``<UTC time>[-N]/manifest.json`` and the files below ``files/``.

The manifest is ``{"created": ISO 8601, "dest": path, "files": {path: {"sha256": hex, "mode": "0640"}}}``.
The ``citadel config`` command reads and writes the same format.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import re
import shutil
import stat

from ansible_collections.citadel.llm.plugins.module_utils import _files

_NAME = re.compile(r"\A(\d{8}T\d{6}Z)(?:-(\d+))?\Z")
_PARTIAL = ".partial-config-tree-"
_TEMPORARY = re.compile(r"\A\..+\.[a-z0-9_]{8}\Z")  # what an interrupted atomic write leaves


def list_backups(backup_dir: str) -> list[str]:
    """The names of the complete backups, oldest first."""
    found = []
    for name in os.listdir(backup_dir) if os.path.isdir(backup_dir) else []:
        match = _NAME.match(name)
        if match:
            found.append((match.group(1), int(match.group(2) or 0), name))
    return [name for _time, _number, name in sorted(found)]


def regular_files(directory: str) -> list[str]:
    """Relative paths of all regular files below, sorted. Links and unfinished writes are left out."""
    found = []
    for parent, _directories, names in os.walk(directory):
        for name in names:
            path = os.path.join(parent, name)
            if stat.S_ISREG(os.lstat(path).st_mode) and not _TEMPORARY.match(name):
                found.append(os.path.relpath(path, directory))
    return sorted(found)


def save(dest: str, backup_dir: str, *, keep: int, now: datetime.datetime) -> str | None:
    """Save all regular files of `dest` and return the backup's path, or None where there is nothing to save.

    The backup appears whole or not at all and grants the same access as the tree. The oldest ones beyond
    `keep` are removed. Raises OSError.
    """
    paths = regular_files(dest) if os.path.isdir(dest) else []
    if not paths:
        return None
    tree = os.stat(dest)
    os.makedirs(os.path.dirname(backup_dir), exist_ok=True)
    if not os.path.lexists(backup_dir):
        _files.make_directory(backup_dir, mode=stat.S_IMODE(tree.st_mode), uid=tree.st_uid, gid=tree.st_gid)
    for name in os.listdir(backup_dir):
        if name.startswith(_PARTIAL):  # of an interrupted run
            shutil.rmtree(os.path.join(backup_dir, name))
    partial = os.path.join(backup_dir, f"{_PARTIAL}{os.getpid()}")
    try:
        _fill(partial, dest, paths, tree, now)
        target = _free_name(backup_dir, now)
        os.rename(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _files.sync_directory(backup_dir)
    for name in list_backups(backup_dir)[:-keep]:
        shutil.rmtree(os.path.join(backup_dir, name))
    return target


def _free_name(backup_dir: str, now: datetime.datetime) -> str:
    base = os.path.join(backup_dir, now.strftime("%Y%m%dT%H%M%SZ"))
    target, number = base, 0
    while os.path.lexists(target):
        number += 1
        target = f"{base}-{number}"
    return target


def _fill(partial: str, dest: str, paths: list[str], tree: os.stat_result, now: datetime.datetime) -> None:
    def make(directory: str) -> None:
        if not os.path.isdir(directory):
            make(os.path.dirname(directory))
            _files.make_directory(
                directory, mode=stat.S_IMODE(tree.st_mode), uid=tree.st_uid, gid=tree.st_gid
            )

    files = {}
    for path in paths:
        source, copy = os.path.join(dest, path), os.path.join(partial, "files", path)
        status = os.stat(source)
        with open(source, "rb") as stream:
            data = stream.read()
        make(os.path.dirname(copy))
        mode = stat.S_IMODE(status.st_mode)
        _files.write_atomic(copy, data, mode=mode, uid=status.st_uid, gid=status.st_gid)
        files[path] = {"sha256": hashlib.sha256(data).hexdigest(), "mode": _files.format_mode(mode)}
    manifest = {"created": now.strftime("%Y-%m-%dT%H:%M:%SZ"), "dest": dest, "files": files}
    _files.write_atomic(
        os.path.join(partial, "manifest.json"),
        (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode(),
        mode=stat.S_IMODE(tree.st_mode) & 0o666,
        uid=tree.st_uid,
        gid=tree.st_gid,
    )

# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Atomic replacement of files and links, and owner look-ups, shared by the collection's modules."""

from __future__ import annotations

import errno
import grp
import hashlib
import os
import pwd
import re
import secrets
import tempfile
from typing import Callable, Optional, Union

# uid_t and gid_t are 32 bits wide, and the highest value means "leave unchanged".
_HIGHEST_ID = 2**32 - 2
_MODE = re.compile(r"\A(?:0o)?[0-7]{3,4}\Z")


def parse_mode(value: object) -> int:
    """An octal mode such as ``"0750"`` as a number. Raises ValueError that names the value and the remedy.

    Numbers are refused: YAML reads an unquoted ``0770`` as 504 and an unquoted ``770`` as 770.
    """
    if not isinstance(value, str) or not _MODE.match(value):
        raise ValueError(f"mode {value!r} is not an octal mode in quotes: write it like '0750'")
    return int(value.replace("o", ""), 8)


def format_mode(mode: int) -> str:
    """The permission bits as four octal digits, such as ``0750``."""
    return f"{mode & 0o7777:04o}"


def _resolve(kind: str, name_or_id: Optional[str], look_up: Callable[[str], int]) -> int:
    if name_or_id is None:
        return -1
    try:
        return look_up(name_or_id)
    except KeyError:
        pass
    if name_or_id.isascii() and name_or_id.isdigit() and int(name_or_id) <= _HIGHEST_ID:
        return int(name_or_id)
    raise LookupError(
        f"the {kind} {name_or_id!r} does not exist on this host: create it first, or give its number"
    )


def resolve_owner(name_or_id: Optional[str]) -> int:
    """The uid of a user given by name or number, -1 for None. Raises LookupError where there is none."""
    return _resolve("user", name_or_id, lambda name: pwd.getpwnam(name).pw_uid)


def resolve_group(name_or_id: Optional[str]) -> int:
    """The gid of a group given by name or number, -1 for None. Raises LookupError where there is none."""
    return _resolve("group", name_or_id, lambda name: grp.getgrnam(name).gr_gid)


def owner_name(uid: int) -> str:
    """The user's name, or the number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    """The group's name, or the number where it has none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def sync_directory(path: str) -> None:
    """Make a rename inside the directory durable."""
    descriptor = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def stage_file(path: str, data: bytes, *, mode: int, uid: int = -1, gid: int = -1) -> str:
    """Write what is to become `path` beside it, durably, and return that temporary path, ready for a rename.

    A uid or gid of -1 leaves the one that a new file of this process gets. Raises OSError and leaves nothing.
    """
    directory, name = os.path.split(path)
    # mkstemp makes the file with mode 0600, so that a secret is never readable on its way.
    descriptor, temporary = tempfile.mkstemp(dir=directory or ".", prefix=f".{name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            _set_access(stream.fileno(), mode, uid, gid)
            os.fsync(stream.fileno())
    except BaseException:
        os.unlink(temporary)
        raise
    return temporary


def write_atomic(path: str, data: bytes, *, mode: int, uid: int = -1, gid: int = -1) -> None:
    """Replace the file by one with this content, mode and owner: a reader sees the old or the new one, whole.

    A uid or gid of -1 leaves the one that a new file of this process gets. Where `path` is a symbolic link,
    the link itself is replaced. Raises OSError; the old file is then untouched and no temporary file is left.
    """
    temporary = stage_file(path, data, mode=mode, uid=uid, gid=gid)
    try:
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    sync_directory(os.path.dirname(path))


def make_directory(path: str, *, mode: int, uid: int = -1, gid: int = -1) -> None:
    """Make a directory that has its mode and owner from the moment it can be seen. Its parent must exist.

    Raises OSError, such as where `path` exists.
    """
    parent, name = os.path.split(path.rstrip("/"))
    if os.path.lexists(path):  # rename would replace an empty directory
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
    temporary = tempfile.mkdtemp(dir=parent or ".", prefix=f".{name}.")
    try:
        set_access(temporary, mode=mode, uid=uid, gid=gid)
        os.rename(temporary, path)
    except BaseException:
        os.rmdir(temporary)
        raise
    sync_directory(parent)


def set_access(path: str, *, mode: int, uid: int = -1, gid: int = -1) -> None:
    """Set mode and owner of a file or directory. Raises OSError, ELOOP where it is a symbolic link."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        _set_access(descriptor, mode, uid, gid)
    finally:
        os.close(descriptor)


def _set_access(descriptor: int, mode: int, uid: int, gid: int) -> None:
    if uid != -1 or gid != -1:
        os.fchown(descriptor, uid, gid)
    os.fchmod(descriptor, mode)  # after the owner: chown clears the set-id bits


def replace_link(link: str, target: str) -> None:
    """Point the symbolic link at `target` in one step. Raises OSError, as where `link` is a directory."""
    directory, name = os.path.split(link)
    temporary = os.path.join(directory, f".{name}.{secrets.token_hex(8)}")
    os.symlink(target, temporary)
    try:
        os.replace(temporary, link)
    except BaseException:
        os.unlink(temporary)
        raise
    sync_directory(directory)


def sha256_file(path: Union[str, "os.PathLike[str]"]) -> str:
    """The SHA-256 of the file's content in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()

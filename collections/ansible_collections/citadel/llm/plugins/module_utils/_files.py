# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Atomic replacement of files and links, and owner look-ups, shared by the collection's modules."""

from __future__ import annotations

import contextlib
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


def parse_mode(text: str) -> int:
    """An octal mode such as ``0750`` as a number. Raises ValueError that names the text and the remedy."""
    if not _MODE.match(text):
        raise ValueError(
            f"mode {text!r} is not an octal mode: write three or four octal digits in quotes, such as '0750'"
        )
    return int(text.replace("o", ""), 8)


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


def write_atomic(path: str, data: bytes, *, mode: int, uid: int = -1, gid: int = -1) -> None:
    """Replace the file by one with this content, mode and owner: a reader sees the old one or the new one, whole.

    A uid or gid of -1 leaves the one that a new file of this process gets. Where `path` is a symbolic link,
    the link itself is replaced. Raises OSError; the old file is then untouched and no temporary file is left.
    """
    directory, name = os.path.split(path)
    # mkstemp makes the file with mode 0600, so that a secret is never readable on its way.
    descriptor, temporary = tempfile.mkstemp(dir=directory or ".", prefix=f".{name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            if uid != -1 or gid != -1:
                os.fchown(stream.fileno(), uid, gid)
            os.fchmod(stream.fileno(), mode)  # after the owner: chown clears the set-id bits
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_directory(directory)


def replace_link(link: str, target: str) -> None:
    """Point the symbolic link at `target` in one step. Raises OSError, such as where `link` is a directory."""
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

# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is mounted where, as the kernel says."""

from __future__ import annotations

import re
from dataclasses import dataclass

MOUNTINFO = "/proc/self/mountinfo"
_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """A line of mountinfo. `device` is ``major:minor``, `root` the mounted part of the file system."""

    path: str
    source: str
    fstype: str
    root: str
    device: str
    options: tuple[str, ...]
    super_options: tuple[str, ...]


def unescape(field: str) -> str:
    """A field of mountinfo or fstab with its octal escapes (blank, tab, newline, backslash) undone."""
    return _ESCAPE.sub(lambda match: chr(int(match.group(1), 8)), field)


def escape(text: str) -> str:
    """The text as one field of fstab."""
    return "".join(f"\\{ord(c):03o}" if c in " \t\n\\#" else c for c in text)


def parse_mountinfo(text: str) -> list[Mount]:
    """The mounts in the order of their making: of several at one path, the last one is seen."""
    mounts = []
    for line in text.splitlines():
        left, _separator, right = line.partition(" - ")
        first, last = left.split(" "), right.split(" ")
        mounts.append(
            Mount(
                path=unescape(first[4]),
                source=unescape(last[1]),
                fstype=last[0],
                root=unescape(first[3]),
                device=first[2],
                options=tuple(first[5].split(",")),
                super_options=tuple(last[2].split(",")),
            )
        )
    return mounts


def read_mountinfo(path: str = MOUNTINFO) -> list[Mount]:
    """The mounts that this process sees. Raises OSError where /proc is not mounted."""
    with open(path, encoding="utf-8", errors="surrogateescape") as stream:
        return parse_mountinfo(stream.read())

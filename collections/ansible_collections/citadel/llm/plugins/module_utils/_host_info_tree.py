# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the kernel's files below a root, so that a recorded tree can stand in for a machine."""

from __future__ import annotations

import os
from typing import List, Optional

CHUNK = 1 << 16  # files below /proc/sys refuse to be read in one large piece
LONGEST_READ = 4 << 20


class Tree:
    """The files of one machine. ``root`` is C(/) for the machine itself."""

    def __init__(self, root: str = "/") -> None:
        self.root = root

    @property
    def is_live(self) -> bool:
        """Whether this is the running machine, not a recorded tree."""
        return os.path.abspath(self.root) == "/"

    def path(self, name: str) -> str:
        """Where the file ``name`` (absolute on that machine) lies here."""
        return os.path.join(self.root, name.lstrip("/"))

    def data(self, name: str) -> Optional[bytes]:
        """The content of a file, or None where it is missing or may not be read."""
        try:
            with open(self.path(name), "rb", buffering=0) as stream:
                content = chunk = stream.read(CHUNK)
                while chunk and len(content) < LONGEST_READ:
                    chunk = stream.read(CHUNK)
                    content += chunk
                return content
        except OSError:
            return None

    def text(self, name: str) -> Optional[str]:
        """The content of a file without surrounding white space and NULs, or None."""
        data = self.data(name)
        return None if data is None else data.decode("utf-8", "replace").strip(" \t\r\n\0")

    def lines(self, name: str) -> List[str]:
        """The lines of a file; none where it is missing."""
        return (self.text(name) or "").splitlines()

    def number(self, name: str) -> Optional[int]:
        """The integer that a file holds, or None."""
        try:
            return int(self.text(name) or "")
        except ValueError:
            return None

    def names(self, name: str) -> List[str]:
        """The sorted names in a directory; none where it is missing."""
        try:
            return sorted(os.listdir(self.path(name)))
        except OSError:
            return []

    def exists(self, name: str) -> bool:
        """Whether there is such a file, even a dangling link."""
        return os.path.lexists(self.path(name))

    def link(self, name: str) -> Optional[str]:
        """What a symbolic link says, or None where it is none."""
        try:
            return os.readlink(self.path(name))
        except OSError:
            return None

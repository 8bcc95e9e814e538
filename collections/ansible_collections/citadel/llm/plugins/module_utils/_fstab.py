# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edits the text of fstab, whose other lines stay as they are, and compares mount options."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ansible_collections.citadel.llm.plugins.module_utils._mountinfo import Mount, escape, unescape

# The first word of each group is what counts where none is given.
_GROUPS = (
    ("rw", "ro"),
    ("suid", "nosuid"),
    ("dev", "nodev"),
    ("exec", "noexec"),
    ("async", "sync"),
    ("diratime", "nodiratime"),
    ("relatime", "noatime", "strictatime"),
)
_GENERIC = {word for group in _GROUPS for word in group}
_USER = {"user", "users", "owner", "group"}
_USERSPACE = {"defaults", "auto", "noauto", "nofail", "_netdev", "nouser"} | _USER
_PERIPHERAL = re.compile(r"\A(?:x-|X-|comment=)")


@dataclass(frozen=True)
class Entry:
    """One mount of fstab."""

    spec: str
    path: str
    fstype: str
    options: tuple[str, ...]
    passno: int

    def line(self) -> str:
        """The entry as a line of fstab, with its newline."""
        options = ",".join(escape(option) for option in self.options) or "defaults"
        return f"{escape(self.spec)} {escape(self.path)} {self.fstype} {options} 0 {self.passno}\n"

    def same(self, other: Entry) -> bool:
        """Whether both mean the same mount, in whatever order their options are."""
        mine, others = (set(entry.options) - {"defaults"} for entry in (self, other))
        return mine == others and self._rest() == other._rest()

    def _rest(self) -> tuple[str, str, str, int]:
        return self.spec, self.path, self.fstype, self.passno


def parse_line(line: str) -> Entry | None:
    """The mount that the line describes, None for a comment, a blank line and swap."""
    fields = re.findall(r"[^ \t\r\n]+", line)
    if len(fields) < 3 or fields[0].startswith("#") or fields[2] == "swap":
        return None
    options = fields[3] if len(fields) > 3 else "defaults"
    passno = int(fields[5]) if len(fields) > 5 and fields[5].isdigit() else 0
    path = unescape(fields[1])
    return Entry(
        spec=unescape(fields[0].replace('"', "")),
        path=path if path == "/" else path.rstrip("/"),
        fstype=fields[2],
        options=tuple(unescape(option) for option in options.split(",")),
        passno=passno,
    )


def entries(text: str) -> list[Entry]:
    """All mounts of the text."""
    parsed = (parse_line(line) for line in text.split("\n"))
    return [entry for entry in parsed if entry is not None]


def put(text: str, wanted: Entry) -> str:
    """The text with the entry in place of those of its path, or at the end."""
    lines = []
    placed = False
    for line in _lines(text):
        found = parse_line(line)
        if found is None or found.path != wanted.path:
            lines.append(line)
        elif not placed:
            lines.append(line if found.same(wanted) else wanted.line())
            placed = True
    if not placed:
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n"
        lines.append(wanted.line())
    return "".join(lines)


def drop(text: str, path: str) -> str:
    """The text without the entries of the path."""
    parsed = ((line, parse_line(line)) for line in _lines(text))
    return "".join(line for line, entry in parsed if entry is None or entry.path != path)


def _lines(text: str) -> list[str]:
    parts = text.split("\n")
    return [part + "\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def generic_options(options: Iterable[str]) -> tuple[str, ...]:
    """For each property that every file system has, the word that counts."""
    words = []
    for option in options:
        words += ["noexec", "nosuid", "nodev"] if option in _USER else [option]
    return tuple(next((word for word in reversed(words) if word in group), group[0]) for group in _GROUPS)


def live_options(mount: Mount) -> tuple[str, ...]:
    """The same of a mount, as the kernel tells it."""
    words = [*mount.options, *(word for word in mount.super_options if word in ("ro", "sync"))]
    if not {"relatime", "noatime"} & set(words):
        words.append("strictatime")
    return generic_options(words)


def specific_options(options: Iterable[str]) -> tuple[str, ...]:
    """The options that only this kind of file system knows."""
    known = _GENERIC | _USERSPACE
    return tuple(option for option in options if option not in known and not _PERIPHERAL.match(option))

# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at block devices, makes file systems on empty ones, and mounts them."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.citadel.llm.plugins.module_utils._mountinfo import Mount, read_mountinfo

# Of each kind that can be made: the package of its tools, the longest label in bytes, fsck's order at boot.
KINDS = {
    "ext4": ("e2fsprogs", 16, 2),
    "ext3": ("e2fsprogs", 16, 2),
    "ext2": ("e2fsprogs", 16, 2),
    "xfs": ("xfsprogs", 12, 0),
    "btrfs": ("btrfs-progs", 255, 0),
}
_NOTHING_FOUND = 2  # blkid's exit status


class FilesystemError(Exception):
    """A device, a file system or a tool stands in the way. The message names it and the remedy."""


@dataclass(frozen=True)
class Content:
    """What a device carries: the kind and UUID of its file system, or only `signatures` of something else."""

    fstype: str = ""
    uuid: str = ""
    signatures: str = ""

    @property
    def empty(self) -> bool:
        """Whether no signature of any kind was found."""
        return not (self.fstype or self.signatures)


def run(argv: Sequence[str], *, accept: Sequence[int] = (0,)) -> subprocess.CompletedProcess[str]:
    """Run a command. Raises FilesystemError with its words where it fails."""
    try:
        result = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
            errors="replace",
            env={**os.environ, "LC_ALL": "C", "LIBBLKID_DEBUG": ""},
            check=False,
        )
    except FileNotFoundError as error:
        raise FilesystemError(f"the command {argv[0]!r} is not on this host: install it first") from error
    if result.returncode not in accept:
        words = (result.stderr or result.stdout).strip()
        raise FilesystemError(f"{' '.join(argv)} failed: {words or f'status {result.returncode}'}")
    return result


class Host:
    """The real host. Tests put another one in its place."""

    def find(self, spec: str) -> str | None:
        """The device node of a path or a ``UUID=`` or ``LABEL=`` name, None where the host has none."""
        if spec.startswith("/"):
            path = os.path.realpath(spec)
        else:
            found = run(
                ["blkid", "-c", "/dev/null", "-l", "-o", "device", "-t", spec], accept=(0, _NOTHING_FOUND)
            )
            path = found.stdout.strip()
        try:
            status = os.stat(path)
        except FileNotFoundError:
            return None
        if not stat.S_ISBLK(status.st_mode):
            raise FilesystemError(f"{spec} is not a block device: name one, such as /dev/nvme1n1")
        return path

    def number(self, device: str) -> str:
        """The device's ``major:minor``."""
        status = os.stat(device)
        return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"

    def content(self, device: str) -> Content:
        """What the device carries, read from the device itself."""
        return probe(device)

    def can_make(self, fstype: str) -> bool:
        """Whether the tool that makes such a file system is there."""
        return shutil.which(f"mkfs.{fstype}") is not None

    def make(self, device: str, fstype: str, label: str | None) -> None:
        """Make a file system on a device that is unused and empty at this moment."""
        make(device, fstype, label)

    def mounts(self) -> list[Mount]:
        """All mounts."""
        return read_mountinfo()

    def mount(self, device: str, path: str, fstype: str, options: Sequence[str]) -> None:
        """Mount the device."""
        run(["mount", "-t", fstype, "-o", ",".join(options), device, path])

    def remount(self, device: str, path: str, options: Sequence[str]) -> None:
        """Change the options of a mount; the given ones are all that count."""
        run(["mount", "-o", ",".join(["remount", *options]), device, path])

    def unmount(self, path: str) -> None:
        """Unmount what is mounted at the path."""
        try:
            run(["umount", path])
        except FilesystemError as error:
            raise FilesystemError(
                f"{error}: find who uses it with 'fuser -vm {path}' and stop that first"
            ) from error

    def reload(self) -> None:
        """Let systemd read fstab again, where it runs."""
        if os.path.isdir("/run/systemd/system"):
            run(["systemctl", "daemon-reload"])


def probe(device: str) -> Content:
    """What the device carries. Both blkid and wipefs must find nothing before it counts as empty."""
    try:
        os.close(os.open(device, os.O_RDONLY))  # blkid says "nothing found" of what it cannot read, too
    except OSError as error:
        raise FilesystemError(f"{device} cannot be read: {error.strerror}: check the device") from error
    # Status 8, an ambivalent result, fails: nobody should guess then.
    found = run(["blkid", "-p", "-o", "export", device], accept=(0, _NOTHING_FOUND)).stdout
    values = dict(line.split("=", 1) for line in found.splitlines() if "=" in line)
    wiped = run(["wipefs", "--no-act", "--noheadings", "--output", "TYPE", device]).stdout.split()
    signatures = {values.get("TYPE", ""), values.get("PTTYPE", ""), *wiped} - {""}
    fstype = values.get("TYPE", "") if values.get("USAGE", "filesystem") == "filesystem" else ""
    return Content(fstype, values.get("UUID", ""), " and ".join(sorted(signatures)))


def make(device: str, fstype: str, label: str | None) -> None:
    """Make a file system on the device. Raises FilesystemError where it is in use or not empty."""
    if not probe(device).empty:
        raise FilesystemError(f"{device} is not empty any more: nothing was written to it; run again")
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL))
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        raise FilesystemError(f"{device} is in use by RAID, LVM or a mapping: stop that") from error
    label_words = ["-L", label] if label else []
    run([f"mkfs.{fstype}", "-q", *label_words, device])

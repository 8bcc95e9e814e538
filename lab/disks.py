"""Loop disks: sparse files of the host that appear inside as /dev/NAME.

Loop devices belong to the whole machine. The host's own are told apart by the `uid` in the name of their
file; inside, udev links /dev/NAME to them and ignores all others.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from lab.paths import HostPaths
from lab.records import HostRecord
from lab.system import LabError, run, wait_until


def udev_rules(uid: str) -> dict[str, str]:
    """Rule files of a host: name in /etc/udev/rules.d and content."""
    own = f'ATTR{{loop/backing_file}}=="*/disk-{uid}-*"'
    ignore = 'ENV{UDEV_DISABLE_PERSISTENT_STORAGE_RULES_FLAG}="1", ENV{SYSTEMD_READY}="0"'
    script = f"f=$${{1##*/disk-{uid}-}}; echo $${{f%%.img}}"
    name = f"PROGRAM=\"/bin/sh -c '{script}' sh $attr{{loop/backing_file}}\""
    return {
        "00-lab-foreign.rules": f'SUBSYSTEM=="block", KERNEL=="loop*", {own.replace("==", "!=")}, {ignore}\n',
        "99-lab.rules": f'SUBSYSTEM=="block", KERNEL=="loop*", {own}, {name}, SYMLINK+="%c"\n',
    }


def attached(paths: HostPaths) -> dict[str, str]:
    """The host's loop devices: backing file -> device, such as `/dev/loop3`."""
    listing = run(["losetup", "--json", "--list", "--output", "NAME,BACK-FILE"])
    devices = json.loads(listing)["loopdevices"] if listing.strip() else []
    prefix = f"{paths.directory}/disk-"
    return {
        str(device["back-file"]).removesuffix(" (deleted)"): str(device["name"])
        for device in devices
        if str(device["back-file"]).startswith(prefix)
    }


def attach(paths: HostPaths, record: HostRecord) -> dict[str, str]:
    """Make and attach the record's disks that are not attached; returns those, disk name -> device."""
    present = attached(paths)
    added = {}
    for name, size in record.disks.items():
        file = paths.disk(record.uid, name)
        if str(file) in present:
            continue
        _make_file(file, size)
        added[name] = run(["losetup", "--find", "--show", str(file)]).strip()
    return added


def _make_file(file: Path, size: int) -> None:
    with file.open("ab") as stream:
        if stream.tell() == 0:
            os.truncate(stream.fileno(), size)


def detach(paths: HostPaths, only: Path | None = None) -> None:
    """Detach one disk, by its file, or all. Raises LabError when one is still open after a few seconds."""
    mine = {file: device for file, device in attached(paths).items() if only in (None, Path(file))}
    for device in mine.values():
        run(["losetup", "--detach", device], check=False)
    if not wait_until(lambda: not set(mine) & set(attached(paths)), 5):
        raise LabError(f"loop device {', '.join(mine.values())} is still in use: unmount it and try again")

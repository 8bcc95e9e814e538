# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Recognises mounts that stand in each other's place, and writes the change of the inventory down."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

from ansible_collections.citadel.llm.plugins.module_utils._findings import Finding, blocking
from ansible_collections.citadel.llm.plugins.module_utils._mount_check_sight import MOUNTED, Sight
from ansible_collections.citadel.llm.plugins.module_utils._storage_info_devices import Devices

ANY = "any"


def fits(place: Sight, holder: Sight, devices: Devices) -> bool:
    """Whether the device that is mounted at ``holder`` is the one, or of the class, that ``place`` wants."""
    want = place.wanted.get("device_class") or ANY
    if want not in (ANY, holder.kind):
        return False
    spec = place.wanted.get("device")
    return not spec or devices.named(spec) in (None, holder.device)


def swapped_pairs(sights: List[Sight], devices: Devices) -> List[Tuple[Sight, Sight]]:
    """Pairs of which at least one has the wrong device, and both would be right with the other's."""
    candidates = [sight for sight in sights if sight.state == MOUNTED and sight.device]
    pairs: List[Tuple[Sight, Sight]] = []
    taken: List[Sight] = []
    wrong = [sight for sight in candidates if not fits(sight, sight, devices)]
    for sight in wrong:
        # One that is wrong itself comes before one that would merely do.
        for other in wrong + [one for one in candidates if one not in wrong]:
            if other is sight or sight in taken or other in taken or sight.device == other.device:
                continue
            if fits(sight, other, devices) and fits(other, sight, devices):
                pairs.append((sight, other))
                taken += [sight, other]
    return pairs


def finding(pair: Tuple[Sight, Sight], devices: Devices) -> Finding:
    """The one finding for two mounts in each other's place, with the change of C(layout_mounts)."""
    first, second = pair
    wants = [sight.wanted.get("role") or sight.path for sight in pair]
    return blocking(
        "mount.swapped",
        "%s and %s" % (first.path, second.path),
        expected={sight.path: _wish(sight) for sight in pair},
        found={sight.path: describe(sight, devices) for sight in pair},
        why="The two mounts are swapped: what is meant for %s lies where %s belong, and the other way round."
        % (wants[0], wants[1]),
        remedy="Stop what uses them, change the inventory, unmount both and apply the stage layout:\n"
        + inventory_diff(pair, devices),
    )


def _wish(sight: Sight) -> str:
    parts = [sight.wanted.get("role"), sight.wanted.get("device_class"), sight.wanted.get("device")]
    return ", ".join(part for part in parts if part)


def describe(sight: Sight, devices: Devices) -> str:
    """A mount's device for people: C(nvme0n1, nvme, 3.6 TiB)."""
    if sight.device is None:
        return sight.mount.source if sight.mount else "nothing"
    name = (devices.aliases(sight.device) or [sight.device])[0]
    return ", ".join(part for part in (name, sight.kind, size_text(sight.size_mib)) if part)


def size_text(mib: Optional[int]) -> Optional[str]:
    """A size for people: C(3.6 TiB)."""
    if mib is None:
        return None
    for unit, size in (("TiB", 1 << 20), ("GiB", 1 << 10)):
        if mib >= size:
            return "%.1f %s" % (mib / size, unit)
    return "%d MiB" % mib


def inventory_diff(pair: Tuple[Sight, Sight], devices: Devices) -> str:
    """The lines of C(layout_mounts) that go and those that come."""
    first, second = pair
    lines = [" layout_mounts:"]
    lines += ["-  - " + _entry(sight, sight, devices) for sight in pair]
    lines += ["+  - " + _entry(first, second, devices), "+  - " + _entry(second, first, devices)]
    return "\n".join(lines)


def _entry(place: Sight, holder: Sight, devices: Devices) -> str:
    """The inventory's entry that puts the device of ``holder`` at the path of ``place``."""
    mount, entry = holder.mount, place.fstab
    name = holder.fstab.spec if holder.fstab and holder.fstab.is_stable else None
    if name is None and holder.device is not None:
        name = devices.stable_name(holder.device)
    values: Dict[str, Any] = {
        "path": place.path,
        "device": name or (mount.source if mount else ""),
        "fstype": mount.fstype if mount else "",
        "options": ",".join(entry.options if entry else ("defaults",)),
    }
    return "{%s}" % ", ".join("%s: %s" % (key, _yaml(value)) for key, value in values.items())


def _yaml(value: str) -> str:
    plain = value and not set(value) & set(",:{}[]#&*!|>'\"%@`")
    return value if plain else '"%s"' % value.replace("\\", "\\\\").replace('"', '\\"')

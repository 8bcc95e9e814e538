# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The words and numbers of nvidia-smi as Python values; what it does not know becomes None."""

from __future__ import annotations

import re
from typing import Dict, Optional

from ansible_collections.citadel.llm.plugins.module_utils._gpu_xml import Node

# What nvidia-smi says when it has nothing to say, without brackets and in lower case.
_ABSENT = frozenset(
    {
        "",
        "n/a",
        "none",
        "err!",
        "not supported",
        "not available",
        "not available in wddm driver model",
        "not found",
        "unknown",
        "unknown error",
        "insufficient permissions",
        "no permission",
        "requested functionality has been deprecated",
        "function not found",
        "gpu is lost",
        "gpu requires reset",
        "uninitialized",
        "undefined",
        "reset required",
        "unavailable",
    }
)

_NUMBER = re.compile(r"^([-+]?[0-9]+(?:\.[0-9]+)?)\s*([A-Za-z%/]*)(?:\(s\))?$")
_MEBIBYTES: Dict[str, float] = {
    "b": 1 / 1048576,
    "bytes": 1 / 1048576,
    "kb": 1 / 1024,
    "kib": 1 / 1024,
    "mb": 1,
    "mib": 1,
    "gb": 1024,
    "gib": 1024,
    "tb": 1048576,
    "tib": 1048576,
}
_WATTS: Dict[str, float] = {"w": 1, "mw": 0.001, "kw": 1000}


def absent(text: Optional[str]) -> bool:
    """Whether the text says that there is no value."""
    if text is None:
        return True
    return text.strip().strip("[]").strip().lower() in _ABSENT


def _text(node: Optional[Node]) -> Optional[str]:
    return None if node is None else node.text


def text(node: Optional[Node], *path: str) -> Optional[str]:
    """The element's text, or None."""
    value = _text(node.find(*path) if node is not None and path else node)
    return None if value is None or absent(value) else value


def _quantity(value: Optional[str], units: Optional[Dict[str, float]] = None) -> Optional[float]:
    if value is None or absent(value):
        return None
    match = _NUMBER.match(value.strip())
    if match is None:
        return None
    number = float(match.group(1))
    if units is None:
        return number
    factor = units.get(match.group(2).lower() or next(iter(units)))
    return None if factor is None else number * factor


def number(node: Optional[Node], *path: str) -> Optional[float]:
    """A number, whatever its unit: ``31 C``, ``324 MHz``, ``-5 C``."""
    return _quantity(text(node, *path))


def integer(node: Optional[Node], *path: str) -> Optional[int]:
    """A whole number, whatever its unit: ``16x``, ``30 %``, ``192 bank(s)``."""
    value = number(node, *path)
    return None if value is None else int(value)


def mebibytes(node: Optional[Node], *path: str) -> Optional[int]:
    """Memory in MiB. Old drivers write MB and mean MiB."""
    value = _quantity(text(node, *path), {"mib": 1, **_MEBIBYTES})
    return None if value is None else int(value)


def watts(node: Optional[Node], *path: str) -> Optional[float]:
    """Power in W, to the hundredth."""
    value = _quantity(text(node, *path), {"w": 1, **_WATTS})
    return None if value is None else round(value, 3)


def enabled(node: Optional[Node], *path: str) -> Optional[bool]:
    """``Enabled``, ``Yes``, ``Active``, ``On`` or ``1`` as True, their opposites as False, else None."""
    element = node.find(*path) if node is not None and path else node
    word = (_text(element) or "").strip().lower()
    if word in ("enabled", "yes", "active", "on", "true", "1", "supported"):
        return True
    if word in ("disabled", "no", "not active", "off", "false", "0"):
        return False
    return None

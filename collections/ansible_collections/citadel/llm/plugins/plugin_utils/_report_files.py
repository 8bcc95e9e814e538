# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where reports lie: stable names for the newest, and the earlier ones by their time."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from typing import Any

HISTORY = "history"


def folder_of(host: str) -> str:
    """The name of a host's directory. What no file name should hold is replaced, and told by a digest."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", host).lstrip(".")
    if safe == host and host not in ("", HISTORY):
        return host
    return "%s-%s" % (safe or "host", hashlib.sha256(host.encode("utf-8")).hexdigest()[:8])


def previous(path: str, kind: str) -> dict[str, Any] | None:
    """The report that lies there, or None where there is none that can be compared."""
    try:
        with open(path, encoding="utf-8") as stream:
            report = json.load(stream)
    except (OSError, ValueError):
        return None
    if not isinstance(report, dict) or report.get("kind") != kind or report.get("schema_version") != 1:
        return None
    return report


def write(folder: str, stem: str, texts: dict[str, str], moment: str, keep: int) -> None:
    """Write ``<folder>/<stem>.<ending>`` for each text, and keep the JSON below ``history``.

    ``moment`` names the run, as in ``20260131T120000Z``; the newest ``keep`` are kept. Raises OSError.
    """
    history = os.path.join(folder, HISTORY)
    os.makedirs(history, mode=0o755, exist_ok=True)
    if keep:
        _replace(os.path.join(history, "%s-%s.json" % (stem, moment)), texts["json"])
    for ending, text in texts.items():
        _replace(os.path.join(folder, "%s.%s" % (stem, ending)), text)
    pattern = re.compile(re.escape(stem) + r"-\d{8}T\d{6}Z\.json")
    old = sorted(name for name in os.listdir(history) if pattern.fullmatch(name))
    for name in old[: max(len(old) - keep, 0)]:
        os.unlink(os.path.join(history, name))


def _replace(path: str, text: str) -> None:
    """Replace a file at once: nobody reads half a report."""
    handle, temporary = tempfile.mkstemp(prefix=".report-", dir=os.path.dirname(path))
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise

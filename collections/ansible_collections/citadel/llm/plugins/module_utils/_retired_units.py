# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Instances of a unit that an earlier call made and that nobody wants any more, found by their files."""

from __future__ import annotations

import contextlib
import glob
import os
import re
from dataclasses import dataclass
from typing import Dict, List, Optional, Set, Tuple

from ansible_collections.citadel.llm.plugins.module_utils._known_good import StoredFile, read_file
from ansible_collections.citadel.llm.plugins.module_utils._unit_state import UnitSpec

INSTANCE = "{instance}"


@dataclass(frozen=True)
class Retire:
    """Where the files of instances lie, and how the own ones are told from others'.

    `files` without an instance in their path are shared by all; only files that begin with `marker` count.
    """

    unit: str
    files: Tuple[str, ...]
    marker: str
    timeout: float = 600


def retired_units(retire: Retire, wanted: Set[str]) -> List[UnitSpec]:
    """The instances with marked files that are not wanted, as units that shall be absent.

    The last one has the shared files, which a wanted unit with the same file keeps in place.
    """
    found: Dict[str, Dict[str, StoredFile]] = {}
    for template in retire.files:
        for instance, path in _matches(template) if INSTANCE in template else ():
            file = _marked(path, retire.marker)
            if file is not None and retire.unit.replace(INSTANCE, instance) not in wanted:
                found.setdefault(instance, {})[path] = file
    specs = [
        UnitSpec(
            name=retire.unit.replace(INSTANCE, instance),
            state="absent",
            files=files,
            timeout=retire.timeout,
            retired=True,
        )
        for instance, files in sorted(found.items())
    ]
    if specs:
        shared = [path for path in retire.files if INSTANCE not in path]
        marked = {path: file for path in shared if (file := _marked(path, retire.marker)) is not None}
        # First, because the files of an instance are what it is found by after an interruption.
        files = {**marked, **specs[-1].files}
        specs[-1].files.clear()
        specs[-1].files.update(files)
    return specs


def _matches(template: str) -> List[Tuple[str, str]]:
    """Instance and path of each file that the template can mean."""
    pattern = glob.escape(template).replace(glob.escape(INSTANCE), "*")
    expression = re.compile(re.escape(template).replace(re.escape(INSTANCE), "([A-Za-z0-9:_.\\\\-]+)"))
    matches = ((expression.fullmatch(path), path) for path in sorted(glob.glob(pattern)))
    return [(match.group(1), path) for match, path in matches if match is not None]


def _marked(path: str, marker: str) -> Optional[StoredFile]:
    with contextlib.suppress(IsADirectoryError):
        file = read_file(path)
        if file is not None and not os.path.islink(path) and file.content.startswith(marker.encode()):
            return file
    return None

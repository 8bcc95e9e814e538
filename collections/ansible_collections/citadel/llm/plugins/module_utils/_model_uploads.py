# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the controller's files arrive on the host: a directory for each run, so that none disturbs another.

A run that was killed on the controller can live on for a while and go on sending; the next run takes what is
complete.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import tempfile
import time
from typing import Dict, List, Optional

from ansible_collections.citadel.llm.plugins.module_utils._model_manifest import FileEntry
from ansible_collections.citadel.llm.plugins.module_utils._model_staging import Staging, remove_tree

# Nothing writes to a file of a run that is dead; a live run writes all the time, but can pause between files.
_DEAD_FILE_S = 120.0
_DEAD_RUN_S = 3600.0


class Uploads:
    """The directories ``<store>/.incoming/.<name>.upload-*/``; in each, files are named by their sha256."""

    def __init__(self, staging: Staging) -> None:
        self._staging = staging
        self._prefix = f".{os.path.basename(staging.directory)}.upload-"

    def open(self, user: Optional[str]) -> str:
        """A new directory that the user who transfers can write to, and nobody else but root.

        `user` is who is logged in; where the process is root through sudo or doas, that is known better.
        """
        path = tempfile.mkdtemp(dir=self._staging.incoming, prefix=self._prefix)
        if os.geteuid() == 0:
            os.chown(path, transferring_user(user), -1)
        return path

    def directories(self) -> List[str]:
        incoming = self._staging.incoming
        with contextlib.suppress(FileNotFoundError):
            names = [name for name in os.listdir(incoming) if name.startswith(self._prefix)]
            return [os.path.join(incoming, name) for name in sorted(names)]
        return []

    def collect(self, entries: Dict[str, FileEntry]) -> None:
        """Move what has arrived whole to the staging area. `entries` are what is missing, by sha256."""
        for directory in self.directories():
            for name in os.listdir(directory):
                path, entry = os.path.join(directory, name), entries.get(name)
                if entry is None or os.path.islink(path) or os.path.getsize(path) != entry.size:
                    continue
                if self._staging.cache.sha256(path) == entry.sha256:
                    os.chown(path, os.geteuid(), -1)
                    os.chmod(path, 0o600)
                    os.replace(path, self._staging.blob(entry))

    def drop(self, directory: Optional[str]) -> None:
        """Remove the directory of a run that has ended. None, and one that is gone, is nothing to do."""
        if directory in self.directories():
            remove_tree(str(directory))

    def drop_dead(self) -> None:
        """Remove what runs have left that did not end by themselves."""
        now = time.time()
        for directory in self.directories():
            times = [os.stat(directory).st_mtime]
            for name in os.listdir(directory):
                path = os.path.join(directory, name)
                times.append(os.lstat(path).st_mtime)
                if now - times[-1] > _DEAD_FILE_S:
                    os.unlink(path)
            if now - max(times) > _DEAD_RUN_S:
                remove_tree(directory)

    def drop_all(self) -> None:
        for directory in self.directories():
            remove_tree(directory)


def transferring_user(user: Optional[str]) -> int:
    """The uid of who is logged in. Unknown names give this process's own."""
    for variable in ("SUDO_UID", "DOAS_USER"):
        value = os.environ.get(variable)
        if value:
            return int(value) if value.isdigit() else pwd.getpwnam(value).pw_uid
    try:
        return pwd.getpwnam(user).pw_uid if user else os.geteuid()
    except KeyError:
        return os.geteuid()

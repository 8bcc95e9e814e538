# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands with a time limit, whose credentials stay out of every text."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from dataclasses import dataclass, field
from typing import Iterable, List, Mapping, Optional, Sequence
from urllib.parse import urlsplit

_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without the given secrets and without credentials in URLs."""
    for secret in sorted((secret for secret in secrets if secret), key=len, reverse=True):
        text = text.replace(secret, "***")
    return _USERINFO.sub("***@", text)


def url_secrets(urls: Iterable[Optional[str]]) -> List[str]:
    """The credentials that the URLs hold: userinfo and password, as they are written."""
    secrets = []
    for url in urls:
        userinfo = urlsplit(url or "").netloc.rpartition("@")[0]
        secrets += [part for part in (userinfo, userinfo.partition(":")[2]) if part]
    return secrets


@dataclass
class Completed:
    """How a command ended. `returncode` is None when it was ended because of its time limit."""

    returncode: Optional[int]
    output: str

    def tail(self, lines: int = 15) -> str:
        return "\n".join(self.output.rstrip().splitlines()[-lines:])


@dataclass
class Runner:
    """Runs commands without a shell, outside any working directory, and keeps a log of them."""

    secrets: Sequence[str] = ()
    pass_fds: Sequence[int] = ()
    log: List[str] = field(default_factory=list)

    def run(self, argv: Sequence[str], environment: Mapping[str, str], timeout: float) -> Completed:
        """Run to the end or to the time limit; then the whole process group is ended. Raises OSError."""
        process = subprocess.Popen(
            list(argv),
            env=dict(environment),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=tuple(self.pass_fds),
        )
        try:
            raw, _unused = process.communicate(timeout=timeout)
            completed = Completed(process.returncode, "")
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raw, _unused = process.communicate()
            completed = Completed(None, "")
        completed.output = redact(raw.decode(errors="replace"), self.secrets)
        ended = "time limit" if completed.returncode is None else f"exit {completed.returncode}"
        self.log.append(f"$ {redact(' '.join(argv), self.secrets)}\n{completed.output}[{ended}]\n")
        return completed

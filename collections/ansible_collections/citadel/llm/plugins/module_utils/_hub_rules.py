# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a model hub accepts and what its answers mean: names, revisions, patterns, addresses and errors."""

from __future__ import annotations

import fnmatch
import re
import urllib.parse
from email.message import Message
from typing import Optional, Sequence, Tuple

COMMIT = re.compile(r"\A[0-9a-f]{40}\Z")
SHA256 = re.compile(r"\A[0-9a-f]{64}\Z")
_REPOSITORY = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?\Z")


class HubError(Exception):
    """The hub cannot give what was asked; the message says why and what to do, and never holds the token."""


def origin(url: str) -> Tuple[str, Optional[str], Optional[int]]:
    """Scheme, host and port of an address."""
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def shown(url: str) -> str:
    """An address for messages: without a query, which can hold a signature, and without a password."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rsplit("@", 1)[-1], parts.path, "", ""))


def explain_status(status: int, code: str, subject: str, endpoint: str) -> str:
    """Why the hub refused a request for `subject`, and what to do."""
    known = {
        "GatedRepo": "is gated: accept its conditions with the account of your token, and give that token",
        "RevisionNotFound": "has no such revision: take the commit's 40 digits from the repository's history",
        "EntryNotFound": "does not exist at this revision, although the hub lists it: try another endpoint",
        "RepoNotFound": "does not exist or is private: check its name, or give a token that may read it",
    }
    if code in known:
        return f"{subject!r} on {endpoint} ({status}) {known[code]}"
    if status in (401, 403):
        return f"{endpoint} refuses to give {subject!r} ({status}): give a token that may read it"
    return f"{endpoint} answers {status} for {subject!r}: check the endpoint and the repository"


def check_repository(repository: str) -> None:
    """Raise HubError unless the text can name a repository."""
    if not _REPOSITORY.match(repository) or ".." in repository:
        raise HubError(f"the repository {repository!r} is not valid: write it as ORGANISATION/NAME")


def check_revision(revision: str, *, allow_moving: bool) -> None:
    """Raise HubError unless the revision is a commit, or branches and tags are allowed."""
    if COMMIT.match(revision) or (allow_moving and re.match(r"\A[\w./-]+\Z", revision)):
        return
    raise HubError(
        f"the revision {revision!r} is not a commit of 40 hexadecimal digits: a branch or a tag can move, "
        "and two runs would install different models; name the commit, or set allow_moving_revision"
    )


def is_chosen(path: str, allow: Sequence[str], ignore: Sequence[str]) -> bool:
    """Whether the patterns choose a path; no `allow` allows every path. ``dir/`` means all below it."""
    if allow and not any(_matches(path, pattern) for pattern in allow):
        return False
    return not any(_matches(path, pattern) for pattern in ignore)


def _matches(path: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(path, pattern + "*" if pattern.endswith("/") else pattern)


def pause_of(headers: Message) -> Optional[float]:
    """The seconds that the hub asks to wait, by either of the two headers in use."""
    for name, pattern in (("Retry-After", r"\A(\d+)\Z"), ("RateLimit", r";\s*t=(\d+)")):
        match = re.search(pattern, headers.get(name, "").strip())
        if match:
            return float(match[1])
    return None

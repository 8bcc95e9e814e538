# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks in requirements format, and what uv says about them when it fails."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Dict, Iterable, List, Optional, Tuple
from urllib.parse import urlsplit

_PIN = re.compile(
    r"\A(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==(?P<version>[^\s;=*]+)\s*(?:;\s*(?P<marker>.+))?\Z"
)
_HASH = re.compile(r"--hash[= ](\S+)")
_STRONG_HASH = re.compile(r"\A(?:sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})\Z")
_URL = re.compile(r"https?://[^\s)`'\"]+")


class LockError(ValueError):
    """A lock cannot be used; the message names the line and the remedy."""


@dataclass(frozen=True)
class Pin:
    """One requirement of a lock."""

    name: str
    version: str
    marker: str
    hashes: Tuple[str, ...]


@dataclass(frozen=True)
class Lock:
    """A lock: each requirement pinned, each with hashes."""

    pins: Tuple[Pin, ...]

    @property
    def digest(self) -> str:
        """sha256 of what the lock means; comments, order and line breaks do not count."""
        content = sorted((pin.name, pin.version, pin.marker, sorted(pin.hashes)) for pin in self.pins)
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    @property
    def versions(self) -> Dict[str, str]:
        """Version by name; where markers choose among several, all of them with a ``|`` between."""
        found: Dict[str, List[str]] = {}
        for pin in self.pins:
            found.setdefault(pin.name, []).append(pin.version)
        return {name: "|".join(sorted(set(versions))) for name, versions in found.items()}


def canonical_name(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _logical_lines(text: str) -> Iterable[Tuple[int, str]]:
    start, collected = 0, ""
    for number, raw in enumerate(text.splitlines(), 1):
        line = re.sub(r"(?:^|\s)#.*", "", raw).strip()
        start = start if collected else number
        collected += " " + line.rstrip("\\")
        if not line.endswith("\\"):
            if collected.strip():
                yield start, collected.strip()
            collected = ""
    if collected.strip():
        yield start, collected.strip()


def _parse_pin(number: int, line: str) -> Pin:
    if line.startswith("-"):
        raise LockError(
            f"line {number}: {line.split()[0]} is an option: a lock holds requirements only, and the index is"
            " the host's own choice (index_url, wheelhouse)"
        )
    requirement = line.split("--hash")[0].strip()
    match = _PIN.match(requirement)
    if match is None:
        raise LockError(f"line {number}: {requirement!r} is not pinned: write it as name==version")
    hashes = tuple(_HASH.findall(line))
    for value in hashes:
        if not _STRONG_HASH.match(value):
            raise LockError(f"line {number}: {value!r} is not a sha256, sha384 or sha512 hash")
    return Pin(canonical_name(match["name"]), match["version"], match["marker"] or "", hashes)


def parse_lock(text: str) -> Lock:
    """Read a lock in requirements format.

    Raises LockError for options and URLs, for requirements without ``==`` or without hashes, and for an empty
    lock.
    """
    pins = [_parse_pin(number, line) for number, line in _logical_lines(text)]
    if not pins:
        raise LockError("there is no requirement in it")
    bare = sorted({pin.name for pin in pins if not pin.hashes})
    if bare:
        raise LockError(
            f"without a hash: {', '.join(bare)}; compile it with 'uv pip compile --generate-hashes'"
        )
    return Lock(tuple(pins))


@dataclass(frozen=True)
class _Failure:
    output: str
    last: str  # the innermost cause that uv names
    python: str

    def has(self, *signs: str) -> bool:
        return any(sign in self.output for sign in signs)


def explain_failure(output: str, python: str) -> Tuple[str, str]:
    """What uv's output means: one word for machines and a sentence for people.

    `python` describes the interpreter, such as ``CPython 3.11.2 on x86_64``.
    """
    causes = [line.split("cause:", 1)[1].strip() for line in output.splitlines() if "cause:" in line]
    failure = _Failure(output, causes[-1] if causes else output.strip()[-500:], python)
    readings = (
        ("disk_full", _disk_full),
        ("hash_mismatch", _hash_mismatch),
        ("index_unreachable", _unreachable),
        ("no_matching_wheel", _no_wheel),
        ("not_found", _not_found),
    )
    for reason, read in readings:
        message = read(failure)
        if message is not None:
            return reason, message
    return "install_failed", f"uv failed: {output.strip()[-1500:]}"


def _disk_full(failure: _Failure) -> Optional[str]:
    if failure.has("No space left on device", "os error 28", "Disk quota exceeded"):
        return "the disk is full: free space on the file system of the releases"
    return None


def _hash_mismatch(failure: _Failure) -> Optional[str]:
    match = re.search(
        r"Hash mismatch for `(?P<package>[^`]+)`\s+Expected:\s+(?P<expected>.*?)\s+Computed:\s+(?P<got>\S+)",
        failure.output,
        re.DOTALL,
    )
    if match is None:
        return None
    expected = " or ".join(match["expected"].split())
    return (
        f"the hash of {match['package']} does not match: expected {expected}, got {match['got']}."
        " Do not install it before it is known why the file differs from the locked one"
    )


def _unreachable(failure: _Failure) -> Optional[str]:
    if not failure.has(
        "error sending request", "Failed to fetch", "HTTP status", "timed out", "Unauthorized"
    ):
        return None
    url = _URL.search(failure.output)
    host = urlsplit(url.group()).netloc.rpartition("@")[2] if url else "the index"
    return (
        f"{host} could not be reached or refused to answer: {failure.last}. Check index_url,"
        " extra_index_urls, the network and the host's certificates, or give a wheelhouse with offline: true"
    )


def _no_wheel(failure: _Failure) -> Optional[str]:
    if not failure.has(
        "no wheels with a matching", "no usable wheels", "no wheels are available", "does not satisfy Python"
    ):
        return None
    package = re.search(r"[Bb]ecause ([^\s,]+)", failure.last)
    hints = [line[len("hint:") :].strip() for line in failure.output.splitlines() if line.startswith("hint:")]
    return (
        f"{package.group(1) if package else 'a package'} has no wheel for {failure.python}:"
        f" {' '.join(hints) or failure.last}. Use the Python that the lock was made for, or lock for this one"
    )


def _not_found(failure: _Failure) -> Optional[str]:
    match = re.search(r"(?:there is no version of (\S+)|[Bb]ecause (\S+) was not found in )", failure.last)
    if match is None:
        return None
    return (
        f"{match[1] or match[2]} is not in the index or wheelhouse: {failure.last}"
        " Check index_url, extra_index_urls and wheelhouse"
    )

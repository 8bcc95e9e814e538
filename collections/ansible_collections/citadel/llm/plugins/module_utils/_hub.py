# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client of a model hub: the files of a pinned revision, and downloads that continue and are checked."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from email.message import Message
from typing import IO, Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.citadel.llm.plugins.module_utils._hub_rules import (
    COMMIT,
    SHA256,
    HubError,
    check_repository,
    check_revision,
    explain_status,
    is_chosen,
    origin,
    pause_of,
    shown,
)

BLOCK = 1 << 20
_LARGEST_LISTING = 64 << 20
_LONGEST_PAUSE_S = 300.0
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class _TransientError(Exception):
    """A request that is worth another try, after `pause_s` seconds where the hub says so."""

    def __init__(self, reason: str, pause_s: Optional[float] = None) -> None:
        super().__init__(reason)
        self.pause_s = pause_s


class _RangeError(_TransientError):
    """The hub has nothing at the offset that was asked for."""


@dataclass(frozen=True)
class HubFile:
    """A file of a snapshot with its size in bytes and its hash: sha256 (large files) or git's sha1."""

    path: str
    size: int
    sha256: Optional[str] = None
    git_sha1: Optional[str] = None

    @property
    def key(self) -> str:
        """A name that no other content has."""
        return self.sha256 or f"git-{self.git_sha1}"


@dataclass(frozen=True)
class Snapshot:
    """The files of one commit of a repository."""

    repository: str
    commit: str
    files: Tuple[HubFile, ...]


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects without the token to other hosts, and over HTTP only.

    The token is an unredirected header, which urllib leaves behind; it comes along only to the same origin.
    """

    def __init__(self, *, leave_origin: bool = True) -> None:
        self._leave_origin = leave_origin

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> Optional[urllib.request.Request]:
        if urllib.parse.urlsplit(newurl).scheme not in ("http", "https"):
            raise HubError(f"the hub redirects to {shown(newurl)}, which is not HTTP: check the endpoint")
        same = origin(newurl) == origin(req.full_url)
        if not same and not self._leave_origin:
            return None
        request = super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]
        if request is not None:
            request.method = req.get_method()
            token = req.unredirected_hdrs.get("Authorization")
            if same and token:
                request.add_unredirected_header("Authorization", token)
        return request


class Hub:
    """One hub. `attempts` bounds tries without progress, `timeout_s` the wait for an answer or a block."""

    def __init__(
        self,
        endpoint: str,
        token: Optional[str] = None,
        *,
        timeout_s: float = 30.0,
        attempts: int = 5,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.endpoint = endpoint.rstrip("/")
        self._token = (token or "").strip() or None
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._sleep = sleep
        self._check_settings()
        self._opener = urllib.request.build_opener(_Redirects())
        self._opener_of_origin = urllib.request.build_opener(_Redirects(leave_origin=False))

    def _check_settings(self) -> None:
        parts = urllib.parse.urlsplit(self.endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
            raise HubError(
                f"the endpoint {shown(self.endpoint)!r} is not valid: write it as https://HOST, "
                "without a user, a password or a query"
            )
        if self._token and not re.match(r"\A[\x21-\x7e]+\Z", self._token):
            raise HubError(
                "the hub's token holds characters that a token cannot have: check where it comes from"
            )
        if self._token and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise HubError(
                f"the token is not sent in clear to {parts.hostname}: use an endpoint with https://"
            )

    def snapshot(
        self,
        repository: str,
        revision: str,
        *,
        allow_moving: bool = False,
        allow_patterns: Sequence[str] = (),
        ignore_patterns: Sequence[str] = (),
    ) -> Snapshot:
        """The files of a revision that the patterns choose. Raises HubError."""
        check_repository(repository)
        check_revision(revision, allow_moving=allow_moving)
        quoted = urllib.parse.quote(revision, safe="")
        url = f"{self.endpoint}/api/models/{repository}/revision/{quoted}?blobs=true"
        listing = self._get_json(url, f"{repository} at {revision}")
        commit = str(listing.get("sha", ""))
        if not COMMIT.match(commit) or (COMMIT.match(revision) and commit != revision):
            raise HubError(
                f"{shown(url)} answers for the commit {commit!r}, not for {revision}: check the endpoint"
            )
        rows = listing.get("siblings")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise HubError(f"{shown(url)} answers without a list of files: check that the endpoint is a hub")
        chosen = [
            row for row in rows if is_chosen(str(row.get("rfilename")), allow_patterns, ignore_patterns)
        ]
        if not chosen:
            raise HubError(
                f"no file of {repository} at {revision} is chosen: it has {len(rows)}, "
                "check allow_patterns and ignore_patterns"
            )
        return Snapshot(repository, commit, tuple(self._file(repository, commit, row) for row in chosen))

    def _file(self, repository: str, commit: str, row: Mapping[str, Any]) -> HubFile:
        path, large = str(row["rfilename"]), row.get("lfs")
        sha256 = large.get("sha256") or large.get("oid") if isinstance(large, dict) else None
        size = large.get("size") if isinstance(large, dict) else row.get("size")
        etag = str(sha256 or row.get("blobId") or "")
        if not isinstance(size, int) or not (SHA256.match(etag) or COMMIT.match(etag)):
            etag, size = self._look_up(repository, commit, path)
        if SHA256.match(etag):
            return HubFile(path, size, sha256=etag)
        return HubFile(path, size, git_sha1=etag)

    def _look_up(self, repository: str, commit: str, path: str) -> Tuple[str, int]:
        """Hash and size of a file, for hubs whose listing has neither."""
        request = self._request(self.address(repository, commit, path), method="HEAD")
        headers = self._retrying(lambda: self._headers(request, path))
        etag = (headers.get("X-Linked-Etag") or headers.get("ETag") or "").strip()
        etag = (etag[2:] if etag.startswith("W/") else etag).strip('"')
        size = headers.get("X-Linked-Size") or headers.get("Content-Length") or ""
        if not (SHA256.match(etag) or COMMIT.match(etag)) or not size.isdigit():
            raise HubError(f"the hub says neither a hash nor a size for {path!r}: use another hub")
        return etag, int(size)

    def address(self, repository: str, commit: str, path: str) -> str:
        return f"{self.endpoint}/{repository}/resolve/{commit}/{urllib.parse.quote(path)}"

    def download(self, snapshot: Snapshot, file: HubFile, part: str) -> None:
        """Bring the file's content to `part`, going on from what is there already, and check its hash.

        Raises HubError; what has arrived stays for the next run, unless it is wrong.
        """
        url = self.address(snapshot.repository, snapshot.commit, file.path)
        for _attempt in range(2):  # what an earlier run left can be wrong: then once more from the start
            resumed = _size(part) > 0
            self._complete(url, file, part)
            if has_hash(part, file):
                return
            os.unlink(part)
            if not resumed:
                break
        raise HubError(
            f"{file.path!r} from {shown(url)} does not have the hash {file.key} that the hub promises: "
            "a proxy or the hub damages it; try another endpoint"
        )

    def _complete(self, url: str, file: HubFile, part: str) -> None:
        failures, furthest = 0, _size(part)
        while True:
            before = _size(part)
            if before > file.size:
                os.unlink(part)
                before = 0
            try:
                return self._append(url, file, part, before)
            except _TransientError as error:
                if isinstance(error, _RangeError):
                    os.unlink(part)
                reached = _size(part)
                failures = 1 if furthest < reached <= file.size else failures + 1
                furthest = max(furthest, reached)
                if failures >= self._attempts:
                    raise HubError(
                        f"{file.path!r} stopped at {reached} of {file.size} bytes after {failures} tries "
                        f"({error}): run again, it goes on from there"
                    ) from error
                self._pause(error, failures)

    def _append(self, url: str, file: HubFile, part: str, offset: int) -> None:
        if offset == file.size and os.path.exists(part):
            return
        request = self._request(url)
        if offset:
            request.add_header("Range", f"bytes={offset}-")
        with self._open(request, file.path) as response:
            continues = response.status == 206 and _range_start(response.headers) == offset
            with open(part, "ab" if continues else "wb") as stream:
                _copy(response, stream, file.size - (offset if continues else 0))
        if _size(part) != file.size:
            raise _TransientError(f"the connection ended after {_size(part)} bytes")

    def _get_json(self, url: str, subject: str) -> Dict[str, Any]:
        def fetch() -> bytes:
            with self._open(self._request(url), subject) as response:
                return _read(response, _LARGEST_LISTING)

        try:
            content = json.loads(self._retrying(fetch))
        except ValueError as error:
            raise HubError(f"{shown(url)} does not answer with JSON: check the endpoint") from error
        if not isinstance(content, dict):
            raise HubError(f"{shown(url)} does not answer with an object: check that the endpoint is a hub")
        return content

    def _headers(self, request: urllib.request.Request, subject: str) -> Message:
        with self._open(request, subject, stay=True) as response:
            headers: Message = response.headers
            return headers

    def _retrying(self, call: Callable[[], Any]) -> Any:
        for failures in range(1, self._attempts + 1):
            try:
                return call()
            except _TransientError as error:
                if failures == self._attempts:
                    raise HubError(
                        f"the hub {self.endpoint} could not be asked in {failures} tries ({error}): "
                        "check the endpoint, the proxy and the network"
                    ) from error
                self._pause(error, failures)
        raise AssertionError("unreachable")

    def _pause(self, error: _TransientError, failures: int) -> None:
        wanted = float(2 ** (failures - 1)) if error.pause_s is None else error.pause_s
        self._sleep(min(max(wanted, 0.0), _LONGEST_PAUSE_S))

    def _request(self, url: str, method: str = "GET") -> urllib.request.Request:
        request = urllib.request.Request(url, method=method, headers={"User-Agent": "citadel.llm"})  # noqa: S310
        if self._token:
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        return request

    @contextlib.contextmanager
    def _open(self, request: urllib.request.Request, subject: str, *, stay: bool = False) -> Iterator[Any]:
        """The answer to a request; `stay` gives a redirect to another host as the answer."""
        opener = self._opener_of_origin if stay else self._opener
        try:
            with opener.open(request, timeout=self._timeout_s) as response:
                yield response
        except urllib.error.HTTPError as error:
            with error:
                if stay and 300 <= error.code < 400:
                    yield error
                    return
                raise self._explain(error, subject) from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise HubError(
                    f"the certificate of {shown(request.full_url)} is not trusted ({error.reason}): "
                    "install the authority's certificate on the host, or check the endpoint"
                ) from error
            raise _TransientError(str(error.reason)) from error
        except (OSError, http.client.HTTPException) as error:
            raise _TransientError(f"{type(error).__name__}: {error}") from error

    def _explain(self, error: urllib.error.HTTPError, subject: str) -> Exception:
        if error.code == 416:
            return _RangeError("HTTP status 416")
        if error.code in (408, 429) or error.code >= 500:
            return _TransientError(f"HTTP status {error.code}", pause_of(error.headers))
        return HubError(
            explain_status(error.code, error.headers.get("X-Error-Code", ""), subject, self.endpoint)
        )


def has_hash(path: str, file: HubFile) -> bool:
    """Whether the file at `path` has the size and the hash of the hub's file."""
    if _size(path) != file.size:
        return False
    digest = (
        hashlib.sha256() if file.sha256 else hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    )
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(BLOCK), b""):
            digest.update(block)
    return digest.hexdigest() == (file.sha256 or file.git_sha1)


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


def _range_start(headers: Message) -> Optional[int]:
    match = re.match(r"bytes (\d+)-", headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _copy(response: IO[bytes], stream: IO[bytes], expected: int) -> None:
    """Copy at most one byte more than expected: a longer answer is noticed and does not fill the disk."""
    left = expected + 1
    while left > 0:
        block = response.read(min(BLOCK, left))
        if not block:
            return
        stream.write(block)
        left -= len(block)


def _read(response: IO[bytes], limit: int) -> bytes:
    blocks: List[bytes] = []
    while block := response.read(BLOCK):
        blocks.append(block)
        if len(blocks) * BLOCK > limit:
            raise HubError(f"the hub's list of files is longer than {limit} bytes")
    return b"".join(blocks)

# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A model hub on the loopback interface, and a second server to which it redirects large files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
import urllib.parse
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple, Optional

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "someone/model"


def git_sha1(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Asked(NamedTuple):
    """A request as a server got it."""

    role: str
    method: str
    path: str
    range: Optional[str]
    authorization: Optional[str]


@dataclass
class Behaviour:
    """What the servers serve, how they misbehave, and what they were asked."""

    small: dict = field(default_factory=dict)
    large: dict = field(default_factory=dict)
    gated: bool = False
    listing: bool = True  # whether the list of files has sizes and hashes
    ranges: bool = True
    drop_after: int = 0  # bytes after which the connection is dropped; 0 for never
    drops: int = 0  # how many times
    busy: int = 0  # how many requests are answered with 429
    served: dict = field(default_factory=dict)  # other content than the listing promises
    redirect: str = ""  # where large files are redirected to, instead of the second server
    requests: list = field(default_factory=list)  # each an Asked

    def content(self, path):
        return self.served.get(path, {**self.small, **self.large}.get(path))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    role = "hub"

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        behaviour = self.server.behaviour
        path = urllib.parse.unquote(self.path.split("?")[0])
        headers = (self.headers.get("Range"), self.headers.get("Authorization"))
        behaviour.requests.append(Asked(self.server.role, self.command, path, *headers))
        if behaviour.busy:
            behaviour.busy -= 1
            self.answer(429, b"slow down", {"Retry-After": "7"})
        elif self.server.role == "storage":
            self.serve_content(path.lstrip("/"))
        elif path.startswith("/api/"):
            self.serve_listing(path)
        else:
            self.serve_file(path)

    def serve_listing(self, path):
        behaviour = self.server.behaviour
        prefix = f"/api/models/{REPOSITORY}/revision/"
        if not path.startswith(prefix):
            self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif path[len(prefix) :] not in (COMMIT, "main"):
            self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        else:
            rows = [self.row(name) for name in [*behaviour.small, *behaviour.large]]
            self.answer(200, json.dumps({"sha": COMMIT, "siblings": rows}).encode(), {})

    def row(self, name):
        behaviour = self.server.behaviour
        if not behaviour.listing:
            return {"rfilename": name}
        if name in behaviour.small:
            content = behaviour.small[name]
            return {"rfilename": name, "size": len(content), "blobId": git_sha1(content)}
        content = behaviour.large[name]
        large = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
        return {"rfilename": name, "size": len(content), "blobId": git_sha1(b"pointer"), "lfs": large}

    def serve_file(self, path):
        behaviour = self.server.behaviour
        prefix = f"/{REPOSITORY}/resolve/{COMMIT}/"
        name = path[len(prefix) :]
        if behaviour.gated and self.headers.get("Authorization") is None:
            self.answer(401, b"", {"X-Error-Code": "GatedRepo"})
        elif not path.startswith(prefix) or behaviour.content(name) is None:
            self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        elif name in behaviour.large:
            content = behaviour.large[name]
            self.answer(
                302,
                b"",
                {
                    "Location": behaviour.redirect
                    or f"{self.server.storage_url}/{urllib.parse.quote(name)}?signature=secret",
                    "X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"',
                    "X-Linked-Size": str(len(content)),
                    "X-Repo-Commit": COMMIT,
                },
            )
        else:
            self.serve_content(
                name, {"ETag": f'W/"{git_sha1(behaviour.small[name])}"', "X-Repo-Commit": COMMIT}
            )

    def serve_content(self, name, headers=None):
        behaviour = self.server.behaviour
        content, status, headers = behaviour.content(name), 200, dict(headers or {})
        match = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if match and behaviour.ranges:
            start = int(match[1])
            if start >= len(content):
                self.answer(416, b"", {})
                return
            status = 206
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            content = content[start:]
        self.answer(status, content, headers)

    def answer(self, status, content, headers):
        behaviour = self.server.behaviour
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if behaviour.drops and 0 < behaviour.drop_after < len(content):
            behaviour.drops -= 1
            content = content[: behaviour.drop_after]
            self.close_connection = True
        self.wfile.write(content)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A client that hangs up early is part of the tests."""


@contextlib.contextmanager
def running(behaviour):
    """The address of a hub that behaves like this."""
    servers = []
    for role in ("hub", "storage"):
        server = Server(("127.0.0.1", 0), Handler)
        server.role, server.behaviour = role, behaviour
        servers.append(server)
    hub, storage = servers
    hub.storage_url = f"http://127.0.0.1:{storage.server_address[1]}"
    threads = [threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield f"http://127.0.0.1:{hub.server_address[1]}"
    finally:
        for server, thread in zip(servers, threads):  # noqa: B905 - strict is younger than Python 3.9
            server.shutdown()
            server.server_close()
            thread.join()

# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small service: says what it read at its start, and can be broken by its configuration."""

from __future__ import annotations

import http.server
import json
import os
import pathlib
import signal
import socket
import sys

BASE = pathlib.Path(sys.argv[1])
STATE = {
    "release": (BASE / "current/version").read_text().strip(),
    "config": json.loads((BASE / "config.json").read_text()),
}
if STATE["release"] == "broken":
    sys.exit("this release is broken")


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(503 if STATE["config"].get("sick") else 200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps({**STATE, "pid": os.getpid()}).encode())


def reload(*_unused: object) -> None:
    STATE["routing"] = (BASE / "routing").read_text().strip()


reload()
signal.signal(signal.SIGHUP, reload)
server = http.server.HTTPServer(("127.0.0.1", STATE["config"]["port"]), Handler)
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
    notify.connect(os.environ["NOTIFY_SOCKET"])
    notify.send(b"READY=1")
server.serve_forever()

# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Endpoints with faults on the loopback address. Arguments: certificate, key, file for the ports."""

from __future__ import annotations

import http.server
import json
import os
import socket
import ssl
import sys
import threading
import time


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers what the path says: /200, /503, /slow."""

    def do_GET(self) -> None:
        if self.path == "/slow":
            time.sleep(0.6)
        self.send_response(int(self.path[1:]) if self.path[1:].isdigit() else 200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Says nothing."""


def serve(certificate: str = "", key: str = "") -> int:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


silent = socket.create_server(("127.0.0.1", 0))
full = socket.socket()
full.bind(("127.0.0.1", 0))
full.listen(0)
waiting = []
for _number in range(4):
    stream = socket.socket()
    stream.setblocking(False)
    stream.connect_ex(full.getsockname())
    waiting.append(stream)
refusing = socket.socket()
refusing.bind(("127.0.0.1", 0))
ports = {
    "http": serve(),
    "https": serve(sys.argv[1], sys.argv[2]),
    "silent": silent.getsockname()[1],
    "filtered": full.getsockname()[1],
    "refused": refusing.getsockname()[1],
}
with open(sys.argv[3] + ".new", "w", encoding="ascii") as out:
    json.dump(ports, out)
os.rename(sys.argv[3] + ".new", sys.argv[3])
time.sleep(180)

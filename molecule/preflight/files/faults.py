"""Endpoints with faults on the loopback address: 7001 slow, 7002 expired certificate, 7003 filtered."""

from __future__ import annotations

import http.server
import socket
import ssl
import threading
import time


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers late on the port of the slow one."""

    def do_GET(self) -> None:
        if self.server.server_address[1] == 7001:
            time.sleep(0.6)
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Says nothing."""


slow = http.server.ThreadingHTTPServer(("127.0.0.1", 7001), Handler)
expired = http.server.ThreadingHTTPServer(("127.0.0.1", 7002), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/srv/faults/certificate.pem", "/srv/faults/key.pem")
expired.socket = context.wrap_socket(expired.socket, server_side=True)
for server in (slow, expired):
    threading.Thread(target=server.serve_forever, daemon=True).start()

# A full queue: the kernel drops what else wants to connect, as a firewall does.
full = socket.socket()
full.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
full.bind(("127.0.0.1", 7003))
full.listen(0)
waiting = []
for _number in range(4):
    stream = socket.socket()
    stream.setblocking(False)
    stream.connect_ex(full.getsockname())
    waiting.append(stream)
time.sleep(3600)

"""A file system that never answers, and endpoints: 7001 slow, 7002 expired certificate, 7003 filtered."""

from __future__ import annotations

import ctypes
import http.server
import os
import socket
import ssl
import threading
import time
from pathlib import Path


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

# The kernel asks this process about the file system, and it never says anything.
device = os.open("/dev/fuse", os.O_RDWR)
libc = ctypes.CDLL(None, use_errno=True)
options = f"fd={device},rootmode=40000,user_id=0,group_id=0"
if libc.mount(b"dead-server", b"/srv/faults/dead", b"fuse.dead", 0, options.encode()):
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
Path("/run/citadel-faults").write_text("started")
time.sleep(3600)

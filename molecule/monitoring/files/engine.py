"""Stands in for vLLM: repeats what one told Prometheus, answers one sentence, and logs the request's id."""

from __future__ import annotations

import json
import os
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

METRICS = Path(sys.argv[2]).read_bytes()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        if self.path == "/metrics":
            self.answer(METRICS, "text/plain; version=0.0.4")
        else:
            self.answer(b"{}", "application/json")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        sys.stdout.write(f"INFO Received request cmpl-{self.headers['x-request-id']}: prompt\n")
        sys.stdout.flush()
        message = {"role": "assistant", "content": "Paris."}
        usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        answer = {"id": "1", "object": "chat.completion", "created": 1, "model": "stand-in"}
        self.answer(json.dumps({**answer, "choices": choices, "usage": usage}).encode(), "application/json")

    def log_message(self, *arguments: object) -> None:
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
    notify.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
server.serve_forever()

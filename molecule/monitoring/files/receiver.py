"""Receives alerts as a webhook, as a chat and as a mail server, and writes each down with its time."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

LOG = Path("/srv/received.jsonl")


def note(kind: str, content: object) -> None:
    with LOG.open("a") as stream:
        stream.write(json.dumps({"time": time.time(), "kind": kind, "content": content}) + "\n")


class Hook(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        note(self.path.strip("/"), json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()


async def smtp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mail\r\n")
    while line := (await reader.readline()).decode().strip():
        verb = line.split()[0].upper()
        if verb == "DATA":
            writer.write(b"354 go on\r\n")
            note("mail", (await reader.readuntil(b"\r\n.\r\n")).decode())
        if verb == "QUIT":
            break
        writer.write(b"250 ok\r\n")
        await writer.drain()
    writer.write(b"221 bye\r\n")
    await writer.drain()
    writer.close()


async def main() -> None:
    server = await asyncio.start_server(smtp, "127.0.0.1", 2525, limit=1 << 20)
    await server.serve_forever()


threading.Thread(target=ThreadingHTTPServer(("127.0.0.1", 9999), Hook).serve_forever, daemon=True).start()
asyncio.run(main())

"""Requests before they are bytes, and what can be done to their heads and framing."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

_KEY_LENGTH = 54  # of keys as `new_key` makes them: a mark takes as much room
KEYS = {name: f"~fuzz-key-{name}~".encode().ljust(_KEY_LENGTH, b"~") for name in ("good", "small", "narrow")}
"""Marks that stand for keys: without limits, with small limits, and for two endpoints only."""
_HOST = b"gateway"
_ENDINGS = (b"\n", b"\r", b"\r\r\n", b"\n\r", b"\0\r\n", b" \r\n", b"\r\n ", b"\r\n\t", b"\r\n\r\n", b"")
_LINES = (
    b"content-length: 0", b"content-length: 5", b"content-length: 00005", b"content-length: +5",
    b"content-length: -1", b"content-length: 5, 5", b"content-length: 0x5", b"content-length:",
    b"content-length: 99999999999999999999999", b"content-length: 18446744073709551616",
    b"content-length: 40000000", b"content-length : 5", b"content-length\t: 5",
    b"transfer-encoding: chunked", b"transfer-encoding: Chunked ", b"transfer-encoding: gzip, chunked",
    b"transfer-encoding:", b"transfer-encoding: chunked, chunked", b"transfer-encoding: identity",
    b"transfer-encoding: xchunked", b"transfer-encoding: chunked\x0b", b"transfer-encoding:\x0bchunked",
    b"transfer-encoding : chunked", b"te: trailers", b"transfer_encoding: chunked",
    b"Transfer-Encoding: chunked;q=1", b"trailer: content-length", b"connection: close",
    b"connection: keep-alive", b"connection: upgrade", b"connection: close, x-forwarded-for",
    b"connection: authorization", b"connection: content-length", b"connection: host, x-a",
    b"connection: ,,,", b"Connection:", b"upgrade: h2c", b"upgrade: websocket",
    b"http2-settings: AAMAAABk", b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==", b"expect: 100-continue",
    b"expect: 200-ok", b"expect: 100-Continue ", b"proxy-connection: close", b"host: other",
    b"host: gateway", b"Host:", b" host: gateway", b"host : gateway", b"host: gateway:80, other",
    b"x: a\0b", b"x: \x7f", b"x: \x01", b"x: \xff\xfe", b"x: \xc3\xa9", b"\xc3\xa9: x", b": empty",
    b"no colon", b"x y: z", b"x:", b"x", b"x-request-id: a b", b"x-request-id: \x22},{",
    b"x-request-id: " + b"a" * 129, b"x-request-id: given", b"authorization: Basic YTpi",
    b"authorization: Bearer", b"authorization: Bearer \xff", b"authorization: bearer a.b.c",
    b"authorization: Bearer " + b"eyJh" * 40 + b".e30.e30", b"x-api-key: none", b"x-api-key:",
    b"cookie: a=b", b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    b"traceparent: 00-0-0-0", b"traceparent: \xff", b"tracestate: a=b," * 40, b"content-type: text/plain",
    b"content-encoding: gzip", b"content-encoding: identity", b"x-http-method-override: DELETE",
    b"accept-encoding: gzip", b"range: bytes=0-5", b"if-none-match: *", b"x-forwarded-for: 1.2.3.4",
    b"keep-alive: timeout=0", b"x-citadel-arm: none",
)  # fmt: skip
_SIZES = (
    b"0", b"00", b"+1", b"-1", b"0x1", b"1 ", b" 1", b"", b"g", b"1_0", b"f" * 16, b"f" * 17, b"7fffffff",
    b"1;", b"1;a=b", b'1;a="\r\n"', b"1;\0", b"1\t", b"1\r", b"1;" + b"x" * 5000,
)  # fmt: skip
_FRAMES = (
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\0",
    b"0\r\n\r\n",
    b" ",
    b"GET /v1/models HTTP/1.1\r\nhost: gateway\r\n\r\n",
)


@dataclass
class Draft:
    """A request in parts. `lines` have no line endings; `endings` names those that are not CRLF."""

    method: bytes
    target: bytes
    lines: list[bytes]
    payload: bytes
    version: bytes = b"HTTP/1.1"
    endings: dict[int, bytes] = field(default_factory=dict)

    def dump(self) -> bytes:
        lines = [b"%b %b %b" % (self.method, self.target, self.version), *self.lines, b""]
        return b"".join(line + self.endings.get(n, b"\r\n") for n, line in enumerate(lines)) + self.payload

    def drop_body(self) -> None:
        self.payload = b""
        self.lines = [
            line
            for line in self.lines
            if not line.lower().startswith((b"content-length", b"transfer-encoding"))
        ]

    def chunk(self, chance: random.Random, *, odd: bool) -> None:
        """Send the body in chunks; with `odd`, not as it should be."""
        body = self.payload
        self.drop_body()
        self.lines.append(b"transfer-encoding: chunked")
        parts: list[bytes] = []
        at = 0
        while at < len(body):
            size = chance.choice((1, 2, 15, 16, 100, 5000))
            part = body[at : at + size]
            parts.append(b"%x\r\n%b\r\n" % (len(part), part))
            at += size
        parts.append(
            chance.choice(
                (b"0\r\n\r\n", b"0\r\n\r\n", b"0;last\r\n\r\n", b"0\r\nx-t: y\r\n\r\n", b"000\r\n\r\n")
            )
        )
        if odd:
            place = chance.randrange(len(parts))
            length, _, rest = parts[place].partition(b"\r\n")
            what = chance.randrange(5)
            if what == 0:
                parts[place] = chance.choice(_SIZES) + b"\r\n" + rest
            elif what == 1:
                parts[place] = length + chance.choice(_FRAMES) + rest
            elif what == 2:
                parts[place] = parts[place][:-2] + chance.choice(_FRAMES)
            elif what == 3:
                parts[-1] = b"0\r\n" + chance.choice(_LINES) + b"\r\n\r\n"
            else:
                del parts[place]
        self.payload = b"".join(parts)


def draft(target: bytes, body: bytes, chance: random.Random, *, good: bool = False) -> Draft:
    """A proper request; with `good`, of a key without limits."""
    key = KEYS["good" if good else chance.choices(("good", "small", "narrow"), (20, 1, 1))[0]]
    lines = [b"host: " + _HOST, b"authorization: Bearer " + key, b"content-type: application/json"]
    if chance.random() < 0.2:
        lines[1] = b"x-api-key: " + key
    if chance.random() < 0.3:
        lines.append(
            chance.choice((b"accept: */*", b"x-forwarded-for: 10.0.0.1", b"X-Mixed-Case: Yes", b"x-empty:"))
        )
    chance.shuffle(lines)
    found = Draft(b"POST", target, [*lines, b"content-length: %d" % len(body)], body)
    if chance.random() < 0.15:
        found.chunk(chance, odd=False)
    return found


def spoil(found: Draft, chance: random.Random) -> None:
    """Do one thing to a request that may be wrong."""
    lines = found.lines
    place = chance.randrange(len(lines) + 1)
    what = chance.randrange(11)
    if what <= 2:
        lines.insert(place, chance.choice(_LINES))
    elif what == 3:
        found.endings[chance.randrange(len(lines) + 2)] = chance.choice(_ENDINGS)
    elif what == 4 and lines:
        lines.insert(place, chance.choice(lines))
    elif what == 5 and lines:
        del lines[place % len(lines)]
    elif what == 6:
        _misframe(found, chance)
    elif what == 7:
        found.version = chance.choice(
            (b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.", b"http/1.1", b"HTTP/1.1 ", b"")
        )
    elif what == 8:
        _swell(found, chance)
    elif what == 9:
        lines[0:0] = [b"connection: upgrade", chance.choice((b"upgrade: h2c", b"upgrade: websocket"))]
    else:
        found.chunk(chance, odd=True)


def _misframe(found: Draft, chance: random.Random) -> None:
    size = len(found.payload)
    length = max(0, size + chance.choice((-1, 1, -5, 30, -size)))
    extra = [b"content-length: %d" % length]
    if chance.random() < 0.5:
        found.lines = [line for line in found.lines if not line.startswith(b"content-length")]
    if chance.random() < 0.4:
        extra.append(chance.choice((b"transfer-encoding: chunked", b"Transfer-Encoding: identity")))
    chance.shuffle(extra)
    found.lines += extra


def _swell(found: Draft, chance: random.Random) -> None:
    what = chance.randrange(5)
    if what == 0:
        found.lines.append(b"x-large: " + b"a" * chance.choice((2_000, 16_000, 33_000, 70_000)))
    elif what == 1:
        found.lines += [b"x-%d: y" % number for number in range(chance.choice((50, 99, 300)))]
    elif what == 2:
        found.target += b"?" + b"a" * chance.choice((1_000, 33_000))
    elif what == 3:
        found.lines.append(b"a" * 40_000 + b": x")
    else:
        found.method = b"A" * chance.choice((10, 40_000))


def scratch(data: bytes, chance: random.Random) -> bytes:
    """Change some bytes."""
    place = chance.randrange(len(data))
    what = chance.randrange(5)
    if what == 0:
        return data[:place] + bytes([chance.randrange(256)]) + data[place + 1 :]
    if what == 1:
        return (
            data[:place] + chance.choice((b"\r\n", b"\n", b"\0", b"\r", b" ", b":", b"\xff")) + data[place:]
        )
    if what == 2:
        return data[:place] + data[place + chance.choice((1, 1, 2, 10)) :]
    end = min(len(data), place + chance.randrange(1, 60))
    if what == 3:
        return data[:end] + data[place:end] + data[end:]
    other = chance.randrange(len(data))
    return data[:other] + data[place:end] + data[other:]

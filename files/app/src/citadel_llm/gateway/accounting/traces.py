"""`traceparent` and `tracestate` (W3C Trace Context), and `Server-Timing`."""

from __future__ import annotations

import re
from binascii import hexlify
from random import getrandbits, random
from typing import NamedTuple

_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?").fullmatch
_MAX_STATE = 512
_NO_TRACE = b"0" * 32
_NO_SPAN = b"0" * 16


class Trace(NamedTuple):
    """A request's place in a trace. `span` is the gateway's own, which engines get as their parent."""

    trace: bytes
    span: bytes
    parent: bytes | None
    sampled: bool
    state: bytes

    def lines(self) -> bytes:
        """The headers for an engine, whole lines."""
        lines = b"traceparent: 00-%b-%b-%b\r\n" % (self.trace, self.span, b"01" if self.sampled else b"00")
        return lines + b"tracestate: %b\r\n" % self.state if self.state else lines


def trace_of(parent: bytes | None, state: bytes | None, *, sample: float = 1.0) -> Trace:
    """Continue the trace that a client tells of, or begin one when it tells none that is valid."""
    span = b"%016x" % (getrandbits(64) or 1)
    match = _PARENT(parent) if parent is not None else None
    if match is not None:
        version, trace, above, flags, rest = match.groups()
        valid = version != b"ff" and trace != _NO_TRACE and above != _NO_SPAN
        if valid and (version != b"00" or rest is None):
            kept = state if state is not None and len(state) <= _MAX_STATE else b""
            return Trace(trace, span, above, bool(int(flags, 16) & 1), kept)
    sampled = sample >= 1 or random() < sample  # noqa: S311 (chance, not secrecy)
    return Trace(b"%032x" % (getrandbits(128) or 1), span, None, sampled, b"")


def new_ids() -> tuple[bytes, Trace]:
    """An id for a request, 32 hexadecimal digits, and a trace that begins with it.

    They name a request and protect nothing, so they need not be unpredictable.
    """
    digits = hexlify(getrandbits(320).to_bytes(40, "little"))
    return digits[48:], Trace(digits[:32], digits[32:48], None, True, b"")


def server_timing(request_s: float, queue_s: float, engine_s: float) -> bytes:
    """The line `Server-Timing`, in milliseconds: reading and checking the request, waiting for an engine,
    waiting for the engine's first byte."""
    return b"server-timing: request;dur=%.2f, queue;dur=%.2f, engine;dur=%.2f\r\n" % (
        request_s * 1000,
        queue_s * 1000,
        engine_s * 1000,
    )

# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Validity and names of an X.509 certificate, read from its DER form.

The C(ssl) module tells these only of certificates that it trusts, and the interesting ones are those it does
not trust. Nothing here decides about trust.
"""

from __future__ import annotations

import calendar
import ipaddress
import time
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

SEQUENCE, SET, OID, OCTETS = 0x30, 0x31, 0x06, 0x04
UTC_TIME, GENERALIZED_TIME = 0x17, 0x18
VERSION, EXTENSIONS = 0xA0, 0xA3
DNS_NAME, IP_ADDRESS = 0x82, 0x87
COMMON_NAME = bytes.fromhex("550403")
SUBJECT_ALT_NAME = bytes.fromhex("551d11")


class Certificate(NamedTuple):
    """Times are seconds since the epoch; ``names`` are DNS names and addresses."""

    not_before: int
    not_after: int
    names: List[str]

    def matches(self, name: str) -> bool:
        """Whether the certificate is for that host name or address."""
        try:
            return str(ipaddress.ip_address(name)) in self.names
        except ValueError:
            return any(_name_matches(pattern.lower(), name.lower().rstrip(".")) for pattern in self.names)


def _name_matches(pattern: str, name: str) -> bool:
    if pattern.startswith("*."):
        return "." in name and name.partition(".")[2] == pattern[2:]
    return pattern == name


def parse(der: bytes) -> Certificate:
    """Raises ValueError for bytes that are no certificate."""
    try:
        return _parse(der)
    except (IndexError, StopIteration, UnicodeDecodeError) as error:
        raise ValueError("the certificate cannot be read: %s" % type(error).__name__) from error


def _parse(der: bytes) -> Certificate:
    certificate = _first(der, SEQUENCE)
    fields = list(_elements(_first(certificate, SEQUENCE)))
    if fields[0][0] == VERSION:
        fields = fields[1:]
    # serial number, signature algorithm, issuer, validity, subject, public key, …
    begin, end = (_time(kind, value) for kind, value in list(_elements(fields[3][1]))[:2])
    names: List[str] = []
    for kind, value in fields[6:]:
        if kind == EXTENSIONS:
            names = _alternative_names(_first(value, SEQUENCE))
    return Certificate(begin, end, names or _common_names(fields[4][1]))


def _elements(data: bytes) -> Iterator[Tuple[int, bytes]]:
    """The (tag, content) pairs that stand one after another."""
    while data:
        kind, length, start = data[0], data[1], 2
        if length & 0x80:
            count = length & 0x7F
            length, start = int.from_bytes(data[2 : 2 + count], "big"), 2 + count
        if start + length > len(data):
            raise IndexError("an element is longer than what holds it")
        yield kind, data[start : start + length]
        data = data[start + length :]


def _first(data: bytes, kind: int) -> bytes:
    found, value = next(_elements(data))
    if found != kind:
        raise IndexError("tag %#x instead of %#x" % (found, kind))
    return value


def _time(kind: int, value: bytes) -> int:
    text = value.decode("ascii")
    if kind == UTC_TIME:
        text = ("19" if int(text[:2]) >= 50 else "20") + text
    elif kind != GENERALIZED_TIME:
        raise IndexError("tag %#x instead of a time" % kind)
    return calendar.timegm(time.strptime(text[:14], "%Y%m%d%H%M%S"))


def _alternative_names(extensions: bytes) -> List[str]:
    for _kind, extension in _elements(extensions):
        parts = list(_elements(extension))
        if parts[0] == (OID, SUBJECT_ALT_NAME):
            names = _elements(_first(parts[-1][1], SEQUENCE))
            return [text for text in (_general_name(kind, value) for kind, value in names) if text]
    return []


def _general_name(kind: int, value: bytes) -> Optional[str]:
    if kind == DNS_NAME:
        return value.decode("ascii")
    return str(ipaddress.ip_address(value)) if kind == IP_ADDRESS and len(value) in (4, 16) else None


def _common_names(subject: bytes) -> List[str]:
    found: Dict[bytes, str] = {}
    for _kind, relative in _elements(subject):
        for _set, attribute in _elements(relative):
            parts = list(_elements(attribute))
            found[parts[0][1]] = parts[1][1].decode("utf-8", "replace")
    return [found[COMMON_NAME]] if COMMON_NAME in found else []

# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Public keys of C(authorized_keys): their kinds and strength."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import struct
from typing import Any, Dict, List, Optional

LEAST_RSA_BITS = 3072
_QUOTED = re.compile(r'"(?:\\.|[^"\\])*"')
_KEY = re.compile(r"(?:^|\s)((?:ssh|ecdsa|sk)-[a-z0-9@.\-]+)\s+([A-Za-z0-9+/]+=*)(?:\s|$)")


def parse_keys(text: str) -> List[Dict[str, Any]]:
    """One entry for each line that is no comment: ``line, type, bits, fingerprint, weakness``.

    ``type`` is None for a line that holds no key; ``weakness`` says in words why a key should go, or is None.
    """
    keys = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            keys.append(dict(_parse(line), line=number))
    return keys


def _parse(line: str) -> Dict[str, Any]:
    nothing = {"type": None, "bits": None, "fingerprint": None, "weakness": "the line holds no public key"}
    match = _KEY.search(_QUOTED.sub('""', line))
    if match is None:
        return nothing
    try:
        blob = base64.b64decode(match.group(2), validate=True)
        fields = _fields(blob)
    except (binascii.Error, struct.error):
        return nothing
    if not fields or fields[0].decode("ascii", "replace") != match.group(1):
        return nothing
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode("ascii").rstrip("=")
    bits = int.from_bytes(fields[2], "big").bit_length() if _is_rsa(match.group(1), fields) else None
    return {
        "type": match.group(1),
        "bits": bits,
        "fingerprint": "SHA256:" + digest,
        "weakness": _weakness(match.group(1), bits),
    }


def _is_rsa(kind: str, fields: List[bytes]) -> bool:
    return kind == "ssh-rsa" and len(fields) >= 3


def _fields(blob: bytes) -> List[bytes]:
    fields = []
    while blob:
        (length,) = struct.unpack_from(">I", blob)
        if length > len(blob) - 4:
            raise struct.error("a field is longer than the key")
        fields.append(blob[4 : 4 + length])
        blob = blob[4 + length :]
    return fields


def _weakness(kind: str, bits: Optional[int]) -> Optional[str]:
    if kind == "ssh-dss":
        return "DSA keys are no longer accepted by OpenSSH"
    if kind == "ssh-rsa" and (bits or 0) < LEAST_RSA_BITS:
        return "an RSA key of %s bits, fewer than %d" % (bits or "unknown", LEAST_RSA_BITS)
    return None

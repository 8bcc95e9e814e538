"""How API keys are hashed: with a secret of the server, the pepper, where there is one."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field

PEPPER_CREDENTIAL = "gateway_pepper"
"""Name of the file, in the secrets directory and among a service's credentials."""

_LINE = re.compile(r"[0-9a-f]{64,128}")


class PepperError(ValueError):
    """A pepper that cannot be used. The message never contains it."""


@dataclass(frozen=True, slots=True)
class Pepper:
    """A secret that turns a key's digest into one that nobody without it can try keys against."""

    secret: bytes = field(repr=False)

    @property
    def name(self) -> str:
        """Eight hexadecimal digits that tell one pepper from another and nothing else about it."""
        return hmac.digest(self.secret, b"citadel: the name of this pepper", "sha256").hex()[:8]

    def digest(self, key: bytes) -> bytes:
        return hmac.digest(self.secret, key, "sha256")


def parse_peppers(text: str) -> tuple[Pepper, ...]:
    """The peppers of a file, one a line in hexadecimal; the first one is for new keys. Raises PepperError."""
    found = []
    for number, line in enumerate(text.split(), start=1):
        if not _LINE.fullmatch(line) or len(line) % 2:
            raise PepperError(f"line {number} is not a pepper: 64 to 128 hexadecimal digits are expected")
        found.append(Pepper(bytes.fromhex(line)))
    if not found:
        raise PepperError("there is no pepper in it: a line of 64 hexadecimal digits is expected")
    return tuple(found)


def hash_key(key: str, pepper: Pepper | None) -> str:
    """The hash under which a key is kept. Keys are long and random, so a slow hash would add nothing."""
    data = key.encode()
    if pepper is None:
        return "sha256:" + hashlib.sha256(data).hexdigest()
    return f"hmac-sha256:{pepper.name}:{pepper.digest(data).hex()}"


def pepper_name(hashed: str) -> str | None:
    """The name of the pepper that a hash was made with; None for one without."""
    scheme, _, rest = hashed.partition(":")
    return rest.partition(":")[0] if scheme == "hmac-sha256" else None


def is_hash_of(key: str, hashed: str, peppers: tuple[Pepper, ...]) -> bool:
    """Whether a hash was made of a key, with any of the peppers or without one."""
    name = pepper_name(hashed)
    pepper = next((pepper for pepper in peppers if pepper.name == name), None)
    if name is not None and pepper is None:
        return False
    return hmac.compare_digest(hash_key(key, pepper), hashed)

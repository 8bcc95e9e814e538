"""API keys of a snapshot, found by their first characters and compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from citadel_llm.gateway.errors import invalid_key
from citadel_llm.gateway.identity.principal import Principal, Rules
from citadel_llm.schema.access import Access
from citadel_llm.schema.key_hash import Pepper, pepper_name
from citadel_llm.schema.snapshot import KEY_PREFIX_LENGTH, Key, SnapshotError

_WRONG = "Incorrect API key provided. Send a key that this server issued, as 'Authorization: Bearer KEY'."
_ACCESS = set(Access.model_fields)
_NO_DIGEST = bytes(hashlib.sha256().digest_size)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One text of a key as requests meet it. `expires` is in seconds since 1970."""

    digest: bytes = field(repr=False)
    pepper: Pepper | None
    expires: float
    disabled: bool
    principal: Principal


class KeyTable:
    """The keys of one snapshot. A key that was rotated has several texts and one identity."""

    def __init__(self, keys: Iterable[Key], peppers: Sequence[Pepper] = ()) -> None:
        """Raises SnapshotError when a key was hashed with a pepper that is not among those given."""
        self._peppers = {pepper.name: pepper for pepper in peppers}
        self._entries: dict[bytes, list[_Entry]] = {}
        self._rules: dict[str, Rules] = {}
        for key in keys:
            self._add(key)

    def __len__(self) -> int:
        return sum(map(len, self._entries.values()))

    def find(self, secret: bytes, now: float) -> Principal:
        """The owner of a key. Raises ApiError (401), without the key in it."""
        return self.look_up(secret, now)[0]

    def look_up(self, secret: bytes, now: float) -> tuple[Principal, float]:
        """The owner of a key, and until when that holds, in seconds since 1970. Raises ApiError (401)."""
        found = None
        # Every candidate is compared, and one is compared when there is none: time tells nothing about keys.
        candidates = self._entries.get(secret[:KEY_PREFIX_LENGTH])
        if candidates is None:
            hmac.compare_digest(hashlib.sha256(secret).digest(), _NO_DIGEST)
            raise invalid_key(_WRONG)
        for entry in candidates:
            pepper = entry.pepper
            digest = hashlib.sha256(secret).digest() if pepper is None else pepper.digest(secret)
            if hmac.compare_digest(digest, entry.digest):
                found = entry
        if found is None:
            raise invalid_key(_WRONG)
        if found.disabled:
            raise invalid_key("This API key has been disabled.")
        if found.expires <= now:
            raise invalid_key("This API key has expired.")
        return found.principal, found.expires

    def _add(self, key: Key) -> None:
        expires = key.expires.timestamp() if key.expires is not None else float("inf")
        principal = Principal(key.id, self._shared_rules(key))
        texts = [(key.prefix, key.hash, expires)]
        texts += [(old.prefix, old.hash, min(expires, old.expires.timestamp())) for old in key.previous]
        for prefix, hashed, until in texts:
            digest = bytes.fromhex(hashed.rpartition(":")[2])
            entry = _Entry(digest, self._pepper(key.id, hashed), until, key.disabled, principal)
            self._entries.setdefault(prefix.encode(), []).append(entry)

    def _pepper(self, id_: str, hashed: str) -> Pepper | None:
        name = pepper_name(hashed)
        if name is None:
            return None
        pepper = self._peppers.get(name)
        if pepper is None:
            have = ", ".join(self._peppers) or "none"
            raise SnapshotError(
                f"key {id_!r} was hashed with the pepper {name}, and the gateway has {have}: "
                "start it with the credential gateway_pepper of this server (systemd LoadCredential=)"
            )
        return pepper

    def _shared_rules(self, key: Key) -> Rules:
        """Most of many keys may do the same, and share what is compiled."""
        identity = key.model_dump_json(include=_ACCESS, exclude_defaults=True)
        found = self._rules.get(identity)
        if found is None:
            found = self._rules[identity] = Rules(key.access())
        return found

"""The snapshot in the form that requests are served from: everything is looked up, nothing is computed."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from citadel_llm.gateway.balancing.route import ModelRoute
from citadel_llm.gateway.errors import invalid_key, model_not_found
from citadel_llm.schema.snapshot import KEY_PREFIX_LENGTH, Key, RoutingSnapshot

_WRONG_KEY = "Incorrect API key provided. Send a key that this server issued, as 'Authorization: Bearer KEY'."
_NO_KEY = "You did not provide an API key. Send it as 'Authorization: Bearer KEY'."
_NO_DIGEST = bytes(hashlib.sha256().digest_size)


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """A key as requests meet it. `expires` is in seconds since 1970."""

    id: str
    digest: bytes = field(repr=False)
    disabled: bool
    expires: float


class RoutingTable:
    """One snapshot, ready to serve."""

    def __init__(self, snapshot: RoutingSnapshot) -> None:
        self.snapshot = snapshot
        self.version = snapshot.version
        self.created = snapshot.created.timestamp()
        self.models: dict[str, ModelRoute] = {}
        self._by_name: dict[str, ModelRoute] = {}
        self._keys: dict[bytes, list[KeyEntry]] = {}
        for key in snapshot.keys:
            self._keys.setdefault(key.prefix.encode(), []).append(_entry(key))
        self._documents = _documents(snapshot)
        listing = {"object": "list", "data": list(self._documents.values())}
        self.listing = json.dumps(listing).encode()

    def bind(self, routes: Mapping[str, ModelRoute]) -> None:
        """Take the routes of this snapshot's models. They outlive snapshots, and belong to the event loop."""
        for model in self.snapshot.models:
            route = self.models[model.name] = routes[model.name]
            for name in (model.name, *model.aliases):
                self._by_name[name] = route

    def route(self, name: str) -> ModelRoute:
        """The model of that name or alias. Raises ApiError (404)."""
        route = self._by_name.get(name)
        if route is None:
            raise model_not_found(name)
        return route

    def document(self, name: str) -> bytes:
        """What GET /v1/models/NAME answers. Raises ApiError (404)."""
        if name not in self._documents:
            raise model_not_found(name)
        return json.dumps(self._documents[name]).encode()

    def authenticate(self, authorization: bytes | None) -> str:
        """The id of the key in an Authorization header. Raises ApiError (401) without the key in it."""
        if authorization is None:
            raise invalid_key(_NO_KEY)
        scheme, _, secret = authorization.partition(b" ")
        secret = secret.strip()
        if scheme.lower() != b"bearer" or not secret:
            raise invalid_key(_NO_KEY)
        entry = self._find(secret)
        if entry is None:
            raise invalid_key(_WRONG_KEY)
        if entry.disabled:
            raise invalid_key("This API key has been disabled.")
        if entry.expires <= time.time():
            raise invalid_key("This API key has expired.")
        return entry.id

    def _find(self, secret: bytes) -> KeyEntry | None:
        digest = hashlib.sha256(secret).digest()
        found = None
        # Every candidate is compared, and one is compared when there is none: time tells nothing about keys.
        candidates = self._keys.get(secret[:KEY_PREFIX_LENGTH])
        if candidates is None:
            hmac.compare_digest(digest, _NO_DIGEST)
            return None
        for entry in candidates:
            if hmac.compare_digest(digest, entry.digest):
                found = entry
        return found


def _entry(key: Key) -> KeyEntry:
    expires = key.expires.timestamp() if key.expires is not None else float("inf")
    return KeyEntry(key.id, bytes.fromhex(key.hash.removeprefix("sha256:")), key.disabled, expires)


def _documents(snapshot: RoutingSnapshot) -> dict[str, dict[str, object]]:
    documents: dict[str, dict[str, object]] = {}
    for model in snapshot.models:
        for name in (model.name, *model.aliases):
            documents[name] = {
                "id": name,
                "object": "model",
                "created": model.created,
                "owned_by": "citadel",
                "root": model.name,
            }
    return documents

"""The public keys of an identity provider, kept through its outages."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

import jwt

from citadel_llm.schema.gateway_access import TokenIssuer
from citadel_llm.telemetry import get_logger

Fetch = Callable[[str], Awaitable[bytes]]
Clock = Callable[[], float]

MAX_BYTES = 256 * 1024
_MAX_KEYS = 64
_MIN_RSA_BITS = 2048
_FAMILIES = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
_log = get_logger("citadel.gateway.tokens")


class JwksError(ValueError):
    """A document that is no usable key set."""


class KeysUnavailable(Exception):  # noqa: N818 (it is the provider's error)
    """The provider's keys are not known, or not recently enough."""


def parse_jwks(data: bytes, algorithms: tuple[str, ...]) -> dict[str, jwt.PyJWK]:
    """Public keys by their kid (an empty one for a key without); others are left out. Raises JwksError."""
    if len(data) > MAX_BYTES:
        raise JwksError(f"the key set has {len(data)} bytes; at most {MAX_BYTES} are accepted")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise JwksError("the key set is not JSON") from None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise JwksError("the key set has no list 'keys'")
    families = {_FAMILIES[algorithm[:2]] for algorithm in algorithms}
    found: dict[str, jwt.PyJWK] = {}
    for entry in entries[:_MAX_KEYS]:
        key = _usable(entry, families)
        if key is not None:
            found[key.key_id or ""] = key
    if not found:
        raise JwksError(f"the key set has no key for {', '.join(algorithms)}")
    return found


def _usable(entry: Any, families: set[str]) -> jwt.PyJWK | None:
    # A symmetric key in a public document would let anybody sign.
    if not isinstance(entry, dict) or entry.get("kty") not in families or entry.get("use", "sig") != "sig":
        return None
    if not isinstance(entry.get("kid", ""), str):
        return None
    public = {name: value for name, value in entry.items() if name != "d"}
    try:
        key = jwt.PyJWK.from_dict(public)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    if entry["kty"] == "RSA" and getattr(key.key, "key_size", 0) < _MIN_RSA_BITS:
        return None
    return key


class ProviderKeys:
    """One provider's keys. They are fetched when they grow old and when a token names an unknown one."""

    def __init__(self, issuer: TokenIssuer, fetch: Fetch, clock: Clock) -> None:
        self.failures = 0
        self.generation = 0
        """Grows with every change of the keys: what was verified with older ones is verified again."""
        self._issuer = issuer
        self._fetch = fetch
        self._clock = clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._document = b""
        self._fetched = -float("inf")
        self._tried = -float("inf")
        self._running: asyncio.Task[None] | None = None

    @property
    def age(self) -> float:
        """Seconds since the keys were last fetched; infinite without any."""
        return self._clock() - self._fetched

    @property
    def usable(self) -> bool:
        """Whether the keys are known and young enough. Old ones are fetched again beside the requests."""
        if not self._keys or self.age > self._issuer.max_age_s:
            return False
        if self.age > self._issuer.refresh_s:
            self._begin()
        return True

    async def find(self, kid: str) -> jwt.PyJWK | None:
        """The key of that kid, or None. Raises KeysUnavailable when no recent keys are known."""
        key = self._keys.get(kid) if self.usable else None
        if key is None:
            await self._refreshed()
            if not self.usable:
                raise KeysUnavailable(self._issuer.name)
            key = self._keys.get(kid)
        # Without a kid there must be no choice.
        if key is None and not kid and len(self._keys) == 1:
            key = next(iter(self._keys.values()))
        return key

    def adopt(self, document: bytes, age_s: float) -> None:
        """Take over keys that were fetched `age_s` ago, by an earlier process. Raises JwksError."""
        self._use(document, self._clock() - age_s)

    async def close(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    def _begin(self) -> None:
        """Start fetching, unless that is going on or was tried a moment ago."""
        due = self._clock() - self._tried >= self._issuer.retry_s
        if self._running is None and due:
            self._tried = self._clock()
            self._running = asyncio.get_running_loop().create_task(self._refresh())

    async def _refreshed(self) -> None:
        """Wait for new keys, when they are due. Who waits together fetches once."""
        self._begin()
        if self._running is not None:
            await asyncio.shield(self._running)

    async def _refresh(self) -> None:
        try:
            async with asyncio.timeout(self._issuer.fetch_timeout_s):
                document = await self._fetch(self._issuer.jwks_url)
            self._use(document, self._clock())
        except Exception as error:
            # Whatever the transport raises, known keys go on serving.
            self.failures += 1
            reason = str(error) or type(error).__name__
            _log.warning("public keys could not be fetched", issuer=self._issuer.name, reason=reason)
        finally:
            self._running = None

    def _use(self, document: bytes, fetched: float) -> None:
        keys = parse_jwks(document, self._issuer.algorithms)
        if document != self._document:
            self._document = document
            self._keys = keys
            self.generation += 1
            _log.info("public keys in use", issuer=self._issuer.name, kids=sorted(keys))
        self._fetched = fetched

    @property
    def document(self) -> bytes:
        """The key set in use, for a later process to adopt."""
        return self._document


async def keep_fresh(providers: list[ProviderKeys], interval_s: float) -> None:
    """Look after the keys for ever, so that no request has to wait for them."""
    while True:
        for provider in providers:
            if not provider.usable:
                with contextlib.suppress(KeysUnavailable):
                    await provider.find("")
        await asyncio.sleep(interval_s)

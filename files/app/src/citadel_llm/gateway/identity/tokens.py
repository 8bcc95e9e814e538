"""Signed tokens (JWT) of identity providers."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jwt
from jwt.types import Options
from pydantic import ValidationError

from citadel_llm.gateway.errors import SERVER_ERROR, ApiError, invalid_key
from citadel_llm.gateway.identity.jwks import Fetch, KeysUnavailable, ProviderKeys
from citadel_llm.gateway.identity.principal import Principal, Rules
from citadel_llm.schema.access import ENDPOINT_NAMES, Access, Limits
from citadel_llm.schema.gateway_access import TokenIssuer

_MAX_TOKEN = 16 * 1024
_MAX_USER = 200
_MAX_VERIFIED = 10_000
_RETRY_AFTER_S = 5
_WRONG = "The token is not acceptable: {}."
# Signature, issuer and audience are the library's; moments are compared with the clock that is given.
_OPTIONS: Options = {
    "require": ["exp", "iss", "aud"],
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
}


class _Verified(NamedTuple):
    provider: ProviderKeys
    generation: int
    not_before: float
    until: float
    principal: Principal


class TokenVerifier:
    """Verifies tokens, and remembers what it verified for as long as the keys stay the same."""

    def __init__(
        self,
        issuers: Sequence[TokenIssuer],
        fetch: Fetch,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.providers = {issuer.issuer: (issuer, ProviderKeys(issuer, fetch, clock)) for issuer in issuers}
        self._wall = wall
        self._verified: dict[bytes, _Verified] = {}
        self._rules: dict[str, Rules] = {}

    def known(self, token: bytes) -> Principal | None:
        """The owner of a token that was verified before and still holds, at the cost of one digest."""
        name = hashlib.sha256(token).digest()
        found = self._verified.get(name)
        if found is None:
            return None
        provider = found.provider
        current = found.generation == provider.generation and provider.usable
        if not current or not found.not_before <= self._wall() < found.until:
            del self._verified[name]
            return None
        return found.principal

    async def verify(self, token: bytes) -> Principal:
        """The owner of a token. Raises ApiError: 401, or 503 while the provider's keys are unknown."""
        if len(token) > _MAX_TOKEN:
            raise invalid_key(_WRONG.format(f"it has more than {_MAX_TOKEN} bytes"))
        try:
            text = token.decode("ascii")
            header = jwt.get_unverified_header(text)
            claimed = jwt.decode(text, options={"verify_signature": False}).get("iss")
        except (jwt.PyJWTError, UnicodeDecodeError, ValueError, RecursionError):
            raise invalid_key(_WRONG.format("it cannot be read")) from None
        issuer, provider = self._provider(claimed)
        claims = await self._decode(text, header, issuer, provider)
        not_before, until = self._lifetime(claims, issuer)
        principal = self._principal(claims, issuer)
        self._remember(token, _Verified(provider, provider.generation, not_before, until, principal))
        return principal

    def _provider(self, claimed: object) -> tuple[TokenIssuer, ProviderKeys]:
        found = self.providers.get(claimed) if isinstance(claimed, str) else None
        if found is None:
            raise invalid_key(_WRONG.format("its issuer is not one that is trusted here"))
        return found

    async def _decode(
        self, text: str, header: Mapping[str, Any], issuer: TokenIssuer, provider: ProviderKeys
    ) -> dict[str, Any]:
        algorithm, kid = header.get("alg"), header.get("kid", "")
        if algorithm not in issuer.algorithms:
            raise invalid_key(_WRONG.format("its signature algorithm is not accepted"))
        if not isinstance(kid, str):
            raise invalid_key(_WRONG.format("its kid is not a string"))
        try:
            key = await provider.find(kid)
        except KeysUnavailable:
            raise unavailable(issuer.name) from None
        if key is None:
            raise invalid_key(_WRONG.format("it was signed with an unknown key"))
        try:
            return jwt.decode(
                text,
                key.key,
                algorithms=[algorithm],
                audience=list(issuer.audiences),
                issuer=issuer.issuer,
                options=_OPTIONS,
            )
        except jwt.InvalidAudienceError:
            raise invalid_key(_WRONG.format("it is for another audience")) from None
        except jwt.MissingRequiredClaimError as error:
            raise invalid_key(_WRONG.format(f"it has no claim {error.claim}")) from None
        except (jwt.PyJWTError, ValueError, TypeError):
            raise invalid_key(_WRONG.format("its signature or its claims are not valid")) from None

    def _lifetime(self, claims: Mapping[str, Any], issuer: TokenIssuer) -> tuple[float, float]:
        """From when until when a token holds, the leeway included. Raises ApiError (401)."""
        now = self._wall()
        until = _moment(claims, "exp") + issuer.leeway_s
        starts = [_moment(claims, name) for name in ("nbf", "iat") if name in claims]
        not_before = max(starts, default=0.0) - issuer.leeway_s
        if until <= now:
            raise invalid_key(_WRONG.format("it has expired"))
        if not_before > now:
            raise invalid_key(_WRONG.format("it is not valid yet"))
        return not_before, until

    def _principal(self, claims: Mapping[str, Any], issuer: TokenIssuer) -> Principal:
        names = issuer.claims
        user = claims.get(names.user)
        if not isinstance(user, str) or not 0 < len(user) <= _MAX_USER:
            raise invalid_key(
                _WRONG.format(f"its claim {names.user} is not a name of 1 to {_MAX_USER} characters")
            )
        access = _access(claims, issuer)
        identity = access.model_dump_json()
        rules = self._rules.get(identity)
        if rules is None:
            if len(self._rules) >= _MAX_VERIFIED:
                self._rules.clear()
            rules = self._rules[identity] = Rules(access)
        name = user.encode("utf-8", "replace").decode()
        return Principal(f"{issuer.name}:{name}", rules, name)

    def _remember(self, token: bytes, verified: _Verified) -> None:
        while len(self._verified) >= _MAX_VERIFIED:
            del self._verified[next(iter(self._verified))]
        self._verified[hashlib.sha256(token).digest()] = verified


def unavailable(name: str) -> ApiError:
    return ApiError(
        503,
        f"The public keys of the identity provider {name!r} cannot be fetched at the moment. "
        "Try again shortly.",
        cause="identity_unavailable",
        type_=SERVER_ERROR,
        code="identity_provider_unavailable",
        headers=((b"retry-after", str(_RETRY_AFTER_S).encode()),),
    )


def _moment(claims: Mapping[str, Any], name: str) -> float:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise invalid_key(_WRONG.format(f"its claim {name} is not a moment"))
    return float(value)


def _access(claims: Mapping[str, Any], issuer: TokenIssuer) -> Access:
    """The issuer's access, with what the token says of models, endpoints and limits."""
    update: dict[str, Any] = {}
    for field, claim in (("models", issuer.claims.models), ("endpoints", issuer.claims.endpoints)):
        if claim in claims:
            update[field] = _words(claims[claim], claim)
    if "endpoints" in update:
        # Endpoints that this gateway does not know cannot be used here anyhow.
        update["endpoints"] = tuple(name for name in update["endpoints"] if name in ENDPOINT_NAMES)
    if issuer.claims.limits in claims:
        update["limits"] = _lowered(issuer.access.limits, claims[issuer.claims.limits], issuer.claims.limits)
    if not update:
        return issuer.access
    try:
        return Access.model_validate({**dict(issuer.access), **update})
    except ValidationError:
        raise invalid_key(_WRONG.format("its claims name models in a way that cannot be read")) from None


def _words(value: object, claim: str) -> tuple[str, ...]:
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise invalid_key(_WRONG.format(f"its claim {claim} is not a list of names"))
    return tuple(words)


def _lowered(own: Limits | None, value: object, claim: str) -> Limits:
    """The lower one of each pair of limits: a token cannot raise what the settings say."""
    try:
        told = Limits.model_validate(value)
    except ValidationError:
        raise invalid_key(_WRONG.format(f"its claim {claim} is not an object of limits")) from None
    fields = {}
    for name in Limits.model_fields:
        values = [limit for limit in (getattr(own, name, None), getattr(told, name)) if limit is not None]
        if values:
            fields[name] = min(values)
    return Limits.model_validate(fields) if fields else told

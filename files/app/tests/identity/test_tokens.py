"""Signed tokens, with keys made for each test and a provider that the test plays."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from citadel_llm.gateway.errors import ApiError
from citadel_llm.gateway.identity.jwks import JwksError, ProviderKeys, parse_jwks
from citadel_llm.gateway.identity.principal import Principal, looks_like_token
from citadel_llm.gateway.identity.tokens import TokenVerifier
from citadel_llm.schema.gateway_access import TokenIssuer

URL = "https://idp.example/jwks"
ISSUER: dict[str, Any] = {
    "name": "idp",
    "issuer": "https://idp.example/",
    "audiences": ["citadel", "other"],
    "jwks_url": URL,
}
ALGORITHMS = ("RS256", "ES256", "EdDSA")


class Signer:
    """A provider's private key."""

    def __init__(self, kid: str = "k1", kind: str = "ec") -> None:
        self.kid = kid
        self.key: Any
        if kind == "ec":
            self.key, self.algorithm, shape = ec.generate_private_key(ec.SECP256R1()), "ES256", "EC"
        elif kind == "ed":
            self.key, self.algorithm, shape = ed25519.Ed25519PrivateKey.generate(), "EdDSA", "OKP"
        else:
            bits = 1024 if kind == "weak" else 2048
            self.key, self.algorithm, shape = rsa.generate_private_key(65537, bits), "RS256", "RSA"
        encode = {
            "EC": jwt.algorithms.ECAlgorithm.to_jwk,
            "OKP": jwt.algorithms.OKPAlgorithm.to_jwk,
            "RSA": jwt.algorithms.RSAAlgorithm.to_jwk,
        }[shape]
        self.public: dict[str, Any] = json.loads(encode(self.key.public_key())) | {"use": "sig"}
        if kid:
            self.public["kid"] = kid

    def token(self, headers: dict[str, Any] | None = None, drop: str = "", **claims: Any) -> bytes:
        given = {"iss": ISSUER["issuer"], "aud": "citadel", "sub": "ann", "exp": 2000.0} | claims
        given = {name: value for name, value in given.items() if name != drop}
        head = headers if headers is not None else ({"kid": self.kid} if self.kid else {})
        return jwt.encode(given, self.key, self.algorithm, headers=head).encode()


class Provider:
    """Answers with the public keys of its signers, or with an error; and both clocks."""

    def __init__(self, *signers: Signer) -> None:
        self.signers = list(signers)
        self.error: Exception | None = None
        self.asked = 0
        self.now = 1000.0
        self.gate: asyncio.Event | None = None

    async def fetch(self, url: str) -> bytes:
        assert url == URL
        self.asked += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return json.dumps({"keys": [signer.public for signer in self.signers]}).encode()

    def clock(self) -> float:
        return self.now

    def verifier(self, **fields: Any) -> TokenVerifier:
        issuer = TokenIssuer.model_validate(ISSUER | fields)
        return TokenVerifier([issuer], self.fetch, clock=self.clock, wall=self.clock)


async def refused(verifier: TokenVerifier, token: bytes, status: int = 401) -> str:
    with pytest.raises(ApiError) as caught:
        await verifier.verify(token)
    assert caught.value.status == status
    assert token.decode(errors="replace") not in caught.value.message or not token
    assert verifier.known(token) is None
    return caught.value.message


@pytest.mark.parametrize("kind", ["ec", "ed", "rsa"])
async def test_a_token_that_is_right_is_accepted_and_remembered(kind: str) -> None:
    signer = Signer(kind=kind)
    provider = Provider(signer)
    verifier = provider.verifier()
    token = signer.token(aud=["x", "other"])
    assert looks_like_token(token)
    assert not looks_like_token(b"sk-citadel-abc")
    assert verifier.known(token) is None
    principal = await verifier.verify(token)
    assert (principal.id, principal.user) == ("idp:ann", "ann")
    assert verifier.known(token) is principal
    assert provider.asked == 1


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"iss": "https://other.example/"}, "issuer is not one that is trusted"),
        ({"aud": "someone"}, "another audience"),
        ({"exp": 969.0}, "expired"),
        ({"exp": "soon"}, "exp"),
        ({"exp": True}, "exp is not a moment|not valid"),
        ({"nbf": 1031.0}, "not valid yet"),
        ({"iat": 1031.0}, "not valid yet"),
        ({"sub": ""}, "sub is not a name"),
        ({"sub": "x" * 201}, "sub is not a name"),
        ({"citadel_models": 5}, "citadel_models is not a list"),
        ({"citadel_models": ["[a"]}, "cannot be read"),
        ({"citadel_limits": {"a": 1}}, "citadel_limits is not an object of limits"),
    ],
)
async def test_claims_that_are_wrong_are_named(claims: dict[str, Any], reason: str) -> None:
    signer = Signer()
    message = await refused(Provider(signer).verifier(), signer.token(**claims))
    assert any(part in message for part in reason.split("|"))


@pytest.mark.parametrize("claim", ["iss", "aud", "exp", "sub"])
async def test_claims_that_are_missing_are_refused(claim: str) -> None:
    signer = Signer()
    await refused(Provider(signer).verifier(), signer.token(drop=claim))


async def test_clocks_may_differ_a_little() -> None:
    signer = Signer()
    provider = Provider(signer)
    verifier = provider.verifier()
    token = signer.token(exp=971.0, nbf=1029.0)
    await verifier.verify(token)
    assert verifier.known(token) is not None
    provider.now = 1001.0
    assert verifier.known(token) is None


def forged(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> bytes:
    parts = [json.dumps(part).encode() for part in (header, claims)]
    return b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in [*parts, signature])


async def test_forgeries_are_refused() -> None:
    signer, stranger = Signer(kind="rsa"), Signer(kind="rsa")
    verifier = Provider(signer).verifier()
    good = signer.token()
    claims = {"iss": ISSUER["issuer"], "aud": "citadel", "sub": "root", "exp": 9e9}
    public = json.dumps(signer.public)
    head, body, signature = good.split(b".")
    fake_body = forged({}, claims).split(b".")[1]
    own_key = jwt.encode(claims, stranger.key, "RS256", headers={"kid": "k1", "jwk": stranger.public})
    by_url = jwt.encode(claims, stranger.key, "RS256", headers={"kid": "k1", "jku": "https://evil.example/"})
    for token in (
        forged({"alg": "none", "kid": "k1"}, claims),
        forged({"alg": "None", "kid": "k1"}, claims),
        jwt.encode(claims, public * 2, "HS256", headers={"kid": "k1"}).encode(),
        head + b"." + fake_body + b"." + signature,
        head + b"." + body + b".",
        head + b"." + body + b"." + signature[:-8],
        stranger.token(),
        own_key.encode(),
        by_url.encode(),
        forged({"alg": ["RS256"], "kid": "k1"}, claims),
        forged({"alg": "RS256", "kid": {"a": 1}}, claims),
        forged({"alg": "RS256", "kid": "k1"}, claims | {"iss": 5}),
        b"eyJ..",
        b"eyJ.a.b",
        b"eyJ\xff.a.b",
        b"eyJ" + b"a" * 20_000 + b".a.b",
    ):
        await refused(verifier, token)


async def test_an_algorithm_that_is_not_allowed_is_refused_though_the_key_is_known() -> None:
    signer = Signer(kind="rsa")
    verifier = Provider(signer, Signer("k2")).verifier(algorithms=["ES256"])
    assert "algorithm is not accepted" in await refused(verifier, signer.token())


@pytest.mark.parametrize(
    ("claims", "check"),
    [
        ({}, lambda p: p.rules.allows_model("own-1") and not p.rules.allows_model("x")),
        (
            {"citadel_models": "a b*"},
            lambda p: p.rules.allows_model("bc") and not p.rules.allows_model("own-1"),
        ),
        ({"citadel_models": []}, lambda p: not p.rules.allows_model("own-1")),
        (
            {"citadel_endpoints": ["models", "new_one"]},
            lambda p: p.rules.allows_endpoint("models") and not p.rules.allows_endpoint("messages"),
        ),
        ({"citadel_limits": {"requests_per_minute": 5}}, lambda p: p.rules.limits.requests_per_minute == 5),
        ({"citadel_limits": {"requests_per_minute": 99}}, lambda p: p.rules.limits.requests_per_minute == 10),
        ({"citadel_limits": {"tokens_per_day": 7}}, lambda p: p.rules.limits.requests_per_minute == 10),
    ],
)
async def test_claims_say_what_the_owner_may_do(
    claims: dict[str, Any], check: Callable[[Principal], bool]
) -> None:
    signer = Signer()
    access = {"models": ["own-*"], "limits": {"requests_per_minute": 10}}
    assert check(await Provider(signer).verifier(access=access).verify(signer.token(**claims)))


async def test_a_new_key_of_the_provider_is_fetched_when_a_token_names_it() -> None:
    old, new = Signer("k1"), Signer("k2")
    provider = Provider(old)
    verifier = provider.verifier()
    await verifier.verify(old.token())
    provider.signers = [new]
    # Not at once: strangers could make the gateway ask all the time.
    assert "unknown key" in await refused(verifier, new.token())
    assert provider.asked == 1
    provider.now += 10
    assert (await verifier.verify(new.token())).id == "idp:ann"
    assert provider.asked == 2
    for _ in range(5):
        await refused(verifier, Signer("k9").token())
    assert provider.asked == 2
    # What an earlier key signed holds no longer.
    assert verifier.known(old.token()) is None
    await refused(verifier, old.token())


async def test_a_token_that_was_accepted_ends_with_its_key() -> None:
    old = Signer("k1")
    provider = Provider(old)
    verifier = provider.verifier()
    token = old.token()
    await verifier.verify(token)
    provider.signers = [Signer("k2")]
    provider.now += 301
    assert verifier.known(token) is not None  # it is answered with what is known, and the keys are fetched
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert verifier.known(token) is None


async def test_an_outage_of_the_provider_is_survived_for_a_time() -> None:
    signer = Signer()
    provider = Provider(signer)
    verifier = provider.verifier(max_age_s=1000)
    token = signer.token(exp=9e9)
    await verifier.verify(token)
    provider.error = OSError("no route")
    for _ in range(9):
        provider.now += 100
        await asyncio.sleep(0)
        assert verifier.known(token) is not None
        assert (await verifier.verify(token)).user == "ann"
    provider.now += 200
    assert verifier.known(token) is None
    assert "cannot be fetched" in await refused(verifier, token, 503)
    provider.error = None
    provider.now += 10
    assert (await verifier.verify(token)).user == "ann"


async def test_without_keys_it_is_the_providers_fault_and_not_the_tokens() -> None:
    signer = Signer()
    provider = Provider(signer)
    provider.error = RuntimeError("anything")
    verifier = provider.verifier()
    await refused(verifier, signer.token(), 503)
    await refused(verifier, signer.token(), 503)
    assert provider.asked == 1


async def test_who_waits_together_asks_once() -> None:
    signer = Signer()
    provider = Provider(signer)
    provider.gate = asyncio.Event()
    verifier = provider.verifier()
    waiting = [asyncio.create_task(verifier.verify(signer.token(sub=f"u{n}"))) for n in range(20)]
    await asyncio.sleep(0)
    provider.gate.set()
    assert {(await task).id for task in waiting} == {f"idp:u{n}" for n in range(20)}
    assert provider.asked == 1


async def test_the_only_key_needs_no_name_and_one_of_two_does() -> None:
    one = Signer("")
    assert (await Provider(one).verifier().verify(one.token())).user == "ann"
    named = Signer("k1")
    assert (await Provider(named).verifier().verify(named.token(headers={}))).user == "ann"
    await refused(Provider(named, Signer("k2")).verifier(), named.token(headers={}))


async def test_keys_of_an_earlier_process_are_adopted_with_their_age() -> None:
    signer = Signer()
    provider = Provider(signer)
    provider.error = OSError("away")
    issuer = TokenIssuer.model_validate(ISSUER | {"max_age_s": 100})
    document = json.dumps({"keys": [signer.public]}).encode()
    for age, usable in ((99, True), (101, False)):
        keys = ProviderKeys(issuer, provider.fetch, provider.clock)
        keys.adopt(document, age)
        assert keys.usable is usable
        assert keys.document == document
        await keys.close()


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": []}',
        b'{"keys": [1, {}, {"kty": "EC"}]}',
        b" " * 300_000,
    ],
)
def test_a_document_without_usable_keys_is_refused(document: bytes) -> None:
    with pytest.raises(JwksError):
        parse_jwks(document, ALGORITHMS)


def test_keys_that_prove_nothing_are_left_out() -> None:
    good = Signer("good")
    shared = {"kty": "oct", "kid": "oct", "k": base64.urlsafe_b64encode(b"x" * 32).decode()}
    encryption = Signer("enc").public | {"use": "enc"}
    weak = Signer("weak", kind="weak").public
    document = json.dumps({"keys": [shared, encryption, weak, good.public]}).encode()
    assert list(parse_jwks(document, ALGORITHMS)) == ["good"]
    assert list(parse_jwks(document, ("ES256",))) == ["good"]
    with pytest.raises(JwksError, match="no key for RS256"):
        parse_jwks(document, ("RS256",))


@pytest.mark.parametrize("url", ["http://idp.example/", "ftp://x/", "https://", "https://u:p@idp.example/"])
def test_keys_are_fetched_safely(url: str) -> None:
    with pytest.raises(ValueError, match="must"):
        TokenIssuer.model_validate(ISSUER | {"jwks_url": url})

"""Settings of the gateway that concern who may ask, how much, and what is kept of it."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from citadel_llm.schema.access import Access

_MIB = 1024 * 1024

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
IssuerName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ClaimNames(_Section):
    """Where a token tells what its owner may do. A claim that a token lacks leaves the issuer's setting."""

    user: str = Field(default="sub", min_length=1, description="Claim with the user's name.")
    models: str = Field(
        default="citadel_models",
        min_length=1,
        description="Claim with model names, a list or words in one string; * and ? match.",
    )
    endpoints: str = Field(
        default="citadel_endpoints", min_length=1, description="Claim with endpoint names, in the same form."
    )
    limits: str = Field(
        default="citadel_limits",
        min_length=1,
        description="Claim with an object of limits; each one can only lower the issuer's.",
    )


class TokenIssuer(_Section):
    """An identity provider whose signed tokens (JWT) are accepted beside API keys."""

    name: IssuerName = Field(description="Short name for logs and metrics.")
    issuer: str = Field(min_length=1, max_length=500, description="The exact value of the claim iss.")
    audiences: tuple[str, ...] = Field(min_length=1, description="Accepted values of the claim aud.")
    jwks_url: str = Field(description="Address of the provider's public keys (JWKS), https://…")
    algorithms: tuple[Algorithm, ...] = Field(
        default=("RS256", "ES256", "EdDSA"), min_length=1, description="Accepted signature algorithms."
    )
    leeway_s: float = Field(
        default=30.0, ge=0, le=300, description="Tolerated difference between the two clocks."
    )
    refresh_s: float = Field(
        default=300.0, ge=10, le=86_400, description="Age at which the public keys are fetched again."
    )
    retry_s: float = Field(
        default=10.0, ge=1, le=3_600, description="Least time between two attempts to fetch them."
    )
    max_age_s: float = Field(
        default=86_400.0,
        ge=60,
        le=30 * 86_400,
        description="How long known public keys are trusted while the provider cannot be reached.",
    )
    fetch_timeout_s: float = Field(default=3.0, gt=0, le=30, description="Longest wait for the public keys.")
    claims: ClaimNames = Field(default=ClaimNames(), description="Names of the claims that are read.")
    access: Access = Field(default=Access(), description="What its users may do, each of them on their own.")

    @field_validator("jwks_url")
    @classmethod
    def _safe(cls, value: str) -> str:
        parts = urlsplit(value)
        local = parts.hostname in ("127.0.0.1", "::1", "localhost")
        if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and local)):
            raise ValueError(f"must be https://HOST/…, or http:// on loopback, not {value!r}")
        if parts.username or parts.password:
            raise ValueError("must not contain credentials")
        return value


class LimitSettings(_Section):
    """How limits are counted. The limits themselves belong to keys, issuers and models."""

    store_url: str | None = Field(
        default=None,
        description="Valkey or Redis that several gateways count in together: redis://HOST:PORT/DB, "
        "rediss:// with TLS, or unix:///PATH. Its password comes as the credential limits_store_password.",
    )
    store_username: str | None = Field(default=None, description="User of the store, when it has users.")
    store_timeout_s: float = Field(
        default=0.1,
        gt=0,
        le=5,
        description="Longest wait for the store; then this gateway's own counts hold.",
    )
    store_retry_s: float = Field(
        default=1.0, gt=0, le=300, description="How long a store that failed is left alone."
    )
    lease_s: float = Field(
        default=60.0,
        ge=3,
        le=3_600,
        description="How long the store keeps a running request's place after the last sign of its gateway.",
    )
    bytes_per_token: float = Field(
        default=4.0,
        ge=1,
        le=100,
        description="Bytes of a request's body that count as one token until the engine tells the number.",
    )
    image_tokens: int = Field(
        default=1000, ge=0, le=1_000_000, description="What an embedded image or sound counts as until then."
    )
    max_subjects: int = Field(
        default=50_000,
        ge=100,
        le=10_000_000,
        description="Subjects whose counts are kept; the one unused for longest goes first.",
    )
    save_s: float = Field(
        default=5.0, ge=0.1, le=3_600, description="How often the counts of day and month are saved."
    )

    @field_validator("store_url")
    @classmethod
    def _without_password(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("redis", "rediss", "unix"):
            raise ValueError("must be redis://HOST:PORT/DB, rediss://HOST:PORT/DB or unix:///PATH")
        if parts.username or parts.password:
            raise ValueError(
                "must not contain credentials; the password is the credential limits_store_password"
            )
        return value


class UsageSettings(_Section):
    """What is kept of each request for accounting: who used how many tokens of what."""

    spool: bool = Field(default=True, description="Write usage events below state_dir, when that is given.")
    segment_bytes: int = Field(
        default=8 * _MIB, ge=4096, le=1024 * _MIB, description="Size at which a file of events is closed."
    )
    segment_age_s: float = Field(
        default=300.0, ge=1, le=86_400, description="Age at which a file of events is closed."
    )
    max_bytes: int = Field(
        default=256 * _MIB,
        ge=8192,
        le=1024 * 1024 * _MIB,
        description="Size of all files; beyond it the oldest is removed and its events count as dropped.",
    )
    sync_s: float = Field(
        default=1.0, ge=0.01, le=60, description="How often events are written and synchronised to the disk."
    )
    max_waiting: int = Field(
        default=20_000, ge=100, le=10_000_000, description="Events that may wait for a slow disk."
    )

    @model_validator(mode="after")
    def _room(self) -> UsageSettings:
        if self.max_bytes < 2 * self.segment_bytes:
            raise ValueError("max_bytes must be at least twice segment_bytes")
        return self


class TraceSettings(_Section):
    """Traces. The header traceparent is always accepted or made, and passed on to engines."""

    otlp_endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://",
        description="Where a span of each traced request is sent by OTLP over HTTP (JSON), …/v1/traces.",
    )
    sample: float = Field(
        default=1.0, ge=0, le=1, description="Share of the requests without a traceparent that is traced."
    )

"""Settings of the gateway: the section ``api_gateway`` of the configuration."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from citadel_llm.schema import gateway_access as access
from citadel_llm.schema import resilience

_MIB = 1024 * 1024


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Timeouts(_Section):
    """Limits on waiting, in seconds. Each one has its own error code and its own cause in the metrics."""

    connect_s: float = Field(
        default=2.0, gt=0, le=60, description="Longest wait for a connection to a back end."
    )
    first_byte_s: float = Field(
        default=600.0,
        gt=0,
        le=86_400,
        description="Longest wait for a back end's first byte. A request that does not stream gets its first "
        "byte when the whole answer has been generated.",
    )
    idle_s: float = Field(
        default=120.0,
        gt=0,
        le=86_400,
        description="Longest silence of a back end between two parts of an answer.",
    )
    head_s: float = Field(
        default=15.0, gt=0, le=3_600, description="Longest wait for the headers of a client's request."
    )
    body_s: float = Field(
        default=60.0, gt=0, le=3_600, description="Longest wait for the whole body of a client's request."
    )
    send_s: float = Field(
        default=120.0,
        gt=0,
        le=86_400,
        description="Longest time that a client may take nothing of an answer that waits for it.",
    )


class BackendPolicy(_Section):
    """Connections to back ends, and what happens when one fails."""

    keepalive_s: float = Field(
        default=4.0,
        gt=0,
        le=600,
        description="How long an idle connection to a back end is kept. It must be shorter than the engine's "
        "own time (vLLM: 5 s), or requests meet connections that the engine has just closed.",
    )
    probe_timeout_s: float = Field(
        default=2.0,
        gt=0,
        le=60,
        description="Longest wait for a back end's health when readiness is asked for.",
    )
    retry_after_s: int = Field(
        default=2,
        ge=1,
        le=600,
        description="What clients are told in Retry-After when no back end can serve.",
    )


class GatewaySettings(_Section):
    """Everything the gateway needs to know besides the routing snapshot.

    Addresses, ports and paths have no defaults: they are defined once, in the rendered configuration.
    """

    host: str = Field(min_length=1, description="Address of the API's listener.")
    port: int = Field(ge=1, le=65535, description="Port of the API's listener.")
    internal_host: str = Field(min_length=1, description="Address of the internal listener.")
    internal_port: int = Field(
        ge=1, le=65535, description="Port of the internal listener: /live, /ready, /metrics."
    )
    snapshot_path: Path = Field(description="The routing snapshot, an absolute path.")
    drain_timeout_s: float = Field(
        default=60.0,
        ge=0,
        le=3_600,
        description="Longest time that requests in flight are given after SIGTERM.",
    )
    drain_idle_s: float = Field(
        default=1.0,
        ge=0,
        le=60,
        description="How long idle connections stay open after SIGTERM, for requests already on their way.",
    )
    snapshot_poll_s: float = Field(
        default=1.0, gt=0, le=60, description="How often the snapshot's file is looked at for a change."
    )
    max_body_bytes: int = Field(
        default=32 * _MIB,
        ge=1024,
        le=1024 * _MIB,
        description="Largest body of a request; larger ones get 413.",
    )
    max_header_bytes: int = Field(
        default=32 * 1024, ge=1024, le=_MIB, description="Largest headers of a request; larger ones get 431."
    )
    max_headers: int = Field(
        default=100, ge=10, le=1_000, description="Most headers of a request; more of them get 431."
    )
    max_connections: int = Field(
        default=16_384, ge=1, le=1_000_000, description="Most open connections of clients; others get 503."
    )
    max_connections_per_address: int = Field(
        default=1_024,
        ge=1,
        le=1_000_000,
        description="Most open connections of one client's address. The edge on the same host is not "
        "counted; it has limits of its own.",
    )
    keepalive_s: float = Field(
        default=75.0,
        gt=0,
        le=3_600,
        description="How long an idle client connection is kept. It must be longer than the edge's own time.",
    )
    backlog: int = Field(
        default=2048, ge=1, le=65_535, description="Connections that the kernel queues before accept."
    )
    access_log: bool = Field(
        default=True, description="Write one JSON line for each request, without content."
    )
    key_series: int = Field(
        default=100,
        ge=0,
        le=5_000,
        description="Most pairs of key and model that metrics tell apart, the most used ones; the others are "
        "counted together. 0: nothing is counted by key.",
    )
    timeouts: Timeouts = Field(default=Timeouts(), description="Limits on waiting.")
    backends: BackendPolicy = Field(
        default=BackendPolicy(), description="How the gateway deals with its back ends."
    )
    breaker: resilience.Breaker = Field(
        default=resilience.Breaker(), description="When a back end is passed over because requests fail."
    )
    retries: resilience.Retries = Field(
        default=resilience.Retries(), description="Sending a request again before its first byte."
    )
    probes: resilience.Probes = Field(
        default=resilience.Probes(), description="Asking back ends whether they work."
    )
    stall: resilience.Stall = Field(
        default=resilience.Stall(), description="Noticing an engine that hangs although its /health is fine."
    )
    slow_start: resilience.SlowStart = Field(
        default=resilience.SlowStart(), description="How a back end that returns gets its share again."
    )
    prefix_affinity: resilience.PrefixAffinity = Field(
        default=resilience.PrefixAffinity(), description="What the policy `prefix` remembers."
    )
    mirroring: resilience.Mirroring = Field(
        default=resilience.Mirroring(), description="Limits on copies of requests for shadow arms."
    )

    state_dir: Path | None = Field(
        default=None,
        description="Directory of what outlives a restart: counts of limits, public keys of issuers, usage "
        "events. Without it, none of them does.",
    )
    docs: bool = Field(default=True, description="Serve /docs and /openapi.json, to anybody.")
    max_json_depth: int = Field(
        default=64, ge=4, le=500, description="Deepest nesting of a request's JSON; deeper ones get 400."
    )
    issuers: tuple[access.TokenIssuer, ...] = Field(
        default=(), description="Identity providers whose signed tokens are accepted beside API keys."
    )
    limits: access.LimitSettings = Field(
        default=access.LimitSettings(), description="How limits are counted."
    )
    usage: access.UsageSettings = Field(
        default=access.UsageSettings(), description="What is kept for accounting."
    )
    traces: access.TraceSettings = Field(default=access.TraceSettings(), description="Traces of requests.")

    @field_validator("snapshot_path", "state_dir")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_absolute():
            raise ValueError(f"must be an absolute path, not {str(value)!r}")
        return value

    @model_validator(mode="after")
    def _different_issuers(self) -> GatewaySettings:
        for what, values in (
            ("name", [issuer.name for issuer in self.issuers]),
            ("issuer", [issuer.issuer for issuer in self.issuers]),
        ):
            if len(set(values)) < len(values):
                raise ValueError(f"two issuers have the same {what}; each needs its own")
        return self

    @model_validator(mode="after")
    def _two_listeners(self) -> GatewaySettings:
        if (self.host, self.port) == (self.internal_host, self.internal_port):
            raise ValueError(f"port and internal_port are both {self.port} on {self.host}; choose two ports")
        return self

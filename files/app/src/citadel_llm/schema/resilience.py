"""Settings of the gateway about back ends that fail, hang, return or have too much to do."""

from __future__ import annotations

from pydantic import Field, model_validator

from citadel_llm.schema.parts import Part

_MIB = 1024 * 1024


class Breaker(Part):
    """When a back end is passed over because requests to it fail, and for how long."""

    consecutive: int = Field(default=5, ge=1, le=1000, description="Failures in a row that open it.")
    ratio: float = Field(
        default=0.5, gt=0, le=1, description="Share of failed requests within the window that opens it."
    )
    min_requests: int = Field(
        default=20, ge=1, le=100_000, description="Fewest requests in the window for the share to count."
    )
    window_s: float = Field(default=10.0, gt=0, le=3_600, description="Length of the window, in seconds.")
    open_s: float = Field(
        default=1.0,
        ge=0,
        le=3_600,
        description="How long a back end is passed over at first; then one request tries it. A refused "
        "connection opens the breaker at once. While no other back end can serve, it is asked all the same.",
    )
    open_max_s: float = Field(
        default=30.0,
        ge=0,
        le=3_600,
        description="Each trial that fails doubles the time, up to this.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Breaker:
        if self.open_max_s < self.open_s:
            raise ValueError(f"open_max_s is {self.open_max_s:g}, less than open_s ({self.open_s:g})")
        return self


class Retries(Part):
    """Sending a request again after an attempt failed, only before the first byte has reached the client."""

    per_request: int = Field(
        default=2,
        ge=0,
        le=10,
        description="How often one request may be sent again after an engine had it. Back ends that refused "
        "the connection never had it and do not count.",
    )
    share: float = Field(
        default=0.5,
        ge=0,
        le=10,
        description="Budget of a model: retries within the window, as a share of the requests that began in "
        "it or are in flight. One half makes good the death of one of two engines.",
    )
    min_per_s: float = Field(
        default=10.0, ge=0, le=100_000, description="Retries per second that the budget always allows."
    )
    window_s: float = Field(default=10.0, gt=0, le=600, description="Length of the window, in seconds.")


class Probes(Part):
    """Asking back ends whether they work, without waiting for requests to fail."""

    enabled: bool = Field(
        default=True,
        description="Probe back ends. Without it a hung engine is not noticed, and least_load knows only the "
        "gateway's own requests.",
    )
    interval_s: float = Field(
        default=2.0, gt=0, le=600, description="Time between two probes of a back end's /health and /metrics."
    )
    timeout_s: float = Field(default=2.0, gt=0, le=60, description="Longest wait for these answers.")
    unhealthy_after: int = Field(
        default=2, ge=1, le=100, description="Failed probes of /health in a row that take a back end out."
    )
    real_every: int = Field(
        default=15,
        ge=0,
        le=100_000,
        description="Every so many probes a real one-token request is made, unless clients' requests proved "
        "the same meanwhile. 0: only to bring a hung engine back.",
    )
    real_timeout_s: float = Field(
        default=10.0,
        gt=0,
        le=600,
        description="Longest wait for the one-token request, when the engine sends nothing to anybody else "
        "either.",
    )
    concurrency: int = Field(default=32, ge=1, le=1000, description="Most probes at a time.")


class Stall(Part):
    """Noticing an engine that has requests and sends nothing, although its /health is fine."""

    after_s: float = Field(
        default=30.0,
        gt=0,
        le=86_400,
        description="Silence of all requests in flight after which a back end is passed over and asked for "
        "one token. If that fails it is taken out: requests that wait for its first byte move to another "
        "one, and answers that have begun end with an error.",
    )


class SlowStart(Part):
    """A back end that returns gets its share of requests little by little."""

    duration_s: float = Field(
        default=10.0, ge=0, le=3_600, description="How long it takes to the full share; 0 gives it at once."
    )
    initial: float = Field(default=0.1, gt=0, le=1, description="The share at first, of the full one.")


class PrefixAffinity(Part):
    """What the policy `prefix` remembers of prompts: hashes, no text."""

    block_bytes: int = Field(
        default=512, ge=16, le=65_536, description="Prompts are compared in blocks of so many bytes."
    )
    max_blocks: int = Field(
        default=128, ge=1, le=4096, description="Most blocks of one prompt that are looked at."
    )
    max_entries: int = Field(
        default=262_144, ge=1024, le=16_777_216, description="Most blocks remembered, of all models together."
    )
    max_bytes: int = Field(
        default=64 * _MIB,
        ge=_MIB,
        le=16_384 * _MIB,
        description="Most memory for them; the smaller of the two limits counts.",
    )
    load_factor: float = Field(
        default=1.25,
        ge=1,
        le=100,
        description="A back end that knows the prefix is used while it has at most so many times the average "
        "number of requests.",
    )


class Mirroring(Part):
    """Copies of requests for shadow arms."""

    max_in_flight: int = Field(
        default=64, ge=1, le=100_000, description="Most copies at a time; further ones are left out."
    )
    timeout_s: float = Field(default=300.0, gt=0, le=86_400, description="Longest time of one copy.")

"""Models in the routing snapshot: which engines serve them, and how requests are spread over these."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from citadel_llm.schema.access import Limits, RequestLimits
from citadel_llm.schema.parts import Name, Part, Task, refuse_duplicates

Policy = Literal["round_robin", "least_load", "power_of_two", "session", "prefix"]
Source = Annotated[str, Field(pattern=r"^(key|user|header:[a-z0-9][a-z0-9-]{0,63})$")]
Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
"""A name that is also the value of a header and of a metric's label."""
Weight = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]


class Backend(Part):
    """One engine that serves a model."""

    name: Name = Field(description="Name of the back end, unique within its model; the deployment's name.")
    url: str = Field(description="Address of the engine, http://HOST:PORT without a path.")
    model: Name = Field(description="Name under which this engine serves the model.")
    engine: str | None = Field(
        default=None,
        max_length=64,
        pattern=r"^\d+(\.\d+)*[A-Za-z0-9.+-]*$",
        description="Version of the engine; endpoints that it lacks are not offered. All of them when it is "
        "not known.",
    )
    weight: Weight = Field(
        default=1.0,
        description="Its share of requests, against the other back ends. 0 sends it no new requests.",
    )
    max_in_flight: int = Field(
        default=1024,
        ge=1,
        le=1_000_000,
        description="Most requests at once; more wait in the model's queue. Fairness between keys begins "
        "where this limit is reached, so set it to what the engine computes at once (vLLM: max-num-seqs) and "
        "a little more.",
    )

    @field_validator("url")
    @classmethod
    def _origin(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"must be http://HOST:PORT, not {value!r}")
        if parts.username or parts.password:
            raise ValueError("must not contain credentials")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError(f"must have no path, query or fragment, but is {value!r}")
        try:
            port = parts.port
        except ValueError as error:
            raise ValueError(f"has a port that is not one: {value!r}") from error
        if port == 0:
            raise ValueError(f"has port 0: {value!r}")
        return value.rstrip("/")


class Arm(Part):
    """Some of a model's back ends that get a share of its requests, or copies of a share."""

    name: Label = Field(description="Name of the arm; answers carry it in x-citadel-arm.")
    backends: tuple[Name, ...] = Field(min_length=1, description="Names of its back ends.")
    weight: Weight = Field(default=1.0, description="Its share of requests, against the other arms.")
    mirror: float = Field(
        default=0.0,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Above 0 the arm is a shadow: it gets copies of this share of the requests, its answers "
        "are thrown away, and its weight says nothing.",
    )

    @property
    def shadow(self) -> bool:
        """Whether it gets copies only."""
        return self.mirror > 0


class Queue(Part):
    """Where requests wait while every back end of a model has as many as it may have."""

    size: int = Field(
        default=1024, ge=0, le=1_000_000, description="Most requests that wait; 0 refuses at once."
    )
    deadline_s: float = Field(
        default=30.0,
        gt=0,
        le=86_400,
        description="Longest wait for a back end, in seconds. Later the request is refused.",
    )
    pause_s: float = Field(
        default=300.0,
        gt=0,
        le=86_400,
        description="Longest wait while the model is paused, in seconds.",
    )


class Routing(Part):
    """How requests for a model are spread. What an operator sets for a model, too."""

    policy: Policy = Field(
        default="prefix",
        description="How a back end is chosen. round_robin: in turn. least_load: the one with the least to "
        "do, by the gateway's own count and the engine's queue and cache. power_of_two: the better of two at "
        "random. session: the same one for the same session. prefix: the one that has seen the beginning of "
        "the prompt, unless it has too much to do.",
    )
    sticky: tuple[Source, ...] = Field(
        default=("key",),
        min_length=1,
        description="What keeps a client on one arm: the first of these that the request has. key: its API "
        "key, user: the body's user, header:NAME: a header.",
    )
    session: tuple[Source, ...] = Field(
        default=("header:x-session-id", "user", "key"),
        min_length=1,
        description="What names a session for the policy `session`: the first of these that the request has.",
    )
    fallback: tuple[Name, ...] = Field(
        default=(),
        max_length=8,
        description="Models that serve instead, in this order, when no back end of this one can. Answers "
        "tell it in x-citadel-fallback.",
    )
    queue: Queue = Field(default=Queue(), description="Where requests wait for a back end.")
    paused: bool = Field(
        default=False, description="Hold requests in the queue, for example while the model is swapped."
    )
    limits: Limits | None = Field(default=None, description="Limits on all requests for it together.")
    request_limits: RequestLimits | None = Field(default=None, description="What one request may ask for.")


class Model(Routing):
    """A model that clients can ask for."""

    name: Name = Field(description="Name that clients ask for.")
    aliases: tuple[Name, ...] = Field(default=(), description="Further names for the same model.")
    task: Task = Field(
        default="generate", description="What the model does; it decides which endpoints serve it."
    )
    created: int = Field(
        default=0, ge=0, description="When the model was first offered, in seconds since 1970."
    )
    backends: tuple[Backend, ...] = Field(min_length=1, description="Engines that serve it.")
    arms: tuple[Arm, ...] = Field(
        default=(),
        description="Groups of back ends, for trying one deployment beside another. None: one arm.",
    )

    @model_validator(mode="after")
    def _unique(self) -> Model:
        refuse_duplicates("back end", [backend.name for backend in self.backends])
        check_arms(self.arms, [backend.name for backend in self.backends])
        if self.name in self.fallback:
            raise ValueError(f"fallback of {self.name!r} names the model itself")
        refuse_duplicates("fallback", self.fallback)
        return self


def check_arms(arms: tuple[Arm, ...], backends: list[str]) -> None:
    """Raise ValueError unless every back end is in one arm and one arm at least gets requests."""
    if not arms:
        return
    refuse_duplicates("arm", [arm.name for arm in arms])
    placed = [name for arm in arms for name in arm.backends]
    refuse_duplicates("in arms, back end", placed)
    unknown = sorted(set(placed) - set(backends))
    if unknown:
        raise ValueError(f"arms name the back end {unknown[0]!r}; there is {', '.join(backends)}")
    homeless = [name for name in backends if name not in placed]
    if homeless:
        raise ValueError(f"back end {homeless[0]!r} is in no arm; give it one, or weight 0 to rest it")
    if not any(arm.weight > 0 and not arm.shadow for arm in arms):
        raise ValueError("no arm gets requests: give one of them a weight above 0 and no mirror")


def check_fallbacks(models: tuple[Model, ...]) -> None:
    """Raise ValueError unless every fallback is a model of the same task."""
    by_name = {name: model for model in models for name in (model.name, *model.aliases)}
    for model in models:
        for name in model.fallback:
            other = by_name.get(name)
            if other is None:
                raise ValueError(f"fallback of {model.name!r}: there is no model {name!r}")
            if other is model:
                raise ValueError(f"fallback of {model.name!r}: {name!r} is the model itself")
            if other.task != model.task:
                raise ValueError(
                    f"fallback of {model.name!r}: the task of {name!r} is {other.task!r}, not {model.task!r}"
                )

"""The routing of a model as an operator sets it: the section ``ai_models.routing``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import Field

from citadel_llm.schema.parts import Name, Part
from citadel_llm.schema.routes import Arm, Backend, Routing, Weight, check_arms

Location = tuple[str | int, ...]


class BackendRouting(Part):
    """What a deployment may be given."""

    weight: Weight = Field(
        default=Backend.model_fields["weight"].default,
        description=Backend.model_fields["weight"].description,
    )
    max_in_flight: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Most requests at once; more wait in the model's queue. Without it a quarter more than "
        "the engine computes at once, where its max-num-seqs is known, else 1024.",
    )


class ModelRouting(Routing):
    """How requests for one model are spread over its deployments."""

    arms: tuple[Arm, ...] = Field(
        default=(),
        description="Groups of deployments, for trying one beside another; `backends` are names of "
        "deployments.",
    )
    backends: dict[Name, BackendRouting] = Field(
        default_factory=dict, description="Weight and limit of single deployments, by their names."
    )


def routing_problems(
    routing: Mapping[str, ModelRouting], deployments: Mapping[str, list[str]], names: set[str]
) -> Iterator[tuple[Location, str]]:
    """What does not fit, with its place below ``routing``.

    `deployments` are the names of each model's deployments, `names` all models and aliases.
    """
    for model, found in routing.items():
        own = deployments.get(model)
        if own is None:
            there = ", ".join(sorted(deployments)) or "none"
            yield (model,), f"no deployment serves a model of this name. There is: {there}"
            continue
        for name in found.backends:
            if name not in own:
                yield (
                    (model, "backends", name),
                    f"is no deployment of this model. There is: {', '.join(own)}",
                )
        for position, name in enumerate(found.fallback):
            if name not in names or name == model:
                yield (
                    (model, "fallback", position),
                    f"{name} is no other model. There is: {', '.join(sorted(names - {model}))}",
                )
        try:
            check_arms(found.arms, own)
        except ValueError as error:
            yield (model, "arms"), str(error)

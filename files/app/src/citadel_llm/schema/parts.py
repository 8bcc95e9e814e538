"""What the parts of the routing snapshot are made of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]*$")]
Task = Literal["generate", "embed", "score"]


class Part(BaseModel):
    """A part of the snapshot: immutable."""

    # Unknown fields are refused: a gateway that ignored a limit it does not know would not enforce it.
    model_config = ConfigDict(extra="forbid", frozen=True)


def refuse_duplicates(what: str, names: Iterable[str]) -> None:
    """Raise ValueError with the first name that appears twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{what} {name!r} appears twice")
        seen.add(name)

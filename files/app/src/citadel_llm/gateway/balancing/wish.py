"""What a request would like of the back end that serves it."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass

from citadel_llm.gateway.balancing.backend import BackendState

_NONE: frozenset[BackendState] = frozenset()


@dataclass(slots=True)
class Wish:
    """One request as the choice of a back end sees it.

    `sticky` and `session` are values of what the model's settings name, None when the request has none of it.
    `blocks` are hashes of its prompt's beginning, see `prefixes.blocks_of`; only the policy `prefix` reads
    them.
    """

    sticky: str | None = None
    session: str | None = None
    blocks: tuple[int, ...] = ()
    arm: str | None = None
    """Name of the arm it has been given; None before that."""
    avoid: Set[BackendState] = _NONE
    """Back ends that this request has tried in vain."""
    abandon: Callable[[], None] | None = None
    """Called when its back end is found to hang."""

    def leave(self, backend: BackendState) -> None:
        """It has tried this back end in vain."""
        self.avoid = self.avoid | {backend}

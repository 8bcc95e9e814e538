"""Which version of the engine an environment has."""

from __future__ import annotations

from pathlib import Path

_METADATA = "lib/python3*/site-packages/vllm-*.dist-info"


def engine_version(environment: Path) -> str | None:
    """The version of vLLM in a Python environment; None when there is none, or not one alone."""
    found = {
        path.name.removeprefix("vllm-").removesuffix(".dist-info") for path in environment.glob(_METADATA)
    }
    return found.pop() if len(found) == 1 else None

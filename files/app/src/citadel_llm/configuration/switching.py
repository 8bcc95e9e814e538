"""Changing the active environment."""

from __future__ import annotations

from pathlib import Path

from citadel_llm.configuration import layers, loader
from citadel_llm.configuration.files import write_atomic
from citadel_llm.schema.settings import Settings


def use(directory: Path, environment: str) -> tuple[str | None, Settings]:
    """Make an environment the active one, if its settings are valid.

    Returns the environment that was named before (None when there was none) and the new settings. Raises
    ConfigurationError when the new settings are invalid, and OSError when the file cannot be written; either
    way nothing has changed.
    """
    settings = loader.load(directory, environment)
    path = directory / layers.ACTIVE_FILE
    before = path.read_text(encoding="utf-8").strip() if path.exists() else None
    if before != environment:
        write_atomic(path, f"{environment}\n".encode())
    return before, settings

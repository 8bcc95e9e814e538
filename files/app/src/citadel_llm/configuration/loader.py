"""Reading the configuration as validated settings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from citadel_llm.configuration import layers, problems
from citadel_llm.configuration.problems import ConfigurationError, Problem
from citadel_llm.configuration.tree import (
    Location,
    Node,
    Origin,
    SourceError,
    find,
    origin_of,
    parse_file,
    plain,
)
from citadel_llm.schema.settings import Settings

DEFAULT = Origin("default")


@dataclass(frozen=True, slots=True)
class Leaf:
    """One value with the place it came from. Lists of scalars are one leaf; secrets are redacted."""

    location: Location
    value: Any
    origin: Origin


@dataclass(frozen=True, slots=True)
class Loaded:
    """Validated settings and the origin of each value."""

    settings: Settings
    leaves: tuple[Leaf, ...]


def load(
    config_dir: Path | str | None = None,
    environment: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """The settings in force. Raises ConfigurationError with every problem that was found."""
    return _load(config_dir, environment, environ)[0]


def load_with_origin(
    config_dir: Path | str | None = None,
    environment: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Loaded:
    """The settings in force, and for each leaf the layer, file and line it came from."""
    settings, root = _load(config_dir, environment, environ)
    return Loaded(settings, tuple(_leaves(settings.model_dump(mode="json"), root, ())))


def validate_all(directory: Path, environ: Mapping[str, str] | None = None) -> dict[str, Settings]:
    """Validate every environment, and that one of them is active.

    Returns the settings of each. Raises ConfigurationError with all problems.
    """
    found: list[Problem] = []
    valid: dict[str, Settings] = {}
    try:
        layers.active_environment(directory, environ=environ)
    except ConfigurationError as error:
        found += error.problems
    for name in layers.environments(directory):
        try:
            valid[name] = load(directory, name, environ)
        except ConfigurationError as error:
            found += error.problems
    if found:
        raise ConfigurationError(found)
    return valid


def json_schema() -> dict[str, Any]:
    """JSON Schema of the merged settings."""
    return Settings.model_json_schema()


def peek(directory: Path, location: Location) -> Any:
    """One value of the global layer, not validated, or None: for use when the configuration is broken."""
    for path in sorted((directory / "global").glob("*.yaml")):
        try:
            node = find(parse_file(path, str(path)), location)
        except SourceError:
            continue
        if node is not None:
            return plain(node)
    return None


def _load(
    config_dir: Path | str | None, environment: str | None, environ: Mapping[str, str] | None
) -> tuple[Settings, Node]:
    directory = layers.find_directory(config_dir, environ)
    name, origin = layers.active_environment(directory, environment, environ)
    merged = layers.merged(directory, name, origin, environ)
    found = list(merged.problems)
    homes = {section: str(directory / file) for section, file in layers.SECTION_FILES.items()}
    try:
        settings = Settings.model_validate(plain(merged.root))
    except ValidationError as error:
        # What is missing may be in a source that could not be read: that one is to be corrected first.
        hidden = bool(found)
        found += [
            problem
            for problem in problems.from_validation(error, merged.root, homes)
            if not (hidden and problem.message.startswith("is missing"))
        ]
        raise ConfigurationError(found) from error
    if found:
        raise ConfigurationError(found)
    return settings, merged.root


def _leaves(value: Any, root: Node, location: Location) -> Iterator[Leaf]:
    # Imported where a value is shown: reading settings is on the way of every start of a service.
    from citadel_llm.telemetry.redaction import redact

    if isinstance(value, dict) and value:
        for key, child in value.items():
            yield from _leaves(child, root, (*location, key))
    elif isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        for index, child in enumerate(value):
            yield from _leaves(child, root, (*location, index))
    else:
        key = str(location[-1]) if location else ""
        yield Leaf(location, redact({key: value})[key], origin_of(root, location) or DEFAULT)


def dumps(value: Any) -> str:
    """JSON for people and machines: sorted as given, indented."""
    return json.dumps(value, indent=2, ensure_ascii=False)

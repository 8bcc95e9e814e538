"""What is wrong with a configuration, told with the place, the value and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from citadel_llm.configuration.tree import Location, Node, Origin, find, origin_of, step
from citadel_llm.schema.settings import Settings, dotted


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing to correct. `line` and `key` are None where there is none (a file that cannot be read)."""

    source: str
    line: int | None
    key: str | None
    message: str

    def __str__(self) -> str:
        place = self.source if self.line is None else f"{self.source}:{self.line}"
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"

    def as_dict(self) -> dict[str, Any]:
        """For `--json`: source, line, key, message."""
        return asdict(self)


class ConfigurationError(Exception):
    """The configuration cannot be used. Holds every problem that was found, not only the first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(
            sorted(set(problems), key=lambda p: (p.source, p.line or 0, p.key or "", p.message))
        )
        super().__init__("\n".join(str(problem) for problem in self.problems))


def from_validation(error: ValidationError, root: Node, homes: dict[str, str]) -> list[Problem]:
    """Translate pydantic's errors.

    `root` is the merged tree, `homes` maps a section to the file in which a missing one is expected.
    """
    schema = Settings.model_json_schema()
    problems: list[Problem] = []
    for detail in error.errors(include_url=False):
        nested = detail.get("ctx", {}).get("problems") if detail["type"] == "problems" else None
        prefix = _written_part(root, detail["loc"])
        if nested:
            problems += [_problem(root, (*prefix, *location), message, homes) for location, message in nested]
        else:
            location, message = _message(detail, prefix, root, schema)
            unknown = detail["type"] == "extra_forbidden"
            problems.append(_problem(root, location, message, homes, show_value=not unknown))
    return problems


def _problem(
    root: Node, location: Location, message: str, homes: dict[str, str], *, show_value: bool = True
) -> Problem:
    node = find(root, location)
    origin = _nearest_origin(root, location, homes)
    if show_value and node is not None and not isinstance(node.value, (dict, list)):
        from citadel_llm.telemetry.redaction import redact

        key = str(location[-1])
        message = f"{redact({key: node.value})[key]!r} {message}"
    return Problem(origin.source, origin.line, dotted(location) or None, message)


def _nearest_origin(root: Node, location: Location, homes: dict[str, str]) -> Origin:
    for length in range(len(location), 0, -1):
        origin = origin_of(root, location[:length])
        if origin is not None:
            return origin
    section = str(location[0]) if location else ""
    return Origin(homes.get(section, root.origin.source))


def _written_part(root: Node, location: Sequence[str | int]) -> Location:
    """Pydantic's location without the parts that name alternatives of a union, which nobody wrote."""
    written: list[str | int] = []
    current: Node | None = root
    for position, part in enumerate(location):
        child = step(current, part) if current is not None else None
        last = position == len(location) - 1
        if child is None and not last:
            continue
        if child is None and isinstance(current, Node) and not isinstance(current.value, dict):
            continue
        written.append(part)
        current = child
    return tuple(written)


def _message(
    detail: ErrorDetails, location: Location, root: Node, schema: dict[str, Any]
) -> tuple[Location, str]:
    kind = detail["type"]
    if kind == "missing":
        return location, "is missing: " + _describe(schema, location, root)
    if kind == "extra_forbidden":
        known = _known_keys(schema, location[:-1], root)
        close = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(sorted(known))}"
        return location, f"is an unknown key: {hint}"
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        expected = detail.get("ctx", {}).get("expected_tags") or "the kinds in the schema"
        key = str(detail.get("ctx", {}).get("discriminator", "kind")).strip("'")
        return (*location, key), f"is missing or unknown: {key} must be one of {expected}"
    text = detail["msg"]
    for prefix in ("Input should be ", "Value error, ", "Assertion failed, "):
        if text.startswith(prefix):
            text = ("is not allowed: it must be " if prefix.startswith("Input") else "") + text.removeprefix(
                prefix
            )
    return location, text


def _describe(schema: dict[str, Any], location: Location, root: Node) -> str:
    parent = _subschema(schema, location[:-1], root)
    entry = parent.get("properties", {}).get(str(location[-1]), {}) if parent else {}
    described = entry.get("description") or _resolve(schema, entry).get("description")
    return f"add it ({described})" if described else "add it"


def _known_keys(schema: dict[str, Any], location: Location, root: Node) -> list[str]:
    found = _subschema(schema, location, root)
    return list(found.get("properties", {})) if found else []


def _resolve(schema: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in entry:
        entry = schema["$defs"][entry["$ref"].rsplit("/", 1)[-1]]
    return entry


def _subschema(schema: dict[str, Any], location: Location, root: Node) -> dict[str, Any] | None:
    """The JSON schema of the mapping at a location, or None."""
    current: dict[str, Any] = schema
    node: Node | None = root
    for part in location:
        node = step(node, part) if node else None
        current = _resolve(schema, current)
        following = current.get("items") if isinstance(part, int) else _property(current, str(part))
        if not isinstance(following, dict):
            return None
        current = _choose(schema, following, node)
    return _resolve(schema, current)


def _property(current: dict[str, Any], key: str) -> Any:
    return current.get("properties", {}).get(key) or current.get("additionalProperties")


def _choose(schema: dict[str, Any], entry: dict[str, Any], node: Node | None) -> dict[str, Any]:
    """Of several alternatives, the one that the value names by its discriminator, else the first object."""
    if "discriminator" in entry and node is not None:
        tag = step(node, entry["discriminator"]["propertyName"])
        reference = entry["discriminator"]["mapping"].get(tag.value) if tag else None
        return _resolve(schema, {"$ref": reference}) if reference else {}
    for alternative in entry.get("anyOf", ()):
        resolved = _resolve(schema, alternative)
        if "properties" in resolved or "items" in resolved:
            return resolved
    return _resolve(schema, entry)

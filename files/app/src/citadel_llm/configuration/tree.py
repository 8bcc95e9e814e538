"""YAML as a tree in which every value knows where it was written.

Merging keeps that knowledge: after any number of layers, each value still names the line it came from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

Location = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value was written: a file and its line (from 1), or an environment variable."""

    source: str
    line: int | None = None

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


@dataclass(frozen=True, slots=True)
class Node:
    """A value with its origin. Mappings and lists hold nodes, anything else is a plain scalar."""

    value: Any
    origin: Origin
    keys: Mapping[str, Origin] = field(default_factory=dict)


class SourceError(Exception):
    """A source that cannot be read as settings. `origin` tells where, the message what and the remedy."""

    def __init__(self, origin: Origin, message: str) -> None:
        super().__init__(message)
        self.origin = origin


class _Loader(yaml.SafeLoader):
    """YAML without anchors: a value that is written elsewhere has no line of its own to point to."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise yaml.MarkedYAMLError(
                problem="anchors and aliases are not supported: write the value out",
                problem_mark=event.start_mark,
            )
        return super().compose_node(parent, index)


def parse(text: str, source: str, *, numbered: bool = True) -> Node:
    """Parse one YAML document. An empty one is an empty mapping.

    Raises SourceError for bad syntax, duplicate keys, keys that are not strings, and several documents.
    """
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return Node({}, Origin(source, 1 if numbered else None))
        return _convert(loader, root, source, numbered)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark and numbered else None
        detail = ", ".join(part for part in (error.problem, error.context) if part)
        if error.context and error.context_mark and numbered:
            detail += f" that begins in line {error.context_mark.line + 1}"
        raise SourceError(Origin(source, line), f"not valid YAML: {detail}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SourceError(Origin(source), f"not valid YAML: {error}") from error
    finally:
        loader.dispose()


def parse_file(path: Path, source: str) -> Node:
    """Parse one file; `source` is the name that origins carry. Raises SourceError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SourceError(Origin(source), f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SourceError(Origin(source), f"is not UTF-8 (byte {error.start}): save it as UTF-8") from error
    return parse(text, source)


def _convert(loader: _Loader, node: yaml.Node, source: str, numbered: bool) -> Node:
    origin = _origin(node, source, numbered)
    if isinstance(node, yaml.SequenceNode):
        return Node([_convert(loader, item, source, numbered) for item in node.value], origin)
    if not isinstance(node, yaml.MappingNode):
        return Node(loader.construct_object(node), origin)
    children: dict[str, Node] = {}
    keys: dict[str, Origin] = {}
    for key_node, value_node in node.value:
        key = _key(loader, key_node, _origin(key_node, source, numbered))
        if key in children:
            raise SourceError(
                _origin(key_node, source, numbered),
                f"the key {key!r} is given twice, first in line {keys[key].line}: remove one",
            )
        keys[key] = _origin(key_node, source, numbered)
        children[key] = _convert(loader, value_node, source, numbered)
    return Node(children, origin, keys)


def _key(loader: _Loader, node: yaml.Node, origin: Origin) -> str:
    if node.tag == "tag:yaml.org,2002:merge":
        raise SourceError(origin, "merge keys (<<) are not supported: write the values out")
    key = loader.construct_object(node) if isinstance(node, yaml.ScalarNode) else None
    if not isinstance(key, str):
        written = node.value if isinstance(node, yaml.ScalarNode) else "a collection"
        raise SourceError(origin, f"the key {written} is read as {type(key).__name__}, not as text: quote it")
    return key


def _origin(node: yaml.Node, source: str, numbered: bool) -> Origin:
    return Origin(source, node.start_mark.line + 1 if numbered else None)


def merge(lower: Node, upper: Node) -> Node:
    """Lay `upper` over `lower`: mappings are merged key by key, everything else is replaced whole."""
    if not (isinstance(lower.value, dict) and isinstance(upper.value, dict)):
        return upper
    children = dict(lower.value)
    for key, node in upper.value.items():
        children[key] = merge(children[key], node) if key in children else node
    return Node(children, upper.origin, {**lower.keys, **upper.keys})


def plain(node: Node) -> Any:
    """The values without their origins."""
    if isinstance(node.value, dict):
        return {key: plain(child) for key, child in node.value.items()}
    if isinstance(node.value, list):
        return [plain(child) for child in node.value]
    return node.value


def step(node: Node, part: str | int) -> Node | None:
    """The child at one key or index, or None."""
    if isinstance(part, str) and isinstance(node.value, dict):
        child = node.value.get(part)
        return child if isinstance(child, Node) else None
    if isinstance(part, int) and isinstance(node.value, list) and part < len(node.value):
        item: Node = node.value[part]
        return item
    return None


def find(node: Node, location: Location) -> Node | None:
    """The node at a location, or None."""
    current: Node | None = node
    for part in location:
        if current is None:
            return None
        current = step(current, part)
    return current


def origin_of(node: Node, location: Location) -> Origin | None:
    """Where the value at a location was written (its key's line), or None when it was not written at all."""
    if find(node, location) is None:
        return None
    if location and isinstance(location[-1], str):
        parent = find(node, location[:-1])
        if parent is not None and location[-1] in parent.keys:
            return parent.keys[location[-1]]
    found = find(node, location)
    return found.origin if found else None


def collisions(lower: Node, upper: Node, at: Location = ()) -> Iterator[Location]:
    """Locations that both trees give a value, mappings with distinct keys excepted."""
    if isinstance(lower.value, dict) and isinstance(upper.value, dict):
        for key in upper.value:
            if key in lower.value:
                yield from collisions(lower.value[key], upper.value[key], (*at, key))
    else:
        yield at

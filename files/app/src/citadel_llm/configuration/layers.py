"""The layers of the configuration and the order in which they are laid over each other.

    <config>/global/*.yaml
    <config>/services/*.yaml
    <config>/environments/<active>.yaml
    CITADEL__SECTION__KEY=value            (process environment; the value is YAML)

A later layer wins. Mappings are merged key by key; everything else, lists too, is replaced whole. Two files
of one layer must not set the same value. Each file holds sections at its top level.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from citadel_llm.configuration.problems import ConfigurationError, Problem
from citadel_llm.configuration.tree import (
    Node,
    Origin,
    SourceError,
    collisions,
    find,
    merge,
    origin_of,
    parse,
    parse_file,
)
from citadel_llm.schema.settings import dotted

DEFAULT_HOME = "/opt/citadel"
ACTIVE_FILE = "environment"
ENVIRONMENTS = "environments"
BASE_LAYERS = ("global", "services")
SECTION_FILES = {
    "citadel": "global/citadel.yaml",
    "logging": "global/logging.yaml",
    "metrics": "global/metrics.yaml",
    "health": "global/metrics.yaml",
    "monitoring": "global/monitoring.yaml",
    "api_gateway": "services/api_gateway.yaml",
    "ai_models": "services/ai_models.yaml",
}
_PREFIX = "CITADEL__"
_ENVIRONMENT_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class Merged:
    """The layers of one environment laid over each other, and what was wrong with the sources."""

    root: Node
    problems: tuple[Problem, ...]


def find_directory(given: Path | str | None = None, environ: Mapping[str, str] | None = None) -> Path:
    """The configuration directory: the given one, else $CITADEL_CONFIG_DIR, else $CITADEL_HOME/config.

    Raises ConfigurationError when it does not exist.
    """
    variables = os.environ if environ is None else environ
    if given is not None:
        path, named_by = Path(given), "the given directory"
    elif variables.get("CITADEL_CONFIG_DIR"):
        path, named_by = Path(variables["CITADEL_CONFIG_DIR"]), "CITADEL_CONFIG_DIR"
    else:
        path, named_by = Path(variables.get("CITADEL_HOME") or DEFAULT_HOME) / "config", "CITADEL_HOME"
    if not path.is_dir():
        message = (
            f"no such directory ({named_by}). Name the configuration by CITADEL_CONFIG_DIR or CITADEL_HOME"
        )
        raise ConfigurationError([Problem(str(path), None, None, message)])
    return path


def environments(directory: Path) -> list[str]:
    """Names of the environments that have a file, sorted."""
    return sorted(path.stem for path in (directory / ENVIRONMENTS).glob("*.yaml"))


def active_environment(
    directory: Path, given: str | None = None, environ: Mapping[str, str] | None = None
) -> tuple[str, Origin]:
    """The environment in force and where that is said: the argument, $CITADEL_ENV, or the file `environment`.

    Raises ConfigurationError when none is named, or one that has no file.
    """
    variables = os.environ if environ is None else environ
    path = directory / ACTIVE_FILE
    if given is not None:
        name, origin = given, Origin("the command line")
    elif variables.get("CITADEL_ENV"):
        name, origin = variables["CITADEL_ENV"], Origin("CITADEL_ENV")
    else:
        origin = Origin(str(path), 1)
        try:
            name = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            detail = error.strerror if isinstance(error, OSError) else "not UTF-8"
            message = f"cannot be read: {detail}. Name an environment: citadel config use NAME"
            raise ConfigurationError([Problem(str(path), None, None, message)]) from error
    known = environments(directory)
    if name not in known or not _ENVIRONMENT_NAME.fullmatch(name):
        have = ", ".join(known) or "none"
        message = f"{name!r} is no environment: there is no {ENVIRONMENTS}/{name}.yaml. Known: {have}"
        raise ConfigurationError([Problem(origin.source, origin.line, None, message)])
    return name, origin


def merged(
    directory: Path, environment: str, origin: Origin, environ: Mapping[str, str] | None = None
) -> Merged:
    """Lay all layers of one environment over each other; problems are collected, not raised."""
    problems: list[Problem] = []
    root = Node({}, Origin(str(directory)))
    for layer in BASE_LAYERS:
        root = merge(root, _layer(directory / layer, problems))
    root = merge(root, _read(directory / ENVIRONMENTS / f"{environment}.yaml", problems))
    root = merge(root, _process_environment(os.environ if environ is None else environ, problems))
    return Merged(_with_environment(root, environment, origin, problems), tuple(problems))


def _layer(directory: Path, problems: list[Problem]) -> Node:
    """All files of one directory; what two of them set is a problem, as neither comes first."""
    root = Node({}, Origin(str(directory)))
    if not directory.is_dir():
        problems.append(Problem(str(directory), None, None, "no such directory: create it"))
    misnamed = sorted(directory.glob("*.yml"))
    problems += [
        Problem(str(path), None, None, "is not read: rename it to end in .yaml") for path in misnamed
    ]
    for path in sorted(directory.glob("*.yaml")):
        node = _read(path, problems)
        for location in collisions(root, node) if root.value else ():
            here, there = origin_of(node, location), origin_of(root, location)
            line = here.line if here else None
            problems.append(Problem(str(path), line, dotted(location), f"is set in {there} too: remove one"))
        root = merge(root, node)
    return root


def _read(path: Path, problems: list[Problem]) -> Node:
    try:
        node = parse_file(path, str(path))
    except SourceError as error:
        problems.append(Problem(error.origin.source, error.origin.line, None, str(error)))
        return Node({}, Origin(str(path)))
    if isinstance(node.value, dict):
        return node
    if node.value is not None:
        message = "must hold sections (a mapping), such as `citadel:`"
        problems.append(Problem(str(path), node.origin.line, None, message))
    return Node({}, Origin(str(path)))


def _process_environment(environ: Mapping[str, str], problems: list[Problem]) -> Node:
    root = Node({}, Origin("the process environment"))
    for variable in sorted(name for name in environ if name.startswith(_PREFIX)):
        parts = variable.removeprefix(_PREFIX).lower().split("__")
        if len(parts) < 2 or not all(parts):
            message = "is not a setting: write CITADEL__SECTION__KEY, parts joined by two underscores"
            problems.append(Problem(variable, None, None, message))
            continue
        try:
            node = parse(environ[variable], variable, numbered=False)
        except SourceError as error:
            problems.append(Problem(variable, None, None, str(error)))
            continue
        if environ[variable].strip() == "":
            node = Node(None, Origin(variable))
        for part in reversed(parts):
            node = Node({part: node}, Origin(variable), {part: Origin(variable)})
        root = merge(root, node)
    return root


def _with_environment(root: Node, environment: str, origin: Origin, problems: list[Problem]) -> Node:
    """Add citadel.environment, which is never written in a file."""
    location = ("citadel", "environment")
    written = origin_of(root, location)
    if written is not None:
        message = "is not set here: use `citadel config use NAME` or CITADEL_ENV"
        problems.append(Problem(written.source, written.line, dotted(location), message))
    section = find(root, ("citadel",))
    if section is None or not isinstance(section.value, dict):
        return root
    added = Node({"environment": Node(environment, origin)}, section.origin, {"environment": origin})
    return merge(
        root, Node({"citadel": added}, root.origin, {"citadel": root.keys.get("citadel", section.origin)})
    )

"""The counts of day and month on disk, so that a restart forgives nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from citadel_llm.telemetry import get_logger

_SCHEMA = 1
_log = get_logger("citadel.gateway.limits")


def load_counts(path: Path) -> dict[str, list[int]]:
    """The saved counts; none when there are none or they cannot be read, which is told in the log."""
    try:
        return _parse(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = str(error) or type(error).__name__
        _log.error("saved counts of limits cannot be used; they start from 0", path=str(path), reason=reason)
        return {}


def save_counts(path: Path, counts: Mapping[str, list[int]]) -> None:
    """Replace the file, atomically. Raises OSError."""
    data = json.dumps({"schema": _SCHEMA, "counts": counts}, separators=(",", ":")).encode()
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _parse(data: bytes) -> dict[str, list[int]]:
    document = json.loads(data)
    if document["schema"] != _SCHEMA:
        raise ValueError(f"its schema is {document['schema']!r}, not {_SCHEMA}")
    return {str(name): _numbers(numbers) for name, numbers in document["counts"].items()}


def _numbers(value: object) -> list[int]:
    if not isinstance(value, list) or len(value) != 4:
        raise ValueError("it has counts that are not four numbers")
    if not all(isinstance(number, int) and number >= 0 for number in value):
        raise ValueError("it has counts that are not numbers of 0 or more")
    return value

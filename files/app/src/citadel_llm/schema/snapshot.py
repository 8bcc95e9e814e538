"""The routing snapshot: all that the gateway knows of models, back ends and keys, in one immutable file.

The document is JSON. Its ``version`` is a digest of its content without ``version`` and ``created``, so the
same content always has the same version, and a file that was cut short or edited by hand is refused.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, Field, ValidationError, model_validator

from citadel_llm.schema.access import KEY_HASH, Access, PreviousKey
from citadel_llm.schema.parts import Name, Part, Task, refuse_duplicates
from citadel_llm.schema.routes import Arm, Backend, Model, Queue, check_fallbacks

__all__ = [
    "KEY_PREFIX_LENGTH",
    "Arm",
    "Backend",
    "Key",
    "Model",
    "Name",
    "Queue",
    "RoutingSnapshot",
    "SnapshotError",
    "Task",
    "digest",
    "json_schema",
    "load",
    "parse",
    "seal",
]

SCHEMA_VERSION = 1
MAX_BYTES = 64 * 1024 * 1024
KEY_PREFIX_LENGTH = 16
"""Characters of a key that are kept in clear to find its entry."""


class SnapshotError(ValueError):
    """A snapshot that cannot be used. The message names the place and the reason, never a secret."""


class Key(Access):
    """An API key, as a hash, and what its owner may do."""

    id: Name = Field(description="Name of the key, shown in logs.")
    prefix: str = Field(
        min_length=KEY_PREFIX_LENGTH,
        max_length=KEY_PREFIX_LENGTH,
        description=f"The key's first {KEY_PREFIX_LENGTH} characters.",
    )
    hash: str = Field(
        pattern=KEY_HASH,
        description="sha256: and the digest of the whole key, or hmac-sha256:PEPPER: and the digest "
        "under a pepper.",
    )
    disabled: bool = Field(default=False, description="A disabled key is refused.")
    expires: AwareDatetime | None = Field(default=None, description="Moment from which the key is refused.")
    previous: tuple[PreviousKey, ...] = Field(
        default=(), description="Texts that the key had before it was rotated, accepted until their own end."
    )

    def access(self) -> Access:
        """What the key's owner may do, without the key."""
        return Access.model_validate({name: getattr(self, name) for name in Access.model_fields})


class RoutingSnapshot(Part):
    """The whole document."""

    schema_version: Literal[1] = Field(description="Version of this schema.")
    version: str = Field(pattern=r"^[0-9a-f]{16}$", description="Digest of the content; see `digest`.")
    created: AwareDatetime = Field(description="When the document was built.")
    models: tuple[Model, ...] = Field(default=(), description="Models that clients can ask for.")
    keys: tuple[Key, ...] = Field(default=(), description="Keys that are accepted.")

    @model_validator(mode="after")
    def _unique(self) -> RoutingSnapshot:
        refuse_duplicates("model or alias", [n for m in self.models for n in (m.name, *m.aliases)])
        refuse_duplicates("key", [key.id for key in self.keys])
        earlier = [text.hash for key in self.keys for text in key.previous]
        refuse_duplicates("hash of key", [*(key.hash for key in self.keys), *earlier])
        check_fallbacks(self.models)
        return self


def digest(document: dict[str, Any]) -> str:
    """The version of a document: 16 hexadecimal digits, without regard to `version` and `created`."""
    content = {key: value for key, value in document.items() if key not in ("version", "created")}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def seal(
    models: list[Model], keys: list[Key], *, now: datetime | None = None
) -> tuple[RoutingSnapshot, bytes]:
    """Make a snapshot of models and keys; return it with the bytes of its file.

    Raises SnapshotError when they do not fit together (a name used twice).
    """
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "models": [_sparse(model) for model in models],
        "keys": [_sparse(key) for key in keys],
    }
    document["version"] = digest(document)
    document["created"] = (now or datetime.now(UTC)).isoformat(timespec="seconds")
    data = json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n"
    return parse(data), data


def parse(data: bytes) -> RoutingSnapshot:
    """Check a document and return it. Raises SnapshotError with every reason that makes it unusable."""
    if len(data) > MAX_BYTES:
        raise SnapshotError(f"the document has {len(data)} bytes; at most {MAX_BYTES} are accepted")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SnapshotError(f"not JSON: {error}") from error
    if not isinstance(document, dict):
        raise SnapshotError(f"expected an object, found {type(document).__name__}")
    found = document.get("schema_version")
    if found != SCHEMA_VERSION or isinstance(found, bool):
        raise SnapshotError(
            f"schema_version is {found!r}; this version of the gateway reads {SCHEMA_VERSION}: "
            "build the snapshot with the same release (citadel routing apply)"
        )
    try:
        snapshot = RoutingSnapshot.model_validate_json(data)
    except ValidationError as error:
        raise SnapshotError(_reasons(error)) from None
    expected = digest(document)
    if snapshot.version != expected:
        raise SnapshotError(
            f"version is {snapshot.version}, but the content's digest is {expected}: "
            "the file was cut short or edited; build it again (citadel routing apply)"
        )
    return snapshot


def load(path: Path) -> RoutingSnapshot:
    """Read and check a file. Raises SnapshotError, also when it cannot be read."""
    try:
        return parse(path.read_bytes())
    except OSError as error:
        raise SnapshotError(f"{path}: cannot be read: {error.strerror or error}") from error
    except SnapshotError as error:
        raise SnapshotError(f"{path}: {error}") from error


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the document."""
    return RoutingSnapshot.model_json_schema()


def _sparse(part: Part) -> dict[str, Any]:
    """Leave defaults out, so that a field added to the schema later changes no version."""
    return part.model_dump(mode="json", exclude_defaults=True)


def _reasons(error: ValidationError) -> str:
    """Each reason with its place; never the input, which may hold a secret."""
    reasons = []
    for detail in error.errors(include_url=False, include_input=False, include_context=False):
        place = ".".join(str(part) for part in detail["loc"])
        reasons.append(f"{place}: {detail['msg']}" if place else detail["msg"])
    return "; ".join(reasons[:10]) + ("" if len(reasons) <= 10 else f"; and {len(reasons) - 10} more")

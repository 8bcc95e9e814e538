"""The routing snapshot: all that the gateway knows of models, back ends and keys, in one immutable file.

The document is JSON. Its ``version`` is a digest of its content without ``version`` and ``created``, so the
same content always has the same version, and a file that was cut short or edited by hand is refused.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

SCHEMA_VERSION = 1
MAX_BYTES = 64 * 1024 * 1024
KEY_PREFIX_LENGTH = 16
"""Characters of a key that are kept in clear to find its entry."""

Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]*$")]
Task = Literal["generate", "embed", "score"]


class SnapshotError(ValueError):
    """A snapshot that cannot be used. The message names the place and the reason, never a secret."""


class _Part(BaseModel):
    # Unknown fields are refused: a gateway that ignored a limit it does not know would not enforce it.
    model_config = ConfigDict(extra="forbid", frozen=True)


class Backend(_Part):
    """One engine that serves a model."""

    name: Name = Field(description="Name of the back end, unique within its model; the deployment's name.")
    url: str = Field(description="Address of the engine, http://HOST:PORT without a path.")
    model: Name = Field(description="Name under which this engine serves the model.")

    @field_validator("url")
    @classmethod
    def _origin(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"must be http://HOST:PORT, not {value!r}")
        if parts.username or parts.password:
            raise ValueError("must not contain credentials")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError(f"must have no path, query or fragment, but is {value!r}")
        try:
            port = parts.port
        except ValueError as error:
            raise ValueError(f"has a port that is not one: {value!r}") from error
        if port == 0:
            raise ValueError(f"has port 0: {value!r}")
        return value.rstrip("/")


class Model(_Part):
    """A model that clients can ask for."""

    name: Name = Field(description="Name that clients ask for.")
    aliases: tuple[Name, ...] = Field(default=(), description="Further names for the same model.")
    task: Task = Field(
        default="generate", description="What the model does; it decides which endpoints serve it."
    )
    created: int = Field(
        default=0, ge=0, description="When the model was first offered, in seconds since 1970."
    )
    backends: tuple[Backend, ...] = Field(min_length=1, description="Engines that serve it.")

    @model_validator(mode="after")
    def _unique(self) -> Model:
        _refuse_duplicates("back end", [backend.name for backend in self.backends])
        return self


class Key(_Part):
    """An API key, as a hash."""

    id: Name = Field(description="Name of the key, shown in logs.")
    prefix: str = Field(
        min_length=KEY_PREFIX_LENGTH,
        max_length=KEY_PREFIX_LENGTH,
        description=f"The key's first {KEY_PREFIX_LENGTH} characters.",
    )
    hash: str = Field(
        pattern=r"^sha256:[0-9a-f]{64}$", description="sha256: and the digest of the whole key."
    )
    disabled: bool = Field(default=False, description="A disabled key is refused.")
    expires: AwareDatetime | None = Field(default=None, description="Moment from which the key is refused.")


class RoutingSnapshot(_Part):
    """The whole document."""

    schema_version: Literal[1] = Field(description="Version of this schema.")
    version: str = Field(pattern=r"^[0-9a-f]{16}$", description="Digest of the content; see `digest`.")
    created: AwareDatetime = Field(description="When the document was built.")
    models: tuple[Model, ...] = Field(default=(), description="Models that clients can ask for.")
    keys: tuple[Key, ...] = Field(default=(), description="Keys that are accepted.")

    @model_validator(mode="after")
    def _unique(self) -> RoutingSnapshot:
        _refuse_duplicates("model or alias", [n for m in self.models for n in (m.name, *m.aliases)])
        _refuse_duplicates("key", [key.id for key in self.keys])
        _refuse_duplicates("hash of key", [key.hash for key in self.keys])
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


def _sparse(part: _Part) -> dict[str, Any]:
    """Leave defaults out, so that a field added to the schema later changes no version."""
    return part.model_dump(mode="json", exclude_defaults=True)


def _reasons(error: ValidationError) -> str:
    """Each reason with its place; never the input, which may hold a secret."""
    reasons = []
    for detail in error.errors(include_url=False, include_input=False, include_context=False):
        place = ".".join(str(part) for part in detail["loc"])
        reasons.append(f"{place}: {detail['msg']}" if place else detail["msg"])
    return "; ".join(reasons[:10]) + ("" if len(reasons) <= 10 else f"; and {len(reasons) - 10} more")


def _refuse_duplicates(what: str, names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{what} {name!r} appears twice")
        seen.add(name)

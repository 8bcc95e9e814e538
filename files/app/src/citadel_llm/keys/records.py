"""The key file: what is known of each key, which is everything but the key."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from citadel_llm.schema.snapshot import KEY_PREFIX_LENGTH

KEY_START = "sk-citadel-"
MIN_KEY_LENGTH = 32
MAX_KEY_LENGTH = 256
_VISIBLE = re.compile(r"[!-~]+")

KeyId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class ApiKeyError(ValueError):
    """A key or a key file that cannot be used. The message never contains a key."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KeyRecord(_Strict):
    """One key as the key file has it."""

    id: KeyId = Field(description="Name of the key, shown in logs.")
    prefix: str = Field(
        min_length=KEY_PREFIX_LENGTH, max_length=KEY_PREFIX_LENGTH, description="The key's first characters."
    )
    hash: str = Field(pattern=r"^sha256:[0-9a-f]{64}$", description="Digest of the key.")
    created: AwareDatetime = Field(description="When it was made or taken over.")
    disabled: bool = Field(default=False, description="A disabled key is refused.")
    expires: AwareDatetime | None = Field(default=None, description="Moment from which it is refused.")
    note: str = Field(default="", max_length=500, description="What it is for.")


class KeyFile(_Strict):
    """The document `api_keys.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_version: Literal[1] = Field(default=1, validation_alias="schema", serialization_alias="schema")
    keys: tuple[KeyRecord, ...] = ()

    @model_validator(mode="after")
    def _unique(self) -> KeyFile:
        for what, values in (("id", [k.id for k in self.keys]), ("hash", [k.hash for k in self.keys])):
            for value in values:
                if values.count(value) > 1:
                    raise ValueError(f"{what} {value!r} appears twice")
        return self


def new_key() -> str:
    """The text of a new key: 256 random bits."""
    return KEY_START + secrets.token_urlsafe(32)


def check_key(key: str, of: str) -> None:
    """Refuse a key too weak to be kept as a plain digest. Raises ApiKeyError without the key in it."""
    if not MIN_KEY_LENGTH <= len(key) <= MAX_KEY_LENGTH:
        raise ApiKeyError(
            f"key {of!r}: has {len(key)} characters; between {MIN_KEY_LENGTH} and {MAX_KEY_LENGTH} are "
            "accepted (leave it out to have one made)"
        )
    if not _VISIBLE.fullmatch(key):
        raise ApiKeyError(f"key {of!r}: may contain only visible ASCII characters, no spaces")


def hash_key(key: str) -> str:
    """The digest under which a key is kept. Keys are long and random, so a slow hash would add nothing."""
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


def record_of(id_: str, key: str, *, expires: datetime | None = None, note: str = "") -> KeyRecord:
    """The record of a key. Raises ApiKeyError."""
    check_key(key, id_)
    now = datetime.now(UTC).replace(microsecond=0)
    try:
        return KeyRecord(
            id=id_,
            prefix=key[:KEY_PREFIX_LENGTH],
            hash=hash_key(key),
            created=now,
            expires=expires,
            note=note,
        )
    except ValidationError as error:
        raise ApiKeyError(f"key {id_!r}: {reasons(error)}") from None


def read_key_file(path: Path) -> KeyFile:
    """The key file; an empty one when there is none. Raises ApiKeyError."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return KeyFile()
    except OSError as error:
        raise ApiKeyError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        return KeyFile.model_validate_json(data)
    except ValidationError as error:
        raise ApiKeyError(f"{path}: {reasons(error)}; restore it from a backup") from None


def encode_key_file(file: KeyFile) -> bytes:
    """The bytes of the key file."""
    return (
        json.dumps(file.model_dump(mode="json", by_alias=True), indent=1, ensure_ascii=False).encode() + b"\n"
    )


def reasons(error: ValidationError) -> str:
    """Each reason with its place, without the input."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" if e["loc"] else e["msg"] for e in found)

"""The key file: what is known of each key, which is everything but the key."""

from __future__ import annotations

import json
import re
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from citadel_llm.schema.access import KEY_HASH, Access, PreviousKey
from citadel_llm.schema.key_hash import Pepper, hash_key
from citadel_llm.schema.parts import refuse_duplicates
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


class KeyRecord(Access):
    """One key as the key file has it, with what its owner may do."""

    id: KeyId = Field(description="Name of the key, shown in logs.")
    prefix: str = Field(
        min_length=KEY_PREFIX_LENGTH, max_length=KEY_PREFIX_LENGTH, description="The key's first characters."
    )
    hash: str = Field(pattern=KEY_HASH, description="Digest of the key.")
    created: AwareDatetime = Field(description="When it was made or taken over.")
    disabled: bool = Field(default=False, description="A disabled key is refused.")
    expires: AwareDatetime | None = Field(default=None, description="Moment from which it is refused.")
    note: str = Field(default="", max_length=500, description="What it is for.")
    previous: tuple[PreviousKey, ...] = Field(
        default=(), description="Texts it had before it was rotated, accepted until their own end."
    )

    def access(self) -> dict[str, Any]:
        """The fields that say what its owner may do."""
        return {name: getattr(self, name) for name in Access.model_fields}


class KeyFile(_Strict):
    """The document `api_keys.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_version: Literal[1] = Field(default=1, validation_alias="schema", serialization_alias="schema")
    keys: tuple[KeyRecord, ...] = ()

    @model_validator(mode="after")
    def _unique(self) -> KeyFile:
        earlier = [old.hash for key in self.keys for old in key.previous]
        hashes = [*(key.hash for key in self.keys), *earlier]
        refuse_duplicates("id", [key.id for key in self.keys])
        refuse_duplicates("hash", hashes)
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


def record_of(
    id_: str,
    key: str,
    *,
    pepper: Pepper | None = None,
    expires: datetime | None = None,
    note: str = "",
) -> KeyRecord:
    """The record of a key, hashed with the pepper when there is one. Raises ApiKeyError."""
    check_key(key, id_)
    now = datetime.now(UTC).replace(microsecond=0)
    try:
        return KeyRecord(
            id=id_,
            prefix=key[:KEY_PREFIX_LENGTH],
            hash=hash_key(key, pepper),
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
    document = {"schema": file.schema_version, **file.model_dump(mode="json", exclude_defaults=True)}
    return json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n"


def reasons(error: ValidationError) -> str:
    """Each reason with its place, without the input."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" if e["loc"] else e["msg"] for e in found)

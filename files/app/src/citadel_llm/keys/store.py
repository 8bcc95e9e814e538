"""Changing the key file: create, disable, and bring it to a desired state."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr, TypeAdapter, ValidationError

from citadel_llm.configuration.files import write_atomic
from citadel_llm.keys.records import (
    ApiKeyError,
    KeyFile,
    KeyId,
    KeyRecord,
    encode_key_file,
    hash_key,
    new_key,
    read_key_file,
    reasons,
    record_of,
)

KEY_FILE = "api_keys.json"
KEY_DIRECTORY = "keys"


class DesiredKey(BaseModel):
    """A key as an inventory wants it. Without `key`, one is made once and kept beside the key file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: KeyId
    key: SecretStr | None = None
    state: Literal["present", "disabled", "absent"] = "present"
    expires: AwareDatetime | None = None
    note: str = Field(default="", max_length=500)


@dataclass(slots=True)
class Changes:
    """What was, or in check mode would be, changed. It contains no secret."""

    changed: bool = False
    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    key_files: dict[str, str] = field(default_factory=dict)
    """Where the text of keys that were made here lies, by id."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def parse_desired(text: str) -> list[DesiredKey]:
    """A JSON list of desired keys. Raises ApiKeyError, without any value in it."""
    try:
        wanted = TypeAdapter(list[DesiredKey]).validate_python(json.loads(text))
    except ValidationError as error:
        raise ApiKeyError(f"desired keys: {reasons(error)}") from None
    except ValueError as error:
        raise ApiKeyError(f"desired keys: not JSON: {error}") from None
    ids = [key.id for key in wanted]
    for id_ in ids:
        if ids.count(id_) > 1:
            raise ApiKeyError(f"desired keys: id {id_!r} appears twice")
    return wanted


class KeyStore:
    """The key file of one server and the texts of keys that were made here."""

    def __init__(self, secrets_dir: Path) -> None:
        self._secrets = secrets_dir
        self.path = secrets_dir / KEY_FILE

    def records(self) -> tuple[KeyRecord, ...]:
        """All keys. Raises ApiKeyError."""
        return read_key_file(self.path).keys

    def key_path(self, id_: str) -> Path:
        """Where the text of a key that was made here lies."""
        return self._secrets / KEY_DIRECTORY / f"{id_}.key"

    def create(
        self, id_: str, *, key: str | None = None, expires: datetime | None = None, note: str = ""
    ) -> KeyRecord:
        """Make a key, or take over a given one. Raises ApiKeyError when the id is taken."""
        with self._locked():
            records = {record.id: record for record in self.records()}
            if id_ in records:
                raise ApiKeyError(f"there is a key {id_!r} already; choose another id or revoke it first")
            if key is None:
                record = self._make(id_, expires=expires, note=note)
            else:
                record = record_of(id_, key, expires=expires, note=note)
            self._write({**records, id_: record})
            return record

    def revoke(self, id_: str, *, remove: bool = False) -> bool:
        """Disable a key, or remove it. False when it was so already. Raises ApiKeyError for an unknown id."""
        with self._locked():
            records = {record.id: record for record in self.records()}
            if id_ not in records:
                raise ApiKeyError(f"there is no key {id_!r}; `citadel keys list` shows those there are")
            if remove:
                del records[id_]
                self._forget(id_)
            elif records[id_].disabled:
                return False
            else:
                records[id_] = records[id_].model_copy(update={"disabled": True})
            self._write(records)
            return True

    def sync(self, desired: list[DesiredKey], *, exclusive: bool = False, check: bool = False) -> Changes:
        """Bring the named keys to their desired state; with `exclusive`, remove all others.

        With `check`, nothing is written and the same changes are predicted. Raises ApiKeyError.
        """
        with contextlib.nullcontext() if check else self._locked():
            records = {record.id: record for record in self.records()}
            changes = Changes()
            wanted = list(desired)
            if exclusive:
                named = {key.id for key in desired}
                wanted += [DesiredKey(id=id_, state="absent") for id_ in records if id_ not in named]
            for key in wanted:
                self._sync_one(key, records, changes, check=check)
            changes.changed = bool(changes.created or changes.updated or changes.removed)
            self._validated(records)
            if changes.changed and not check:
                self._write(records)
                # A text that was made here is of no use once its key is gone or another was given.
                for id_ in {*changes.removed, *(key.id for key in desired if key.key is not None)}:
                    self._forget(id_)
            return changes

    def _sync_one(
        self, wanted: DesiredKey, records: dict[str, KeyRecord], changes: Changes, *, check: bool
    ) -> None:
        current = records.get(wanted.id)
        if wanted.state == "absent":
            if current is not None:
                del records[wanted.id]
                changes.removed.append(wanted.id)
            return
        given = wanted.key.get_secret_value() if wanted.key is not None else None
        if current is not None and (given is None or hash_key(given) == current.hash):
            record = current
        elif given is not None:
            record = record_of(wanted.id, given)
        else:
            record = record_of(wanted.id, new_key()) if check else self._make(wanted.id)
        record = record.model_copy(
            update={
                "disabled": wanted.state == "disabled",
                "expires": wanted.expires,
                "note": wanted.note,
            }
        )
        if given is None and (current is None or self.key_path(wanted.id).exists()):
            changes.key_files[wanted.id] = str(self.key_path(wanted.id))
        if record != current:
            (changes.created if current is None else changes.updated).append(wanted.id)
            records[wanted.id] = record

    def _make(self, id_: str, *, expires: datetime | None = None, note: str = "") -> KeyRecord:
        """Make a key and keep its text. A text that an interrupted run left behind is used."""
        path = self.key_path(id_)
        with contextlib.suppress(FileNotFoundError):
            return record_of(id_, path.read_text().strip(), expires=expires, note=note)
        key = new_key()
        record = record_of(id_, key, expires=expires, note=note)
        if not path.parent.is_dir():
            owner = self._secrets.stat()
            path.parent.mkdir(mode=0o700)
            if os.geteuid() == 0:
                os.chown(path.parent, owner.st_uid, owner.st_gid)
        # The text comes first: a record without its text would be a key that nobody has.
        write_atomic(path, key.encode() + b"\n", mode=0o600)
        return record

    def _forget(self, id_: str) -> None:
        self.key_path(id_).unlink(missing_ok=True)

    def _write(self, records: dict[str, KeyRecord]) -> None:
        write_atomic(self.path, encode_key_file(self._validated(records)), mode=0o600)

    def _validated(self, records: dict[str, KeyRecord]) -> KeyFile:
        try:
            return KeyFile(keys=tuple(records.values()))
        except ValidationError:
            hashes = [record.hash for record in records.values()]
            same = [record.id for record in records.values() if hashes.count(record.hash) > 1]
            raise ApiKeyError(f"keys {', '.join(same)} have the same text; each needs its own") from None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time."""
        try:
            descriptor = os.open(self._secrets, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise ApiKeyError(f"{self._secrets}: cannot be opened: {error.strerror or error}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

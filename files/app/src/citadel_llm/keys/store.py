"""Changing the key file: create, rotate, disable, and bring it to a desired state."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from citadel_llm.configuration.files import write_atomic
from citadel_llm.keys.desired import Changes, DesiredKey
from citadel_llm.keys.records import (
    ApiKeyError,
    KeyFile,
    KeyRecord,
    encode_key_file,
    new_key,
    read_key_file,
    reasons,
    record_of,
)
from citadel_llm.schema.access import Access, PreviousKey
from citadel_llm.schema.key_hash import (
    PEPPER_CREDENTIAL,
    Pepper,
    PepperError,
    is_hash_of,
    parse_peppers,
    pepper_name,
)

KEY_FILE = "api_keys.json"
KEY_DIRECTORY = "keys"


class KeyStore:
    """The key file of one server and the texts of keys that were made here."""

    def __init__(self, secrets_dir: Path) -> None:
        self._secrets = secrets_dir
        self.path = secrets_dir / KEY_FILE
        self.pepper_path = secrets_dir / PEPPER_CREDENTIAL

    def records(self) -> tuple[KeyRecord, ...]:
        """All keys. Raises ApiKeyError."""
        return read_key_file(self.path).keys

    def key_path(self, id_: str) -> Path:
        """Where the text of a key that was made here lies."""
        return self._secrets / KEY_DIRECTORY / f"{id_}.key"

    # -- the pepper

    def peppers(self) -> tuple[Pepper, ...]:
        """The peppers of this server, that for new keys first; none without the file. Raises ApiKeyError."""
        try:
            return parse_peppers(self.pepper_path.read_text())
        except FileNotFoundError:
            return ()
        except (OSError, UnicodeDecodeError, PepperError) as error:
            raise ApiKeyError(f"{self.pepper_path}: {error}; restore it from a backup") from None

    def make_pepper(self, *, check: bool = False) -> bool:
        """Make the pepper, once. Keys that are kept without one stay valid. Raises ApiKeyError."""
        if check:
            return not self.peppers()
        with self._locked():
            if self.peppers():
                return False
            write_atomic(self.pepper_path, secrets.token_hex(32).encode() + b"\n", mode=0o600)
            return True

    def _pepper(self) -> Pepper | None:
        return next(iter(self.peppers()), None)

    # -- single keys

    def create(
        self,
        id_: str,
        *,
        key: str | None = None,
        expires: datetime | None = None,
        note: str = "",
        access: Access | None = None,
    ) -> KeyRecord:
        """Make a key, or take over a given one. Raises ApiKeyError when the id is taken."""
        with self._locked():
            records = self._by_id()
            if id_ in records:
                raise ApiKeyError(f"there is a key {id_!r} already; choose another id or revoke it first")
            record = self._make(id_) if key is None else record_of(id_, key, pepper=self._pepper())
            record = _changed(record, expires=expires, note=note, **_fields(access))
            self._write({**records, id_: record})
            return record

    def change(self, id_: str, **fields: Any) -> KeyRecord:
        """Change `disabled`, `expires`, `note` or what the owner may do. Raises ApiKeyError."""
        with self._locked():
            records = self._by_id()
            record = _changed(self._known(records, id_), **fields)
            if record != records[id_]:
                self._write({**records, id_: record})
            return record

    def rotate(self, id_: str, overlap: timedelta) -> KeyRecord:
        """Give a key a new text; the one before stays valid for `overlap`. Raises ApiKeyError.

        The new text takes the place of the old one in the key's file. An interrupted run can be run again.
        """
        with self._locked():
            records = self._by_id()
            current = self._known(records, id_)
            coming = self.key_path(id_).with_suffix(".new")
            record = self._make(id_, coming)
            if record.hash == current.hash:
                # An earlier run wrote the record and not yet the text.
                coming.replace(self.key_path(id_))
                return current
            until = datetime.now(UTC).replace(microsecond=0) + overlap
            record = _changed(
                current,
                prefix=record.prefix,
                hash=record.hash,
                created=record.created,
                previous=_previous(current, until),
            )
            self._write({**records, id_: record})
            coming.replace(self.key_path(id_))
            return record

    def revoke(self, id_: str, *, remove: bool = False) -> bool:
        """Disable a key, or remove it. False when it was so already. Raises ApiKeyError for an unknown id."""
        with self._locked():
            records = self._by_id()
            record = self._known(records, id_)
            if remove:
                del records[id_]
                self._forget(id_)
            elif record.disabled:
                return False
            else:
                records[id_] = _changed(record, disabled=True)
            self._write(records)
            return True

    # -- a desired state

    def sync(self, desired: list[DesiredKey], *, exclusive: bool = False, check: bool = False) -> Changes:
        """Bring the named keys to their desired state; with `exclusive`, remove all others.

        With `check`, nothing is written and the same changes are predicted. Raises ApiKeyError.
        """
        with contextlib.nullcontext() if check else self._locked():
            records = self._by_id()
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
        record = _changed(self._text_of(wanted, current, check=check), **wanted.fields())
        if wanted.key is None and (current is None or self.key_path(wanted.id).exists()):
            changes.key_files[wanted.id] = str(self.key_path(wanted.id))
        if record != current:
            (changes.created if current is None else changes.updated).append(wanted.id)
            records[wanted.id] = record

    def _text_of(self, wanted: DesiredKey, current: KeyRecord | None, *, check: bool) -> KeyRecord:
        """The record with the text that is wanted: the current, a new one, or the current one peppered."""
        given = wanted.key.get_secret_value() if wanted.key is not None else None
        if current is None:
            if given is not None:
                return record_of(wanted.id, given, pepper=self._pepper())
            return record_of(wanted.id, new_key()) if check else self._make(wanted.id)
        if given is not None and not is_hash_of(given, current.hash, self.peppers()):
            record = record_of(wanted.id, given, pepper=self._pepper())
            until = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=wanted.overlap_s)
            return _changed(record, previous=_previous(current, until))
        return self._peppered(current, given)

    def _peppered(self, record: KeyRecord, text: str | None) -> KeyRecord:
        """The same key under today's pepper, where its text is known."""
        pepper = self._pepper()
        if pepper is None or pepper_name(record.hash) == pepper.name:
            return record
        if text is None:
            with contextlib.suppress(FileNotFoundError):
                text = self.key_path(record.id).read_text().strip()
        if text is None or not is_hash_of(text, record.hash, self.peppers()):
            return record
        return _changed(record, hash=record_of(record.id, text, pepper=pepper).hash)

    # -- files

    def _by_id(self) -> dict[str, KeyRecord]:
        return {record.id: record for record in self.records()}

    def _known(self, records: dict[str, KeyRecord], id_: str) -> KeyRecord:
        if id_ not in records:
            raise ApiKeyError(f"there is no key {id_!r}; `citadel keys list` shows those there are")
        return records[id_]

    def _make(self, id_: str, path: Path | None = None) -> KeyRecord:
        """Make a key and keep its text. A text that an interrupted run left behind is used."""
        path = path or self.key_path(id_)
        pepper = self._pepper()
        with contextlib.suppress(FileNotFoundError):
            return record_of(id_, path.read_text().strip(), pepper=pepper)
        key = new_key()
        record = record_of(id_, key, pepper=pepper)
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
            if not same:
                raise ApiKeyError("a key has a text again that it, or another one, had before") from None
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


def _fields(access: Access | None) -> dict[str, Any]:
    return dict(access) if access is not None else {}


def _changed(record: KeyRecord, **fields: Any) -> KeyRecord:
    """A copy with other fields, checked. Raises ApiKeyError."""
    try:
        return KeyRecord.model_validate({**dict(record), **fields})
    except ValidationError as error:
        raise ApiKeyError(f"key {record.id!r}: {reasons(error)}") from None


def _previous(current: KeyRecord, until: datetime) -> tuple[PreviousKey, ...]:
    """The earlier texts that are still valid, and the current one until then; none without an overlap."""
    now = datetime.now(UTC)
    if until <= now:
        return ()
    kept = [old for old in current.previous if old.expires > now]
    return (*kept, PreviousKey(prefix=current.prefix, hash=current.hash, expires=until))

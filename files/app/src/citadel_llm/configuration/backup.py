"""Backups of the configuration directory.

<backups>/20260131T235959Z/manifest.json     {"created", "dest", "files": {relative: {"sha256", "mode"}}}
<backups>/20260131T235959Z/files/<relative>

A further backup within the same second ends in -1, -2 and so on.
A backup grants the same access as the configuration.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from citadel_llm.configuration import layers, loader
from citadel_llm.configuration.files import sync_directory, write_atomic

Clock = Callable[[], datetime]
_ID = re.compile(r"(\d{8}T\d{6}Z)(?:-(\d+))?")
_PARTIAL = ".partial-config-backup-"
_ABANDONED_S = 3600
_UNFINISHED = re.compile(r"\..+\.[a-z0-9_]{8}")  # what an interrupted atomic write leaves


class BackupError(Exception):
    """A backup cannot be made, read or restored; the message says which and why."""


class _Entry(BaseModel):
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    mode: str | int

    def bits(self) -> int:
        """The permission bits; text is octal."""
        return (int(self.mode, 8) if isinstance(self.mode, str) else self.mode) & 0o7777


class _Manifest(BaseModel):
    created: str
    dest: str
    files: dict[str, _Entry]


@dataclass(frozen=True, slots=True)
class Backup:
    """One backup: its id (UTC time), what it was taken of, and what makes it useless, if anything."""

    id: str
    path: Path
    created: str
    dest: str
    files: int
    problem: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {**{key: getattr(self, key) for key in self.__slots__}, "path": str(self.path)}


def directory_for(config: Path, given: Path | None) -> Path:
    """Where backups are: as given, else citadel.paths.backups, read even when the rest is invalid."""
    if given is not None:
        return given
    peeked = loader.peek(config, ("citadel", "paths", "backups"))
    if not isinstance(peeked, str) or not peeked.startswith("/"):
        raise BackupError(
            f"{config}/global/citadel.yaml: citadel.paths.backups cannot be read. "
            "Name the directory: --backups DIR"
        )
    return Path(peeked)


def create(config: Path, backups: Path, now: Clock = lambda: datetime.now(UTC)) -> Backup:
    """Copy every file of the configuration; `now` tells the time in UTC.

    The backup is built aside and renamed, so it is complete or absent. Raises BackupError.
    """
    moment = now()
    try:
        if not backups.is_dir():
            backups.parent.mkdir(parents=True, exist_ok=True)
            _make_directory(backups, config.stat())
        _remove_abandoned(backups)
        with tempfile.TemporaryDirectory(prefix=_PARTIAL, dir=backups) as name:
            built = Path(name) / "backup"
            manifest = _copy(config, built, moment)
            target = _free_name(backups, moment)
            built.rename(target)
        sync_directory(backups)
    except OSError as error:
        where = error.filename or backups
        raise BackupError(f"{where}: {error.strerror}. The configuration was not backed up") from error
    return Backup(target.name, target, manifest.created, manifest.dest, len(manifest.files))


def _free_name(backups: Path, moment: datetime) -> Path:
    name = moment.strftime("%Y%m%dT%H%M%SZ")
    following = (f"{name}-{number}" for number in itertools.count(1))
    return next(
        backups / each for each in itertools.chain([name], following) if not (backups / each).exists()
    )


def _remove_abandoned(backups: Path) -> None:
    """Remove what a backup that was killed has left; one that is being made now is younger."""
    for path in backups.glob(f"{_PARTIAL}*"):
        if time.time() - path.stat().st_mtime > _ABANDONED_S:
            shutil.rmtree(path)


def _make_directory(path: Path, like: os.stat_result) -> None:
    """Make a directory, and missing ones above it, with the access of another."""
    if path.is_dir():
        return
    _make_directory(path.parent, like)
    path.mkdir()
    path.chmod(like.st_mode & 0o7777)
    if os.geteuid() == 0:
        os.chown(path, like.st_uid, like.st_gid)


def _copy(config: Path, target: Path, created: datetime) -> _Manifest:
    like = config.stat()
    _make_directory(target / "files", like)
    entries: dict[str, _Entry] = {}
    for relative in _files(config):
        content = (config / relative).read_bytes()
        mode = (config / relative).stat().st_mode & 0o7777
        copy = target / "files" / relative
        _make_directory(copy.parent, like)
        write_atomic(copy, content, mode=mode)
        entries[relative] = _Entry(sha256=hashlib.sha256(content).hexdigest(), mode=f"{mode:04o}")
    manifest = _Manifest(
        created=created.strftime("%Y-%m-%dT%H:%M:%SZ"), dest=str(config.absolute()), files=entries
    )
    text = manifest.model_dump_json(indent=2) + "\n"
    write_atomic(target / "manifest.json", text.encode(), mode=like.st_mode & 0o666)
    return manifest


def _files(config: Path) -> list[str]:
    """Regular files below a directory, relative, sorted. Links and unfinished writes are left out."""
    return sorted(
        str(path.relative_to(config))
        for path in config.rglob("*")
        if path.is_file() and not path.is_symlink() and not _UNFINISHED.fullmatch(path.name)
    )


def listing(backups: Path) -> list[Backup]:
    """All backups, oldest first; one that is damaged says so in `problem`."""
    found: list[Backup] = []
    for path in (backups / identity for identity in listing_ids(backups)):
        try:
            manifest = _verified(path)
            found.append(Backup(path.name, path, manifest.created, manifest.dest, len(manifest.files)))
        except BackupError as error:
            found.append(Backup(path.name, path, "", "", 0, str(error)))
    return found


def restore(
    config: Path, backups: Path, identity: str, now: Clock = lambda: datetime.now(UTC)
) -> tuple[Backup, list[str]]:
    """Put a backup in place of the configuration.

    The backup is verified and validated first, and the present state is backed up. Returns that safety
    backup and the files that changed (written or removed). Raises BackupError or ConfigurationError with
    nothing changed; when a write fails half way, what was written is put back.
    """
    manifest = _verified(backups / identity, known=listing_ids(backups))
    if Path(manifest.dest) != config.absolute():
        raise BackupError(f"backup {identity} was taken of {manifest.dest}, not of {config.absolute()}")
    source = backups / identity / "files"
    loader.validate_all(source)
    safety = create(config, backups, now)
    changed = _differences(config, source, manifest)
    try:
        _put(config, source, changed, {name: entry.bits() for name, entry in manifest.files.items()})
    except OSError as error:
        safe = safety.path / "files"
        previous = {name: entry.bits() for name, entry in _verified(safety.path).files.items()}
        _put(config, safe, changed, previous)
        raise BackupError(f"{error.filename}: {error.strerror}. The configuration is as it was") from error
    return safety, changed


def listing_ids(backups: Path) -> list[str]:
    """Ids of all backups, damaged ones too, oldest first."""
    matches = [_ID.fullmatch(path.name) for path in backups.iterdir()] if backups.is_dir() else []
    found = [(match[1], int(match[2] or 0), match[0]) for match in matches if match]
    return [identity for _time, _number, identity in sorted(found)]


def _differences(config: Path, source: Path, manifest: _Manifest) -> list[str]:
    present = set(_files(config))
    changed = present - set(manifest.files)
    for name, entry in manifest.files.items():
        path = config / name
        same = name in present and path.read_bytes() == (source / name).read_bytes()
        if not same or path.stat().st_mode & 0o7777 != entry.bits():
            changed.add(name)
    # The active environment last: until then, the old one is in force.
    return sorted(changed, key=lambda name: (name == layers.ACTIVE_FILE, name))


def _put(config: Path, source: Path, names: list[str], modes: dict[str, int]) -> None:
    for name in names:
        target = config / name
        if name not in modes:
            target.unlink(missing_ok=True)
            continue
        _make_directory(target.parent, config.stat())
        write_atomic(target, (source / name).read_bytes(), mode=modes[name])


def _verified(path: Path, known: list[str] | None = None) -> _Manifest:
    """The manifest of a backup whose files are all there and unchanged."""
    if known is not None and path.name not in known:
        raise BackupError(
            f"no backup {path.name!r} in {path.parent}. Known: {', '.join(known[-5:]) or 'none'}"
        )
    try:
        manifest = _Manifest.model_validate(json.loads((path / "manifest.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a manifest"
        raise BackupError(f"{path}/manifest.json: {reason}. Choose another backup") from error
    for name, entry in manifest.files.items():
        _verify_file(path / "files", name, entry)
    extra = sorted(set(_files(path / "files")) - set(manifest.files))
    if extra:
        raise BackupError(f"{path}/files/{extra[0]}: is not in the manifest. Choose another backup")
    return manifest


def _verify_file(root: Path, name: str, entry: _Entry) -> None:
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or str(pure) != name:
        raise BackupError(f"{root.parent}/manifest.json: {name!r} is not a path below the configuration")
    path = root / name
    try:
        if path.is_symlink() or hashlib.sha256(path.read_bytes()).hexdigest() != entry.sha256:
            raise BackupError(
                f"{path}: does not have the contents that were backed up. Choose another backup"
            )
    except OSError as error:
        raise BackupError(f"{path}: {error.strerror}. Choose another backup") from error

# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Installs a directory of text files as one: planned, validated beside the host's tree, then replaced."""

from __future__ import annotations

import contextlib
import datetime
import fnmatch
import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.citadel.llm.plugins.module_utils import _config_backup, _directory_tree, _files
from ansible_collections.citadel.llm.plugins.module_utils._directory_tree import (
    Access,
    Directory,
    Tree,
    TreeError,
)

VALIDATION_SECONDS = 120
_SECRET_LENGTH = 6
_UNKNOWN = -2  # the id of a user or group that does not exist yet


class ConfigError(Exception):
    """The wanted files, the host or the validator stand in the way. The message names what and the remedy."""


class ValidatorMissingError(ConfigError):
    """The validator's program is not on the host."""


@dataclass(frozen=True)
class Wanted:
    """The wanted content of `dest`: text by relative path, and access (owner and group by name or number).

    A directory_mode of None leaves directories that exist as they are; missing ones fit the files' mode.
    """

    dest: str
    files: Mapping[str, bytes]
    owner: str | None
    group: str | None
    mode: int
    directory_mode: int | None
    purge_patterns: Sequence[str] = ()


@dataclass(frozen=True)
class FileChange:
    """One file's difference. Content is None where the file is absent; access lists only what differs."""

    path: str
    before: bytes | None
    after: bytes | None
    access_before: Mapping[str, str] = field(default_factory=dict)
    access_after: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What has to be done to bring `wanted.dest` to its state."""

    wanted: Wanted
    directories: Sequence[_directory_tree.Change]
    files: Sequence[FileChange]
    uid: int
    gid: int

    @property
    def changed(self) -> bool:
        """Whether anything has to be done."""
        return bool(self.directories or self.files)


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Whether a relative path matches a glob: ``*`` stays in one directory, ``**`` crosses them."""

    def match(parts: list[str], pattern: list[str]) -> bool:
        if not pattern:
            return not parts
        if pattern[0] == "**":
            return any(match(parts[count:], pattern[1:]) for count in range(len(parts) + 1))
        return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and match(parts[1:], pattern[1:])

    return any(match(path.split("/"), pattern.split("/")) for pattern in patterns)


def check_paths(paths: Iterable[str]) -> None:
    """Raise ConfigError where a path is not a plain relative one, or is a file and a directory at once."""
    known = set(paths)
    for path in sorted(known):
        parts = path.split("/")
        if not all(parts) or {".", ".."} & set(parts) or "\0" in path:
            raise ConfigError(
                f"files: {path!r} is not a plain relative path: write it like 'models/chat.yaml'"
            )
        for count in range(1, len(parts)):
            above = "/".join(parts[:count])
            if above in known:
                raise ConfigError(
                    f"files: {above!r} is a file, and {path!r} needs it as a directory: rename one"
                )


def plan(wanted: Wanted, *, check: bool) -> Plan:
    """Compare the host with what is wanted. Raises ConfigError.

    With `check`, owners and groups that do not exist yet count as ones that will.
    """
    check_paths(wanted.files)
    parents = {
        parent
        for path in wanted.files
        for parent in _directory_tree.ancestors(os.path.join(wanted.dest, path))[wanted.dest.count("/") - 1 :]
    }
    try:
        directories = _plan_directories(wanted, parents, check=check)
    except TreeError as error:
        raise ConfigError(str(error)) from error
    uid, gid = _ids(wanted, check=check)
    changes = [_compare(wanted, path, uid, gid) for path in sorted(wanted.files)]
    changes += [FileChange(path, b"", None) for path in _surplus(wanted)]
    return Plan(wanted, directories, [change for change in changes if change is not None], uid, gid)


def _plan_directories(wanted: Wanted, paths: Iterable[str], *, check: bool) -> list[_directory_tree.Change]:
    mode = wanted.directory_mode
    if mode is None:
        readable = (wanted.mode | stat.S_IWUSR) & 0o777
        mode = readable | (readable & 0o444) >> 2  # whoever may read a file may search its directory
        paths = [path for path in paths if not os.path.isdir(path)]
    access = Access(wanted.owner, wanted.group, mode)
    tree = Tree(access, [Directory(path, access) for path in paths])
    return _directory_tree.plan(tree, check=check)


def _ids(wanted: Wanted, *, check: bool) -> tuple[int, int]:
    ids = []
    for resolve, name in ((_files.resolve_owner, wanted.owner), (_files.resolve_group, wanted.group)):
        try:
            ids.append(resolve(name))
        except LookupError as error:
            if not check:
                raise ConfigError(str(error.args[0])) from error
            ids.append(_UNKNOWN)
    return ids[0], ids[1]


def _status(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _compare(wanted: Wanted, path: str, uid: int, gid: int) -> FileChange | None:
    full = os.path.join(wanted.dest, path)
    status = _status(full)
    if status is None:
        return FileChange(path, None, wanted.files[path])
    if stat.S_ISLNK(status.st_mode):
        return FileChange(path, b"", wanted.files[path], {"link": os.readlink(full)}, {"link": "none"})
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{full} is not a file, but is to become one: move it away, then run again")
    with open(full, "rb") as stream:
        content = stream.read()
    before: dict[str, str] = {}
    after: dict[str, str] = {}
    if uid not in (-1, status.st_uid):
        before["owner"], after["owner"] = _files.owner_name(status.st_uid), str(wanted.owner)
    if gid not in (-1, status.st_gid):
        before["group"], after["group"] = _files.group_name(status.st_gid), str(wanted.group)
    if stat.S_IMODE(status.st_mode) != wanted.mode:
        before["mode"], after["mode"] = _files.format_mode(status.st_mode), _files.format_mode(wanted.mode)
    if content == wanted.files[path] and not after:
        return None
    return FileChange(path, content, wanted.files[path], before, after)


def _surplus(wanted: Wanted) -> list[str]:
    """The relative paths of files and links that the purge patterns match and that are not wanted."""
    found = []
    for parent, directories, names in os.walk(wanted.dest):
        links = [name for name in directories if os.path.islink(os.path.join(parent, name))]
        for name in names + links:
            path = os.path.relpath(os.path.join(parent, name), wanted.dest)
            if path not in wanted.files and matches(path, wanted.purge_patterns):
                found.append(path)
    return sorted(found)


def validate(wanted: Wanted, command: Sequence[str], *, temporary_directory: str | None = None) -> None:
    """Run the command on a staging directory that holds all wanted files: ``{dir}`` stands for it.

    Raises ConfigError with the command's output where it fails, ValidatorMissingError where it cannot start.
    """
    if not any("{dir}" in word for word in command):
        raise ConfigError("validate: no word contains {dir}, the directory to look at: add it to the command")
    program = shutil.which(command[0])
    if program is None:
        raise ValidatorMissingError(f"validate: the program {command[0]!r} is not here: install it first")
    staging = tempfile.mkdtemp(prefix="citadel-config-", dir=temporary_directory)
    try:
        for path, data in wanted.files.items():
            full = os.path.join(staging, path)
            os.makedirs(os.path.dirname(full), mode=0o700, exist_ok=True)
            with open(os.open(full, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
                stream.write(data)
        _run(program, [word.replace("{dir}", staging) for word in command], staging, wanted.dest)
    finally:
        shutil.rmtree(staging)


def _run(program: str, argv: list[str], staging: str, dest: str) -> None:
    try:
        result = subprocess.run(
            argv,
            executable=program,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=VALIDATION_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigError(
            f"validate: {argv[0]!r} did not end in {VALIDATION_SECONDS} s, none was replaced: run it by hand"
        ) from error
    except OSError as error:  # such as a script whose interpreter is not there
        raise ValidatorMissingError(f"validate: {program!r} cannot be started: {error.strerror}") from error
    if result.returncode != 0:
        output = result.stdout.decode(errors="replace").strip().replace(staging, dest)
        raise ConfigError(
            f"validate: {argv[0]!r} refused the files (status {result.returncode}), nothing was replaced."
            f" It said: {output or '(nothing)'}"
        )


def mask(text: str, secrets: Iterable[bytes]) -> str:
    """The text without the values that stand in the secret files, save for very short ones."""
    words: set[str] = set()
    for secret in secrets:
        for line in secret.decode(errors="replace").splitlines():
            words.add(line.strip())
            value = re.split(r"[:=]", line, maxsplit=1)[-1]  # names of settings may be shown
            words.update(re.split(r"[\s\"',;\[\]{}()]+", value))
    for word in sorted(words, key=len, reverse=True):
        if len(word) >= _SECRET_LENGTH:
            text = text.replace(word, "********")
    return text


def install(plan: Plan, *, backup_dir: str | None, backup_keep: int) -> str | None:
    """Do what is planned and return the path of the backup of the old tree, None where none was made.

    Everything is written beside its place before the first file is replaced, and removals come last, so an
    interrupted run can be run again. Raises ConfigError.
    """
    dest = plan.wanted.dest
    try:
        backup = None
        if backup_dir is not None:
            now = datetime.datetime.now(datetime.timezone.utc)
            backup = _config_backup.save(dest, backup_dir, keep=backup_keep, now=now)
        _directory_tree.apply(plan.directories)
        _replace(plan)
        for change in plan.files:
            if change.after is None:
                os.unlink(os.path.join(dest, change.path))
                _files.sync_directory(os.path.dirname(os.path.join(dest, change.path)))
    except (OSError, TreeError) as error:
        raise ConfigError(
            f"{dest} could not be installed: {error}: remove the cause and run again"
        ) from error
    return backup


def _replace(plan: Plan) -> None:
    staged: list[tuple[str, str]] = []
    try:
        for change in plan.files:
            if change.after is not None:
                path = os.path.join(plan.wanted.dest, change.path)
                temporary = _files.stage_file(
                    path, change.after, mode=plan.wanted.mode, uid=plan.uid, gid=plan.gid
                )
                staged.append((temporary, path))
        for temporary, path in staged:
            os.replace(temporary, path)
        for directory in sorted({os.path.dirname(path) for _temporary, path in staged}):
            _files.sync_directory(directory)
    except BaseException:
        for temporary, _path in staged:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        raise

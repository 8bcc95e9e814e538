"""Files that are replaced whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


def write_atomic(path: Path, content: bytes, *, mode: int | None = None) -> None:
    """Replace a file: write beside it, flush to disk, rename.

    The mode is the given one, else the old file's, else 0644. Run as root, the owner is the old file's or,
    for a new file, the directory's. Raises OSError and leaves the old file as it was.
    """
    try:
        _replace(path, content, mode)
    except OSError as error:
        # The name of the temporary file would tell nobody anything.
        raise type(error)(error.errno, error.strerror, str(path)) from error


def _replace(path: Path, content: bytes, mode: int | None) -> None:
    like = path.stat() if path.exists() else path.parent.stat()
    wanted = mode if mode is not None else (like.st_mode & 0o7777 if path.exists() else 0o644)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            os.fchmod(stream.fileno(), wanted)
            if os.geteuid() == 0:
                os.fchown(stream.fileno(), like.st_uid, like.st_gid)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
        raise
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Flush a directory's entries to disk, so that a rename survives a power failure."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks inside a model's files: weights that an engine would refuse are refused before they are installed."""

from __future__ import annotations

import json
import os
import struct
from typing import Any, Callable, Dict, Iterable, Optional

from ansible_collections.citadel.llm.plugins.module_utils._model_manifest import ManifestError

_POINTER = b"version https://git-lfs.github.com/spec/"
_LARGEST_POINTER = 1024
_LARGEST_HEADER = 100_000_000  # the limit of the safetensors format
_LARGEST_INDEX = 100_000_000


def check_files(paths: Iterable[str], locate: Callable[[str], Optional[str]]) -> None:
    """Refuse unusable weights. `locate` gives the file on this machine for a path, or None to skip it.

    Raises ManifestError for a pointer of Git LFS in place of a file, for a safetensors file whose header does
    not fit its content, and for an index that names a shard which is not among `paths`.
    """
    names = set(paths)
    for path in sorted(names):
        file = locate(path)
        if file is None:
            continue
        check_pointer(path, file)
        if path.endswith(".safetensors"):
            check_safetensors(path, file)
        elif path.endswith(".safetensors.index.json"):
            check_index(path, file, names)


def check_pointer(path: str, file: str) -> None:
    if os.path.getsize(file) > _LARGEST_POINTER:
        return
    with open(file, "rb") as stream:
        if stream.read(len(_POINTER)) == _POINTER:
            raise ManifestError(
                f"{path!r} is a pointer of Git LFS, not the file itself: "
                "run 'git lfs pull' in the clone that the model comes from"
            )


def check_safetensors(path: str, file: str) -> None:
    """Raise ManifestError unless the header describes exactly the bytes that follow it."""
    size = os.path.getsize(file)
    with open(file, "rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else None
        if length is None or length > min(size - 8, _LARGEST_HEADER):
            raise ManifestError(
                f"{path!r} is no whole safetensors file: {size} bytes cannot hold a header of {length}; "
                "fetch it again and compare its sha256 with the publisher's"
            )
        end = _data_end(path, stream.read(length))
    if end != size - 8 - length:
        raise ManifestError(
            f"{path!r} has {size - 8 - length} bytes of weights, but its header describes {end}: "
            "it was cut off or is damaged, fetch it again"
        )


def _data_end(path: str, header: bytes) -> int:
    """The number of bytes of weights that a safetensors header describes."""
    try:
        content: Dict[str, Any] = json.loads(header)
        tensors = [value for key, value in content.items() if key != "__metadata__"]
        return max((int(tensor["data_offsets"][1]) for tensor in tensors), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise ManifestError(
            f"{path!r} has a safetensors header that is not valid ({type(error).__name__}): fetch it again"
        ) from error


def check_index(path: str, file: str, names: "set[str]") -> None:
    """Raise ManifestError where an index of shards cannot be read or names one that is not there."""
    if os.path.getsize(file) > _LARGEST_INDEX:
        raise ManifestError(f"{path!r} is too large for an index of shards: {os.path.getsize(file)} bytes")
    try:
        with open(file, encoding="utf-8") as stream:
            shards = set(json.load(stream)["weight_map"].values())
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ManifestError(f"{path!r} is not a valid index of shards: fetch it again ({error!r})") from error
    folder = os.path.dirname(path)
    missing = sorted(shard for shard in shards if os.path.join(folder, str(shard)) not in names)
    if missing:
        raise ManifestError(
            f"{path!r} names {len(missing)} files that the model does not have, such as {missing[0]!r}: "
            "the copy is incomplete, fetch the model again"
        )

"""Whether an engine can start at all, told before it tries: an engine takes long to fail and says little."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

from citadel_llm.schema.settings import Deployment

MANIFEST = "manifest.json"
_WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt", ".pth")
_NOT_WEIGHTS = ("training_args.bin", "optimizer.bin", "scheduler.bin", "tokenizer.bin")
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


def problems(deployment: Deployment) -> list[str]:
    """Every reason why this deployment cannot start; empty when there is none."""
    found = model_problems(Path(deployment.path))
    found += _port_problems(deployment.host, deployment.port)
    return found


def weight_files(directory: Path) -> list[Path]:
    """The files that hold weights."""
    if not directory.is_dir():
        return []
    return sorted(p for p in directory.iterdir() if p.suffix in _WEIGHTS and p.name not in _NOT_WEIGHTS)


def weight_bytes(directory: Path) -> int:
    """Size of the weights in bytes; 0 when there are none."""
    return sum(path.stat().st_size for path in weight_files(directory))


def model_problems(directory: Path) -> list[str]:
    """What is wrong with a model's directory: missing, unreadable, incomplete, unlike its manifest."""
    if not directory.is_dir():
        target = f" (a link to {directory.readlink()})" if directory.is_symlink() else ""
        return [f"{directory}{target}: no such directory. Deploy the model, or correct the deployment's path"]
    found: list[str] = []
    try:
        weights = weight_files(directory)
        if not any(path.suffix == ".gguf" for path in weights):
            found += _config_problems(directory / "config.json")
        if not weights:
            found.append(f"{directory}: holds no weights ({', '.join(_WEIGHTS)}). Deploy the model again")
        found += [
            f"{path}: cannot be read by user id {os.geteuid()}"
            for path in weights
            if not os.access(path, os.R_OK)
        ]
        found += _index_problems(directory)
        found += _manifest_problems(directory)
    except OSError as error:
        found.append(f"{error.filename}: {error.strerror}")
    return found


def _config_problems(path: Path) -> list[str]:
    members, problem = _read_json(path)
    if problem:
        return [problem]
    if not isinstance(members, dict) or not (members.get("architectures") or members.get("model_type")):
        return [f"{path}: names no architecture: it is not the configuration of a model"]
    return []


def _index_problems(directory: Path) -> list[str]:
    found: list[str] = []
    for name in _INDEXES:
        path = directory / name
        if not path.exists():
            continue
        members, problem = _read_json(path)
        mapping = members.get("weight_map") if isinstance(members, dict) else None
        if problem or not isinstance(mapping, dict):
            found.append(problem or f"{path}: has no weight_map")
            continue
        missing = sorted({str(shard) for shard in mapping.values() if not (directory / str(shard)).is_file()})
        found += [
            f"{directory / shard}: missing, but {name} names it. Deploy the model again" for shard in missing
        ]
    return found


def _manifest_problems(directory: Path) -> list[str]:
    """Compare sizes with the store's manifest: `files` is a list of path, size and sha256."""
    path = directory / MANIFEST
    if not path.exists():
        return []
    members, problem = _read_json(path)
    files = members.get("files") if isinstance(members, dict) else None
    if problem or not isinstance(files, list):
        return [problem or f"{path}: has no list of files. Deploy the model again"]
    found: list[str] = []
    for entry in files:
        name, size = (entry.get("path"), entry.get("size")) if isinstance(entry, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(size, int):
            return [f"{path}: an entry has no path and size. Deploy the model again"]
        try:
            actual = (directory / name).stat().st_size
        except OSError as error:
            found.append(
                f"{directory / name}: {error.strerror}, but the manifest names it. Deploy the model again"
            )
            continue
        if actual != size:
            found.append(
                f"{directory / name}: has {actual} bytes, its manifest says {size}. Deploy the model again"
            )
    return found


def _port_problems(host: str, port: int) -> list[str]:
    try:
        family, kind, protocol, _name, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        return [f"{host}: cannot be resolved ({error.strerror}). Correct the deployment's host"]
    with socket.socket(family, kind, protocol) as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind(address)
        except OSError as error:
            remedy = f"See who listens: ss -ltnp 'sport = :{port}'"
            return [f"{host}:{port}: {error.strerror}. {remedy}"]
    return []


def _read_json(path: Path) -> tuple[Any, str | None]:
    try:
        return json.loads(path.read_text(encoding="utf-8")), None
    except OSError as error:
        return None, f"{path}: {error.strerror}. Deploy the model again"
    except ValueError as error:
        return None, f"{path}: not valid JSON ({error}). Deploy the model again"

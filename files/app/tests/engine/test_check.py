"""Reasons why an engine cannot start."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from citadel_llm.engine import check
from citadel_llm.schema.settings import Deployment


def write_manifest(directory: Path) -> None:
    files = [
        {"path": str(p.relative_to(directory)), "size": p.stat().st_size, "sha256": "0" * 64}
        for p in sorted(directory.rglob("*"))
        if p.is_file() and p.name != check.MANIFEST
    ]
    (directory / check.MANIFEST).write_text(json.dumps({"schema": 1, "files": files}))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small model that is complete: two shards, an index and a manifest."""
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for shard in shards:
        (directory / shard).write_bytes(b"\0" * 1000)
    index = {"weight_map": {"a": shards[0], "b": shards[1]}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    (directory / "training_args.bin").write_bytes(b"\0" * 77)
    write_manifest(directory)
    return directory


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def test_a_complete_model_and_a_free_port_have_no_problem(model: Path) -> None:
    deployment = Deployment(name="a", model="a", path=str(model), port=free_port())
    assert check.problems(deployment) == []
    assert check.weight_bytes(model) == 2000


def test_a_model_without_a_manifest_is_accepted(model: Path) -> None:
    (model / check.MANIFEST).unlink()
    assert check.model_problems(model) == []


def test_a_single_gguf_file_needs_no_configuration(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    assert check.model_problems(tmp_path) == []


def _truncate(model: Path) -> None:
    (model / "model-00002-of-00002.safetensors").write_bytes(b"\0" * 999)


def _no_weights(model: Path) -> None:
    (model / check.MANIFEST).unlink()
    for path in model.glob("*.safetensors*"):
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda m: (m / "config.json").unlink(),
            "config.json: No such file or directory. Deploy the model again",
        ),
        (lambda m: (m / "config.json").write_text("{"), "config.json: not valid JSON"),
        (lambda m: (m / "config.json").write_text("[]"), "config.json: names no architecture"),
        (
            lambda m: (m / "model-00001-of-00002.safetensors").unlink(),
            "00001-of-00002.safetensors: missing, but",
        ),
        (_truncate, "00002-of-00002.safetensors: has 999 bytes, its manifest says 1000"),
        (_no_weights, "holds no weights"),
        (lambda m: (m / "model.safetensors.index.json").write_text("{}"), "has no weight_map"),
        (lambda m: (m / check.MANIFEST).write_text("[]"), "manifest.json: has no list of files"),
        (lambda m: (m / check.MANIFEST).write_text('{"files": [{}]}'), "an entry has no path and size"),
    ],
)
def test_a_damaged_model_is_told(model: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(model)
    assert message in "\n".join(check.model_problems(model))


def test_a_missing_model_says_where_its_link_leads(tmp_path: Path) -> None:
    link = tmp_path / "current"
    link.symlink_to("v2")
    (problem,) = check.model_problems(link)
    assert problem.startswith(f"{link} (a link to v2): no such directory")
    (problem,) = check.model_problems(tmp_path / "none")
    assert "no such directory" in problem


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_port_in_use_is_told(model: Path, address: str) -> None:
    with socket.create_server((address, 0)) as server:
        port = server.getsockname()[1]
        deployment = Deployment(name="a", model="a", path=str(model), port=port)
        (problem,) = check.problems(deployment)
    assert problem == f"127.0.0.1:{port}: Address already in use. See who listens: ss -ltnp 'sport = :{port}'"


def test_a_host_that_is_not_ours_is_told(model: Path) -> None:
    deployment = Deployment(name="a", model="a", path=str(model), host="192.0.2.1", port=9000)
    (problem,) = check.problems(deployment)
    assert problem.startswith("192.0.2.1:9000: Cannot assign requested address")

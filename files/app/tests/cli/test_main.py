"""The command's root: help, errors, and how little it imports."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import click
import pytest

from citadel_llm import __version__
from citadel_llm.cli import main

HEAVY = {
    "pydantic",
    "rich",
    "yaml",
    "structlog",
    "aiohttp",
    "fastapi",
    "dbus_fast",
    "asyncio",
    "urllib.request",
}


def imported_by(*args: str, directory: Path) -> set[str]:
    """Modules that a run of the command has imported at its end."""
    program = (
        "import sys; from citadel_llm.cli.main import run; status = run(sys.argv[1:]);"
        "print('MODULES', *sorted(sys.modules)); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *args],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PYTHONPATH": ":".join(sys.path), "CITADEL_CONFIG_DIR": str(directory), "PATH": "/usr/bin:/bin"},
    )
    return set(done.stdout.rpartition("MODULES")[2].split())


def test_help_imports_no_command(config_dir: Path) -> None:
    modules = imported_by("--help", directory=config_dir)
    assert "click" in modules
    assert not modules & HEAVY
    assert not any(
        name.startswith("citadel_llm.") and not name.startswith("citadel_llm.cli") for name in modules
    )


@pytest.mark.parametrize("command", [("engine", "probe", "phi-3-mini"), ("config", "validate")])
def test_what_units_run_imports_no_server(config_dir: Path, command: tuple[str, ...]) -> None:
    modules = imported_by(*command, directory=config_dir)
    assert "pydantic" in modules
    assert not modules & {"rich", "aiohttp", "fastapi", "dbus_fast", "uvicorn", "uvloop", "urllib.request"}


@pytest.mark.parametrize("name", list(main._COMMANDS))
def test_every_command_has_its_own_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module, attribute, text = main._COMMANDS[name]
    command = getattr(importlib.import_module(module), attribute)
    assert isinstance(command, click.Command)
    assert command.name == name
    assert main.run([name, "--help"]) == 0
    assert f"citadel {name}" in capsys.readouterr().out
    assert text.endswith(".")


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {name} " in text for name in main._COMMANDS)


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"citadel, version {__version__}"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["statuss"], "no command 'statuss': did you mean 'status'?"),
        (["xyzzy"], "no command 'xyzzy': see citadel --help"),
        (["--wrong"], "No such option"),
        (["logs", "--lines", "x"], "'x' is not a valid integer"),
        (["config", "use"], "Missing argument 'ENVIRONMENT'"),
    ],
)
def test_wrong_usage_is_status_2(args: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(args) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            PermissionError(13, "Permission denied", "/opt/x"),
            "citadel: /opt/x: Permission denied. Run it with sudo, or as the service account\n",
        ),
        (
            ZeroDivisionError("oops"),
            "citadel: internal error: ZeroDivisionError: oops. CITADEL_DEBUG=1 shows where\n",
        ),
    ],
)
def test_errors_are_one_line(
    error: Exception, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    def failing() -> None:
        raise error

    monkeypatch.setattr(main, "cli", failing)
    monkeypatch.delenv("CITADEL_DEBUG", raising=False)
    assert main.run([]) == 1
    assert capsys.readouterr().err == message
    monkeypatch.setenv("CITADEL_DEBUG", "1")
    assert main.run([]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_missing_configuration_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CITADEL_CONFIG_DIR", str(tmp_path / "none"))
    assert main.run(["config", "validate"]) == 1
    assert capsys.readouterr().err == (
        f"citadel: {tmp_path}/none: no such directory (CITADEL_CONFIG_DIR). "
        "Name the configuration by CITADEL_CONFIG_DIR or CITADEL_HOME\n"
    )


def test_a_reader_that_goes_away_is_no_error(config_dir: Path) -> None:
    program = "from citadel_llm.cli.main import main; main()"
    done = subprocess.run(
        f"{sys.executable} -c '{program}' config schema | head -c 1",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"},
    )
    assert (done.stdout, done.stderr) == ("{", "")

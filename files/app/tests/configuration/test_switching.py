"""Switching environments, and files that are replaced whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from citadel_llm.configuration import switching
from citadel_llm.configuration.files import write_atomic
from citadel_llm.configuration.problems import ConfigurationError


def test_switching_names_what_was_active(config_dir: Path) -> None:
    before, settings = switching.use(config_dir, "development")
    assert before == "production"
    assert settings.logging.level == "debug"
    assert (config_dir / "environment").read_text() == "development\n"


def test_switching_to_what_is_active_writes_nothing(config_dir: Path) -> None:
    inode = (config_dir / "environment").stat().st_ino
    assert switching.use(config_dir, "production")[0] == "production"
    assert (config_dir / "environment").stat().st_ino == inode


def test_an_invalid_environment_is_refused(
    config_dir: Path, rewrite: Callable[[str, str, str], None]
) -> None:
    rewrite("environments/development.yaml", "level: debug", "level: loud")
    with pytest.raises(ConfigurationError, match="loud"):
        switching.use(config_dir, "development")
    assert (config_dir / "environment").read_text() == "production\n"


def test_the_first_environment_can_be_chosen(config_dir: Path) -> None:
    (config_dir / "environment").unlink()
    assert switching.use(config_dir, "production")[0] is None
    assert (config_dir / "environment").stat().st_mode & 0o777 == 0o644


def test_a_replaced_file_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o600)
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["file"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def failing(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError, match="Input/output error") as caught:
        write_atomic(path, b"new")
    assert caught.value.filename == str(path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]

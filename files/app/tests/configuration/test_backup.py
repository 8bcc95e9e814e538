"""Backups: complete or absent, verified before they are used."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from citadel_llm.configuration import backup, loader, switching
from citadel_llm.configuration import files as atomic
from citadel_llm.configuration.backup import BackupError
from citadel_llm.configuration.problems import ConfigurationError

Rewrite = Callable[[str, str, str], None]


def contents(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "backups"


def test_a_backup_holds_every_file_with_its_digest_and_mode(config_dir: Path, store: Path) -> None:
    (config_dir / "services" / "ai_models.yaml").chmod(0o640)
    (config_dir / "global" / ".citadel.yaml.ab12_x9z").write_text("unfinished")
    made = backup.create(config_dir, store)
    assert re.fullmatch(r"\d{8}T\d{6}Z", made.id)
    assert [path.name for path in store.iterdir()] == [made.id]
    manifest = json.loads((made.path / "manifest.json").read_text())
    assert manifest["dest"] == str(config_dir)
    (config_dir / "global" / ".citadel.yaml.ab12_x9z").unlink()
    expected = contents(config_dir)
    assert contents(made.path / "files") == expected
    assert {name: entry["sha256"] for name, entry in manifest["files"].items()} == {
        name: hashlib.sha256(content).hexdigest() for name, content in expected.items()
    }
    assert manifest["files"]["services/ai_models.yaml"]["mode"] == "0640"


def test_backups_within_a_second_are_numbered(config_dir: Path, store: Path) -> None:
    moment = datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC)
    made = [backup.create(config_dir, store, lambda: moment).id for _ in range(11)]
    assert made[:3] == ["20260131T235959Z", "20260131T235959Z-1", "20260131T235959Z-2"]
    assert [entry.id for entry in backup.listing(store)] == made
    assert all(
        entry.problem is None and entry.files == len(contents(config_dir)) for entry in backup.listing(store)
    )


def test_a_backup_grants_the_access_of_the_configuration(config_dir: Path, store: Path) -> None:
    config_dir.chmod(0o750)
    made = backup.create(config_dir, store)
    directories = [store, made.path, made.path / "files", made.path / "files" / "global"]
    assert {path.stat().st_mode & 0o777 for path in directories} == {0o750}
    assert (made.path / "manifest.json").stat().st_mode & 0o777 == 0o640


def test_what_a_killed_backup_left_is_removed(config_dir: Path, store: Path) -> None:
    old, young = store / f"{backup._PARTIAL}old", store / f"{backup._PARTIAL}young"
    for path in (old, young):
        (path / "backup").mkdir(parents=True)
    os.utime(old, (0, 0))
    backup.create(config_dir, store)
    assert (old.exists(), young.exists()) == (False, True)


def test_restoring_brings_everything_back(config_dir: Path, store: Path, rewrite: Rewrite) -> None:
    before = contents(config_dir)
    made = backup.create(config_dir, store)
    rewrite("services/api_gateway.yaml", "port: 8080", "port: 9090")
    switching.use(config_dir, "development")
    (config_dir / "global" / "metrics.yaml").chmod(0o600)
    (config_dir / "services" / "added.yaml").write_text("{}\n")
    changed_state = contents(config_dir)
    safety, changed = backup.restore(config_dir, store, made.id)
    assert contents(config_dir) == before
    assert (config_dir / "global" / "metrics.yaml").stat().st_mode & 0o777 == 0o644
    assert changed == [
        "global/metrics.yaml",
        "services/added.yaml",
        "services/api_gateway.yaml",
        "environment",
    ]
    assert contents(safety.path / "files") == changed_state


def test_a_broken_configuration_can_be_restored(config_dir: Path, store: Path, rewrite: Rewrite) -> None:
    made = backup.create(config_dir, store)
    rewrite("services/api_gateway.yaml", "port: 8080", "port: [")
    backup.restore(config_dir, store, made.id)
    assert loader.load(config_dir, environ={}).api_gateway.port == 8080


def test_a_directory_that_is_gone_is_made_again(config_dir: Path, store: Path) -> None:
    before = contents(config_dir)
    made = backup.create(config_dir, store)
    for path in (config_dir / "services").iterdir():
        path.unlink()
    (config_dir / "services").rmdir()
    backup.restore(config_dir, store, made.id)
    assert contents(config_dir) == before


def _flip(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"8080", b"8088"))


def _escape(path: Path) -> None:
    manifest = json.loads(path.read_text())
    manifest["files"]["../../escaped"] = next(iter(manifest["files"].values()))
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("files/services/api_gateway.yaml", _flip, "does not have the contents that were backed up"),
        ("files/services/api_gateway.yaml", Path.unlink, "No such file"),
        ("manifest.json", Path.unlink, r"manifest\.json: No such file"),
        ("manifest.json", lambda path: path.write_text("{}"), "not a manifest"),
        ("manifest.json", _escape, "is not a path below the configuration"),
        ("files/added.yaml", lambda path: path.write_text("{}"), "is not in the manifest"),
    ],
)
def test_a_damaged_backup_changes_nothing(
    config_dir: Path,
    store: Path,
    rewrite: Rewrite,
    file: str,
    damage: Callable[[Path], object],
    message: str,
) -> None:
    made = backup.create(config_dir, store)
    rewrite("services/api_gateway.yaml", "port: 8080", "port: 9090")
    before = contents(config_dir)
    damage(made.path / file)
    with pytest.raises(BackupError, match=message):
        backup.restore(config_dir, store, made.id)
    assert contents(config_dir) == before
    assert [entry.problem is not None for entry in backup.listing(store)] == [True]


def test_a_backup_that_is_no_longer_valid_changes_nothing(
    config_dir: Path, store: Path, rewrite: Rewrite
) -> None:
    rewrite("services/api_gateway.yaml", "port: 8080", "port: 70000")
    made = backup.create(config_dir, store)
    rewrite("services/api_gateway.yaml", "port: 70000", "port: 9090")
    before = contents(config_dir)
    with pytest.raises(ConfigurationError, match="70000"):
        backup.restore(config_dir, store, made.id)
    assert contents(config_dir) == before


def test_a_backup_of_another_directory_is_refused(config_dir: Path, store: Path) -> None:
    made = backup.create(config_dir, store)
    manifest = made.path / "manifest.json"
    manifest.write_text(manifest.read_text().replace(str(config_dir), "/elsewhere"))
    with pytest.raises(BackupError, match="was taken of /elsewhere"):
        backup.restore(config_dir, store, made.id)


@pytest.mark.parametrize("identity", ["20200101T000000Z", "../config", "", "."])
def test_an_unknown_backup_is_refused(config_dir: Path, store: Path, identity: str) -> None:
    made = backup.create(config_dir, store)
    with pytest.raises(BackupError, match=f"no backup .* Known: {made.id}"):
        backup.restore(config_dir, store, identity)


def test_a_write_that_fails_half_way_is_undone(
    config_dir: Path, store: Path, rewrite: Rewrite, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = backup.create(config_dir, store)
    rewrite("global/logging.yaml", "level: info", "level: debug")
    rewrite("services/api_gateway.yaml", "port: 8080", "port: 9090")
    before = contents(config_dir)
    failed: list[Path] = []

    def failing(path: Path, content: bytes, *, mode: int | None = None) -> None:
        if path == config_dir / "services" / "api_gateway.yaml" and not failed:
            failed.append(path)
            raise OSError(28, "No space left on device", str(path))
        atomic.write_atomic(path, content, mode=mode)

    monkeypatch.setattr(backup, "write_atomic", failing)
    with pytest.raises(BackupError, match=r"No space left on device. The configuration is as it was"):
        backup.restore(config_dir, store, made.id)
    assert failed
    assert contents(config_dir) == before


def test_a_backup_that_cannot_be_completed_leaves_nothing(
    config_dir: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(path: Path, content: bytes, *, mode: int | None = None) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(backup, "write_atomic", failing)
    with pytest.raises(BackupError, match="No space left on device"):
        backup.create(config_dir, store)
    assert list(store.iterdir()) == []


def test_the_directory_of_backups_is_in_the_settings(
    config_dir: Path, rewrite: Rewrite, tmp_path: Path
) -> None:
    assert backup.directory_for(config_dir, None) == Path("/opt/citadel/backups")
    assert backup.directory_for(config_dir, tmp_path) == tmp_path
    rewrite("global/citadel.yaml", "backups: /opt/citadel/backups", "backups: 7")
    with pytest.raises(BackupError, match="--backups DIR"):
        backup.directory_for(config_dir, None)

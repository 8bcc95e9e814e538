# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.citadel.llm.plugins.module_utils import _config_tree as backend
from ansible_collections.citadel.llm.plugins.module_utils import _files
from ansible_collections.citadel.llm.plugins.module_utils._config_tree import ConfigError, Wanted

REFUSE_BAD = """
import pathlib, sys
for path in sorted(pathlib.Path(sys.argv[1]).rglob("*")):
    if path.is_file() and "bad" in path.read_text():
        sys.exit(f"{path}: {path.read_text()}")
"""
VALIDATOR = [sys.executable, "-c", REFUSE_BAD, "{dir}"]


def wanted(dest: Path, files: dict[str, str], **settings: Any) -> Wanted:
    values: dict[str, Any] = {
        "owner": None,
        "group": None,
        "mode": 0o640,
        "directory_mode": 0o750,
        **settings,
    }
    return Wanted(str(dest), {path: text.encode() for path, text in files.items()}, **values)


def install(wish: Wanted) -> list[str]:
    """Plan in check mode, plan and install, and see that nothing is left to do."""
    predicted = backend.plan(wish, check=True)
    plan = backend.plan(wish, check=False)
    assert predicted.files == plan.files
    backend.install(plan, backup_dir=None, backup_keep=1)
    assert not backend.plan(wish, check=True).changed
    return [change.path for change in plan.files]


def tree(directory: Path) -> dict[str, str]:
    return {str(p.relative_to(directory)): p.read_text() for p in sorted(directory.rglob("*")) if p.is_file()}


def test_installs_and_changes_only_what_differs(tmp_path: Path) -> None:
    dest = tmp_path / "above" / "config"
    assert install(wanted(dest, {"a.yaml": "1\n", "models/b.yaml": "2\n"})) == ["a.yaml", "models/b.yaml"]
    (dest / "foreign").write_text("kept")
    inode = (dest / "a.yaml").stat().st_ino
    assert install(wanted(dest, {"a.yaml": "1\n", "models/b.yaml": "3\n"})) == ["models/b.yaml"]
    assert tree(dest) == {"a.yaml": "1\n", "models/b.yaml": "3\n", "foreign": "kept"}
    assert (dest / "a.yaml").stat().st_ino == inode
    assert {(dest / name).stat().st_mode & 0o7777 for name in (".", "models")} == {0o750}
    assert (dest / "a.yaml").stat().st_mode & 0o7777 == 0o640


@pytest.mark.parametrize(
    ("mode", "directory_mode"), [(0o644, 0o755), (0o640, 0o750), (0o600, 0o700), (0o440, 0o750)]
)
def test_without_directory_mode_only_missing_directories_are_made(
    tmp_path: Path, mode: int, directory_mode: int
) -> None:
    dest = tmp_path / "config"
    dest.mkdir()
    dest.chmod(0o711)
    install(wanted(dest, {"a": "1", "new/b": "2"}, mode=mode, directory_mode=None))
    assert dest.stat().st_mode & 0o777 == 0o711
    assert (dest / "new").stat().st_mode & 0o777 == directory_mode


def test_mends_access(tmp_path: Path) -> None:
    install(wanted(tmp_path / "c", {"a": "1"}))
    (tmp_path / "c" / "a").chmod(0o666)
    (tmp_path / "c").chmod(0o777)
    plan = backend.plan(wanted(tmp_path / "c", {"a": "1"}), check=True)
    (change,) = plan.files
    assert (change.access_before, change.access_after) == ({"mode": "0666"}, {"mode": "0640"})
    assert [entry.after for entry in plan.directories] == [{"mode": "0750"}]
    assert install(wanted(tmp_path / "c", {"a": "1"})) == ["a"]


def test_owner_that_does_not_exist_yet(tmp_path: Path) -> None:
    install(wanted(tmp_path / "c", {"a": "1"}))
    wish = wanted(tmp_path / "c", {"a": "1"}, owner="user-to-come", group="group-to-come")
    (change,) = backend.plan(wish, check=True).files
    assert change.access_after == {"owner": "user-to-come", "group": "group-to-come"}
    with pytest.raises(ConfigError, match="user-to-come"):
        backend.plan(wish, check=False)


def test_replaces_a_link_without_following_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("kept")
    dest = tmp_path / "c"
    dest.mkdir(mode=0o750)
    (dest / "a").symlink_to(outside)
    install(wanted(dest, {"a": ""}))
    assert outside.read_text() == "kept"
    assert (dest / "a").read_text() == ""
    assert not (dest / "a").is_symlink()


def test_refuses_what_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "c" / "a").mkdir(parents=True)
    with pytest.raises(ConfigError, match="a is not a file"):
        backend.plan(wanted(tmp_path / "c", {"a": "1"}), check=True)
    (tmp_path / "c" / "b").touch()
    with pytest.raises(ConfigError, match="b is a file, not a directory"):
        backend.plan(wanted(tmp_path / "c", {"b/x": "1"}), check=True)


@pytest.mark.parametrize("path", ["/a", "../a", "a/../b", "a//b", "a/", "", ".", "./a", "a\0b"])
def test_refuses_bad_paths(tmp_path: Path, path: str) -> None:
    with pytest.raises(ConfigError, match="not a plain relative path"):
        backend.plan(wanted(tmp_path, {path: "1"}), check=True)


def test_refuses_a_file_that_is_a_directory_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'a' is a file, and 'a/b/c' needs it"):
        backend.plan(wanted(tmp_path, {"a": "1", "a/b/c": "2"}), check=True)


@pytest.mark.parametrize(
    ("path", "pattern", "matched"),
    [
        ("a.yaml", "*.yaml", True),
        ("m/a.yaml", "*.yaml", False),
        ("m/a.yaml", "m/*", True),
        ("m/n/a.yaml", "**/*.yaml", True),
        ("a.yaml", "**/*.yaml", True),
        ("m/n/a", "m/**", True),
        ("x/m/n", "m/**", False),
    ],
)
def test_matches(path: str, pattern: str, matched: bool) -> None:
    assert backend.matches(path, [pattern]) is matched


def test_purges_what_is_no_longer_given(tmp_path: Path) -> None:
    dest = tmp_path / "c"
    install(wanted(dest, {"models/a.yaml": "1", "models/b.yaml": "2", "x.txt": "3"}))
    (dest / "models" / "link.yaml").symlink_to("/etc")
    wish = wanted(dest, {"models/a.yaml": "1"}, purge_patterns=["models/*.yaml"])
    assert install(wish) == ["models/b.yaml", "models/link.yaml"]
    assert tree(dest) == {"models/a.yaml": "1", "x.txt": "3"}


def test_purging_all_makes_no_directory(tmp_path: Path) -> None:
    assert install(wanted(tmp_path / "absent", {}, purge_patterns=["*"])) == []
    assert not (tmp_path / "absent").exists()


def test_validator_sees_all_new_files_and_no_others(tmp_path: Path) -> None:
    dest = tmp_path / "c"
    dest.mkdir()
    (dest / "unmanaged").write_text("bad")
    backend.validate(wanted(dest, {"a": "good", "m/b": "fine"}), VALIDATOR, temporary_directory=str(tmp_path))
    script = "import os, sys; sys.exit(str(sorted(os.listdir(sys.argv[1]))))"
    with pytest.raises(ConfigError, match=r"\['a', 'm'\]"):
        backend.validate(wanted(dest, {"a": "1", "m/b": "2"}), [sys.executable, "-c", script, "{dir}"])
    assert os.listdir(tmp_path) == ["c"]


def test_validator_refuses_with_its_words(tmp_path: Path) -> None:
    dest = tmp_path / "c"
    with pytest.raises(ConfigError, match=rf"nothing was replaced. It said: {dest}/m/b: bad thing"):
        backend.validate(wanted(dest, {"a": "good", "m/b": "bad thing"}), VALIDATOR)


def test_validator_that_cannot_start(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    for program in ("/no/such/program", "no-such-program", str(script)):
        with pytest.raises(backend.ValidatorMissingError, match=program):
            backend.validate(wanted(tmp_path, {}), [program, "{dir}"])


def test_validator_without_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no word contains \{dir\}"):
        backend.validate(wanted(tmp_path, {}), ["true"])


def test_validator_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "VALIDATION_SECONDS", 0.1)
    with pytest.raises(ConfigError, match=r"did not end in 0\.1 s"):
        backend.validate(wanted(tmp_path, {}), ["sh", "-c", "exec sleep 60", "{dir}"])


def test_mask_hides_values_and_keeps_names() -> None:
    value = secrets.token_urlsafe(16)
    text = f"api_key: '{value}' is too short; port is 80"
    masked = backend.mask(text, [f'api_key: "{value}"\nport: 80\n- x\n'.encode()])
    assert masked == "api_key: '********' is too short; port is 80"


def test_nothing_is_replaced_when_staging_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dest = tmp_path / "c"
    install(wanted(dest, {"a": "1", "b": "2"}))
    plan = backend.plan(wanted(dest, {"a": "3", "b": "4"}), check=False)
    stage = _files.stage_file

    def full_disk(path: str, data: bytes, **access: Any) -> str:
        if path.endswith("/b"):
            raise OSError(28, "No space left on device")
        return stage(path, data, **access)

    monkeypatch.setattr(_files, "stage_file", full_disk)
    with pytest.raises(ConfigError, match="No space left"):
        backend.install(plan, backup_dir=None, backup_keep=1)
    assert tree(dest) == {"a": "1", "b": "2"}


def test_interrupted_run_can_be_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dest = tmp_path / "c"
    install(wanted(dest, {"a": "1", "b": "2", "old": "0"}))
    wish = wanted(dest, {"a": "3", "b": "4"}, purge_patterns=["*"])
    replace = os.replace

    def interrupted(source: str, target: str) -> None:
        if target.endswith("/b"):
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            backend.install(backend.plan(wish, check=False), backup_dir=None, backup_keep=1)
    assert tree(dest) == {"a": "3", "b": "2", "old": "0"}
    assert install(wish) == ["b", "old"]

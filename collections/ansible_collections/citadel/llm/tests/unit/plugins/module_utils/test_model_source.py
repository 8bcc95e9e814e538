# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import io
import json
import os
import shutil
import struct
import subprocess
import tarfile
import zipfile

import pytest

from ansible_collections.citadel.llm.plugins.module_utils import _model_cache as caches
from ansible_collections.citadel.llm.plugins.module_utils import _model_manifest as manifests
from ansible_collections.citadel.llm.plugins.module_utils import _model_source as sources
from ansible_collections.citadel.llm.plugins.module_utils import _model_weights as weights
from ansible_collections.citadel.llm.plugins.module_utils._model_manifest import FileEntry, ManifestError

FILES = {"config.json": b"{}", "sub/part.bin": b"content" * 100}


@pytest.fixture
def model(tmp_path):
    root = tmp_path / "model"
    for path, content in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


# The manifest


def test_version_depends_on_paths_sizes_and_content_only(model, tmp_path):
    first = manifests.scan(str(model), source={"kind": "directory"})
    other = shutil.copytree(model, tmp_path / "elsewhere")
    assert manifests.scan(str(other)).version == first.version
    assert manifests.parse_manifest(first.to_json(), "x") == first
    (other / "config.json").write_bytes(b"[]")
    assert manifests.scan(str(other)).version != first.version
    (other / "config.json").write_bytes(b"{}")
    (other / "sub/part.bin").rename(other / "part.bin")
    assert manifests.scan(str(other)).version != first.version


def test_version_is_the_documented_digest():
    """Versions name directories on servers: the way they are computed cannot change unnoticed."""
    manifest = manifests.make_manifest([FileEntry("b", 1, "0" * 64), FileEntry("a", 2, "f" * 64)])
    assert manifest.version == "6f6f9173b9e524f6"


def test_what_lies_beside_a_model_is_left_out(model):
    for path in (".git/HEAD", ".cache/x", "manifest.json"):
        (model / path).parent.mkdir(exist_ok=True)
        (model / path).write_text("{}")
    assert set(manifests.scan(str(model)).by_path()) == set(FILES)


def test_links_inside_count_as_files_and_links_outside_are_refused(model, tmp_path):
    (model / "alias").symlink_to("sub/part.bin")
    assert manifests.scan(str(model)).by_path()["alias"].size == 700
    (tmp_path / "secret").write_text("x")
    (model / "leak").symlink_to(tmp_path / "secret")
    with pytest.raises(ManifestError, match=r"'leak' .* leads out of the model, to .*secret.*cp -rL"):
        manifests.scan(str(model))


@pytest.mark.parametrize("kind", ["pipe", "directory link"])
def test_other_things_than_files_are_refused(model, kind):
    if kind == "pipe":
        os.mkfifo(model / "odd")
    else:
        (model / "odd").symlink_to("sub")
    with pytest.raises(ManifestError, match=r"'odd' .*not a (regular )?file"):
        manifests.scan(str(model))


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a\nb", "", "a\\b", "manifest.json"]
)
def test_paths_that_leave_the_model_are_refused(path):
    with pytest.raises(ManifestError):
        manifests.make_manifest([FileEntry(path, 1, "0" * 64)])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"schema": 2}, "'schema' must be 1"),
        ({"version": "0" * 16}, "is altered"),
        ({"files": []}, "no files"),
        ({"files": [{"path": "a", "size": -1, "sha256": "0" * 64}]}, "size -1 of 'a'"),
        ({"files": [{"path": "a", "size": 1, "sha256": "X"}]}, "sha256 'X' of 'a'"),
        ({"files": [{"path": "a", "size": 1, "sha256": "0" * 64}] * 2}, "named twice"),
        ({"files": [{"path": p, "size": 1, "sha256": "0" * 64} for p in ("a", "a/b")]}, "as a file and as"),
        ({"files": ["a"]}, "not a mapping"),
    ],
)
def test_bad_manifests_are_refused(change, message):
    good = manifests.make_manifest([FileEntry("a", 1, "0" * 64)]).as_dict()
    with pytest.raises(ManifestError, match=message):
        manifests.parse_manifest(json.dumps({**good, **change}), "m.json")


def test_differences_name_each_file():
    def make(**files):
        return manifests.make_manifest(
            [FileEntry(path, size, f"{size:064x}") for path, size in files.items()]
        )

    changed = manifests.make_manifest(
        [FileEntry("a", 1, "f" * 64), FileEntry("b", 3, "0" * 64), FileEntry("d", 1, "0" * 64)]
    )
    lines = manifests.differences(make(a=1, b=2, c=1), changed)
    assert [line.split()[0] for line in lines] == ["a", "b", "c", "d"]
    assert manifests.differences(make(a=1), make(a=1)) == []


# The cache


def test_cache_hashes_again_only_what_changed(model, tmp_path):
    file, calls = str(model / "config.json"), []

    def compute(path):
        calls.append(path)
        return "result"

    for _round in range(2):
        cache = caches.Cache(str(tmp_path / "cache.json"))
        assert cache.value("k\0" + file, file, compute) == "result"
        cache.save()
    assert len(calls) == 1
    (model / "config.json").write_bytes(b"[]")
    caches.Cache(str(tmp_path / "cache.json")).value("k\0" + file, file, compute)
    assert len(calls) == 2


def test_a_broken_cache_costs_only_time(model, tmp_path):
    (tmp_path / "cache.json").write_text("{broken")
    cache = caches.Cache(str(tmp_path / "cache.json"))
    assert cache.sha256(str(model / "config.json")) == caches.sha256_file(model / "config.json")


def test_a_file_that_changes_while_it_is_read_is_refused(model):
    file = model / "config.json"
    with pytest.raises(ManifestError, match="was changed while it was read"):
        caches.Cache().value("k", str(file), lambda path: str(file.write_bytes(b"longer")))


# Archives


def pack(path, members):
    """An archive of (name or TarInfo, content) pairs, by the ending of its path."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members:
                archive.writestr(name, content)
        return path
    mode = "w:gz" if path.suffix in (".gz", ".tgz") else "w"
    with tarfile.open(path, mode) as archive:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tgz", ".zip"])
@pytest.mark.parametrize("prefix", ["", "./", "model-1.0/"])
def test_an_archive_makes_the_version_of_its_directory(model, tmp_path, ending, prefix):
    path = pack(tmp_path / f"x{ending}", [(prefix + name, content) for name, content in FILES.items()])
    tree = sources.open_tree(None, str(path))
    assert tree.manifest(caches.Cache()).version == manifests.scan(str(model)).version
    found = {}
    for name, file in tree.files(FILES, str(tmp_path)):
        with open(file, "rb") as stream:
            found[name] = stream.read()
    assert found == FILES
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".member")]


@pytest.mark.skipif(shutil.which("zstd") is None, reason="needs the command zstd")
def test_a_zstandard_archive(model, tmp_path):
    plain = pack(tmp_path / "x.tar", FILES.items())
    subprocess.run(["zstd", "-q", str(plain)], check=True)
    tree = sources.open_tree(None, str(plain) + ".zst")
    assert tree.manifest(caches.Cache()).version == manifests.scan(str(model)).version


def test_a_zstandard_archive_without_the_command(tmp_path, monkeypatch):
    (tmp_path / "x.tar.zst").write_bytes(b"")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ManifestError, match="install the package zstd"):
        sources.open_tree(None, str(tmp_path / "x.tar.zst")).manifest(caches.Cache())


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    "member, message",
    [
        ("../escape", "'../escape' leaves"),
        ("/etc/cron.d/x", "'/etc/cron.d/x' leaves"),
        (special("link", tarfile.SYMTYPE, "/etc/shadow"), "'link' .* link to '/etc/shadow'"),
        (special("hard", tarfile.LNKTYPE, "config.json"), "'hard' .* hard link"),
        (special("null", tarfile.CHRTYPE), "'null' .* character device"),
        (special("pipe", tarfile.FIFOTYPE), "'pipe' .* named pipe"),
    ],
)
def test_dangerous_members_of_a_tar_are_refused(tmp_path, member, message):
    path = pack(tmp_path / "x.tar", [("config.json", b"{}"), (member, b"")])
    with pytest.raises(ManifestError, match=message):
        sources.open_tree(None, str(path)).manifest(caches.Cache())


def test_dangerous_members_of_a_zip_are_refused(tmp_path):
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    for member, message in [(link, "'link' .* a link or a device"), ("../escape", "leaves")]:
        path = pack(tmp_path / "x.zip", [(member, b"/etc/shadow")])
        with pytest.raises(ManifestError, match=message):
            sources.open_tree(None, str(path)).manifest(caches.Cache())


@pytest.mark.parametrize("ending", [".tar.gz", ".zip"])
def test_a_cut_off_archive_is_refused(tmp_path, ending):
    path = pack(tmp_path / f"x{ending}", [("weights", os.urandom(100_000))])
    path.write_bytes(path.read_bytes()[:50_000])
    with pytest.raises(ManifestError, match="damaged or cut off"):
        sources.open_tree(None, str(path)).manifest(caches.Cache())


def test_an_unknown_kind_of_archive(tmp_path):
    with pytest.raises(ManifestError, match="no archive that can be read"):
        sources.open_tree(None, str(tmp_path / "x.rar"))


# Weights


def safetensors(tensors=None, data=b"\0" * 8, header=None):
    if header is None:
        header = json.dumps(tensors or {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    return struct.pack("<Q", len(header)) + header + data


def check(tmp_path, **files):
    paths = {name.replace("__", "."): content for name, content in files.items()}
    for name, content in paths.items():
        (tmp_path / name).write_bytes(content)
    weights.check_files(paths, lambda path: str(tmp_path / path))


def test_whole_weights_are_accepted(tmp_path):
    index = json.dumps({"weight_map": {"w": "model.safetensors"}}).encode()
    check(tmp_path, model__safetensors=safetensors(), model__safetensors__index__json=index, empty=b"")
    check(tmp_path, model__safetensors=safetensors(header=b'{"__metadata__": {}}', data=b""))


@pytest.mark.parametrize(
    "content, message",
    [
        (safetensors()[:-1], "7 bytes of weights, but its header describes 8"),
        (safetensors() + b"x", "9 bytes of weights"),
        (b"\xff" * 8 + b"{}", "cannot hold a header"),
        (b"abc", "cannot hold a header"),
        (safetensors(header=b"not json"), "not valid"),
        (safetensors(header=b"[]"), "not valid"),
        (safetensors({"w": {"shape": []}}), "not valid"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            "pointer of Git LFS.*git lfs pull",
        ),
    ],
)
def test_broken_weights_are_refused(tmp_path, content, message):
    with pytest.raises(ManifestError, match=r"'model.safetensors'.*" + message):
        check(tmp_path, model__safetensors=content)


@pytest.mark.parametrize(
    "index, message",
    [(b'{"weight_map": {"w": "b.safetensors"}}', "'b.safetensors'"), (b"[]", "not a valid index")],
)
def test_an_index_must_name_files_that_are_there(tmp_path, index, message):
    with pytest.raises(ManifestError, match=message):
        check(tmp_path, model__safetensors__index__json=index)

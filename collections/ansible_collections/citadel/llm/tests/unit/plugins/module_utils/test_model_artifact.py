# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tarfile

import pytest

from ansible_collections.citadel.llm.plugins.module_utils import _model_artifact as artifacts
from ansible_collections.citadel.llm.plugins.module_utils import _model_manifest as manifests
from ansible_collections.citadel.llm.plugins.module_utils import _model_staging as stagings
from ansible_collections.citadel.llm.plugins.module_utils import _model_store as stores
from ansible_collections.citadel.llm.plugins.module_utils._hub_rules import HubError
from ansible_collections.citadel.llm.plugins.module_utils._model_manifest import ManifestError
from ansible_collections.citadel.llm.plugins.module_utils._model_snapshot import HubSource
from ansible_collections.citadel.llm.plugins.module_utils._model_store import StoreError
from ansible_collections.citadel.llm.tests.unit.plugins.module_utils import hub_server

NAME = "tiny"
SHARED = b"shared by all versions" * 100


class Fixture:
    """A store and sources for it, all below one directory."""

    def __init__(self, tmp_path):
        self.tmp_path = tmp_path
        self.root = tmp_path / "store"
        self.directory = self.root / NAME

    def source(self, content=b"{}"):
        path = self.tmp_path / "source"
        shutil.rmtree(path, ignore_errors=True)
        (path / "sub").mkdir(parents=True)
        (path / "config.json").write_bytes(content)
        (path / "sub/shared.bin").write_bytes(SHARED)
        return str(path)

    def artifact(self, **options):
        return artifacts.Artifact(artifacts.Request(store=str(self.root), name=NAME, **options))

    def present(self, **options):
        return self.artifact(**options).present()

    def install(self, content=b"{}", **options):
        return self.present(directory=self.source(content), **options)

    def link(self):
        return os.readlink(self.directory / "current")

    def listing(self):
        """Every path below the store, but the lock and the hashes, with its mode."""
        found = {}
        for folder, folders, names in os.walk(self.root):
            for name in folders + names:
                path = os.path.join(folder, name)
                if not name.startswith(f".{NAME}."):
                    found[os.path.relpath(path, self.root)] = stat.S_IMODE(os.lstat(path).st_mode)
        return found


@pytest.fixture
def store(tmp_path):
    return Fixture(tmp_path)


def test_install_then_nothing(store):
    predicted = store.install(check_mode=True)
    assert predicted.changed and not store.root.exists()
    done = store.install()
    assert done.changed and done.version == predicted.version == done.after == store.link()
    version = done.version
    assert store.listing() == {
        ".incoming": 0o755,
        NAME: 0o755,
        f"{NAME}/current": 0o777,
        f"{NAME}/{version}": 0o555,
        f"{NAME}/{version}/config.json": 0o444,
        f"{NAME}/{version}/manifest.json": 0o444,
        f"{NAME}/{version}/sub": 0o555,
        f"{NAME}/{version}/sub/shared.bin": 0o444,
    }
    assert (store.directory / version / "sub/shared.bin").read_bytes() == SHARED
    assert not store.install(check_mode=True).changed
    assert not store.install().changed


def test_a_new_version_becomes_active_and_the_old_one_stays(store):
    first, second = store.install(b"1"), store.install(b"2")
    assert (second.before, second.after, second.previous) == (first.version, second.version, first.version)
    assert store.link() == second.version
    back = store.present(version=first.version)
    assert back.changed and store.link() == first.version and back.previous == second.version
    assert not store.present(version=first.version).changed


def test_a_version_can_wait_before_it_becomes_active(store):
    first = store.install(b"1")
    second = store.install(b"2", activate=False)
    assert second.changed and store.link() == first.version
    assert not store.install(b"2", activate=False).changed
    assert store.install(b"2").changed and store.link() == second.version


def test_content_of_another_version_is_not_stored_twice(store):
    first, second = store.install(b"1"), store.install(b"2")
    one, two = (os.stat(store.directory / v / "sub/shared.bin") for v in (first.version, second.version))
    assert one.st_ino == two.st_ino
    store.present(version=first.version)
    store.artifact(version=second.version).absent()
    assert (store.directory / first.version / "sub/shared.bin").read_bytes() == SHARED


def test_old_versions_are_pruned_but_never_the_current_and_the_previous(store):
    versions = [store.install(str(number).encode()).version for number in range(4)]
    predicted = store.install(b"3", keep=1, check_mode=True)
    assert sorted(predicted.removed) == sorted(versions[:2]) and predicted.changed
    done = store.install(b"3", keep=1)
    assert done.removed == predicted.removed
    assert sorted(store.artifact().store.versions()) == sorted(versions[2:])
    assert not store.install(b"3", keep=1).changed


# One flipped byte


def flip(path):
    status = os.stat(path)
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    os.chmod(path, 0o644)
    path.write_bytes(bytes(content))
    return status


def test_a_flipped_byte_is_refused_by_the_manifest_beside_the_files(store):
    source = store.tmp_path / "source"
    store.source()
    manifest = manifests.scan(str(source))
    (source / "manifest.json").write_text(manifest.to_json())
    assert store.present(directory=str(source), check_mode=True).version == manifest.version
    flip(source / "sub/shared.bin")
    with pytest.raises(ManifestError, match=r"sub/shared.bin has sha256"):
        store.present(directory=str(source))
    assert not store.directory.exists()


def test_a_flipped_byte_is_refused_by_each_expectation(store):
    manifest = manifests.scan(store.source())
    expectations = [
        {"expected": manifest},
        {"version": manifest.version},
        {"checksums": {"sub/shared.bin": manifest.by_path()["sub/shared.bin"].sha256}},
    ]
    flip(store.tmp_path / "source/sub/shared.bin")
    for expectation in expectations:
        with pytest.raises(ManifestError, match=r"shared.bin|makes version"):
            store.present(directory=str(store.tmp_path / "source"), **expectation)
    with pytest.raises(ManifestError, match="no file 'other'"):
        store.present(directory=str(store.tmp_path / "source"), checksums={"other": "0" * 64})
    assert not store.directory.exists()


def test_verified_names_a_flipped_byte_even_with_its_old_times(store):
    done = store.install()
    assert store.artifact().verified().version == done.version
    path = store.directory / done.version / "sub/shared.bin"
    status = flip(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(StoreError, match=r"sub/shared.bin has sha256 .*install it again"):
        store.artifact().verified()


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "add"])
def test_present_replaces_a_damaged_version(store, damage):
    done = store.install()
    path = store.directory / done.version / "sub/shared.bin"
    if damage == "flip":
        flip(path)
    elif damage == "cut":
        os.truncate(path, 3)
    else:
        os.chmod(path.parent, 0o755)
        path.unlink() if damage == "remove" else (path.parent / "extra").write_text("x")
    with pytest.raises(StoreError, match="is damaged"):
        store.present(version=done.version)
    assert store.install(check_mode=True).changed
    again = store.install()
    assert again.changed and "was damaged and is replaced" in again.warnings[0]
    assert store.artifact().verified().version == done.version
    assert not store.install().changed


def test_modes_are_put_right(store):
    done = store.install()
    os.chmod(store.directory / done.version / "config.json", 0o666)
    assert store.install(check_mode=True).changed
    assert store.install().changed
    assert store.listing()[f"{NAME}/{done.version}/config.json"] == 0o444
    assert not store.install().changed


# What the controller transfers


def transfer(store, plan, paths):
    """Send as the controller does, and say that it is done."""
    entries = plan.manifest.by_path()
    for path in paths:
        shutil.copy(store.tmp_path / "source" / path, os.path.join(plan.upload, entries[path].sha256))


def commit(store, plan):
    return store.present(pushed=plan.manifest, committing=True, upload=plan.upload)


def test_the_controller_sends_only_what_is_missing(store):
    manifest = manifests.scan(store.source())
    first = store.present(pushed=manifest)
    assert first.missing == ["config.json", "sub/shared.bin"] and not store.directory.exists()
    transfer(store, first, ["config.json"])
    second = store.present(pushed=manifest)
    assert second.missing == ["sub/shared.bin"]
    transfer(store, second, second.missing)
    done = commit(store, second)
    assert done.changed and not done.missing and store.link() == manifest.version
    assert not os.path.exists(second.upload)
    assert not store.present(pushed=manifest).changed
    other = manifests.scan(store.source(b"second"))
    assert store.present(pushed=other).missing == ["config.json"]


def test_a_run_that_lives_on_does_not_disturb_the_next_one(store):
    manifest = manifests.scan(store.source())
    old = store.present(pushed=manifest)
    with open(os.path.join(old.upload, manifest.by_path()["sub/shared.bin"].sha256), "wb") as stream:
        stream.write(SHARED[:10])
        stream.flush()
        new = store.present(pushed=manifest)
        assert new.missing == old.missing and os.path.isdir(old.upload)
        transfer(store, new, ["sub/shared.bin"])
        stream.write(SHARED[10:])
    transfer(store, old, ["config.json"])
    assert commit(store, old).changed
    transfer(store, new, ["config.json"])
    assert not commit(store, new).changed
    assert set(os.listdir(store.root / ".incoming")) == {f".{NAME}.lock", f".{NAME}.hashes"}


def test_what_a_dead_run_left_is_removed(store):
    manifest = manifests.scan(store.source())
    dead = store.present(pushed=manifest)
    part = os.path.join(dead.upload, manifest.by_path()["sub/shared.bin"].sha256)
    with open(part, "wb") as stream:
        stream.write(SHARED[:10])
    os.utime(part, (1, 1))
    store.present(pushed=manifest)
    assert not os.path.exists(part) and os.path.exists(dead.upload)
    os.utime(dead.upload, (1, 1))
    store.present(pushed=manifest)
    assert not os.path.exists(dead.upload)


def test_a_byte_flipped_on_the_way_is_refused_and_sent_again(store):
    manifest = manifests.scan(store.source())
    plan = store.present(pushed=manifest)
    transfer(store, plan, plan.missing)
    sent = store.tmp_path / plan.upload / manifest.by_path()["sub/shared.bin"].sha256
    flip(sent)
    with pytest.raises(ManifestError, match=r"sub/shared.bin was damaged on its way .* run again"):
        commit(store, plan)
    assert not store.directory.exists() and not os.path.exists(plan.upload)
    assert store.present(pushed=manifest).missing == ["sub/shared.bin"]


def test_what_is_sent_cannot_be_a_link(store):
    manifest = manifests.scan(store.source())
    plan = store.present(pushed=manifest)
    transfer(store, plan, ["config.json"])
    os.symlink(
        store.tmp_path / "source/sub/shared.bin",
        os.path.join(plan.upload, manifest.by_path()["sub/shared.bin"].sha256),
    )
    with pytest.raises(ManifestError, match=r"sub/shared\.bin was damaged"):
        commit(store, plan)


def test_only_a_directory_of_the_store_is_removed_after_a_transfer(store):
    manifest = manifests.scan(store.source())
    store.install()
    store.present(pushed=manifest, committing=True, upload=str(store.tmp_path / "source"))
    assert (store.tmp_path / "source/config.json").exists()


# Interruptions


@pytest.mark.parametrize("step", ["link_or_copy", "replace_link", "sync_directory", "write_atomic"])
def test_an_interrupted_run_can_be_run_again(store, monkeypatch, step):
    first = store.install(b"1")
    with monkeypatch.context() as patch:

        def interrupt(*arguments, **options):
            raise KeyboardInterrupt

        patch.setattr(stores, step, interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.install(b"2")
    assert store.link() == first.version
    assert store.artifact().verified().version == first.version
    second = store.install(b"2")
    assert second.changed and store.link() == second.version
    assert store.artifact().verified().version == second.version
    assert os.listdir(store.root / ".incoming") and not store.artifact().store.staging.partial_bytes("x")
    assert not [path for path in store.listing() if "tree" in path or "removed" in path]


def test_an_interrupted_removal_is_completed(store, monkeypatch):
    store.install()
    with monkeypatch.context() as patch:
        patch.setattr(stores, "remove_tree", lambda path: None)
        store.artifact().absent()
    assert not store.directory.exists()
    store.install()
    assert not (store.root / ".incoming" / f".{NAME}.removed").exists()


def test_one_run_at_a_time(store, monkeypatch):
    store.install()
    monkeypatch.setattr(stagings, "_LOCK_WAIT_S", 0.1)
    with open(store.root / ".incoming" / f".{NAME}.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(stagings.StagingError, match="another run is at work"):
            store.install()


# Refusals


def test_too_little_space_is_told_with_both_numbers(store):
    size = 10**18
    with pytest.raises(StoreError, match=rf"has \d+ bytes free .* 2202 more .* {size} stay in reserve"):
        store.install(reserve=size)
    assert not store.directory.exists()
    assert "bytes free" in store.install(reserve=size, check_mode=True).warnings[0]


@pytest.mark.parametrize("name", ["", ".", "..", ".incoming", "a/b", "a b", "-x", "current", "x" * 129])
def test_bad_names_are_refused(name):
    with pytest.raises(StoreError, match="not valid"):
        stores.ModelStore("/store", name)


def test_unusable_weights_are_refused_before_they_are_installed(store):
    source = store.source()
    with open(os.path.join(source, "model.safetensors"), "wb") as stream:
        stream.write(b"\xff" * 20)
    with pytest.raises(ManifestError, match=r"'model.safetensors' is no whole safetensors file"):
        store.present(directory=source)
    assert not store.directory.exists()


def test_a_version_that_is_not_installed(store):
    done = store.install()
    with pytest.raises(StoreError, match=f"version {'0' * 16} .*installed: {done.version}"):
        store.present(version="0" * 16)
    with pytest.raises(StoreError, match="'latest' is not valid"):
        store.present(version="latest")


def test_something_else_in_the_place_of_the_link(store):
    (store.directory / "current").mkdir(parents=True)
    with pytest.raises(StoreError, match="is not a link"):
        store.install()


def test_a_source_that_is_not_there(store):
    missing = str(store.tmp_path / "missing")
    with pytest.raises(ManifestError, match="missing does not exist"):
        store.present(directory=missing)
    predicted = store.present(directory=missing, check_mode=True)
    assert predicted.changed and predicted.version is None


# Absent


def test_absent(store):
    assert not store.artifact().absent().changed
    first, second = store.install(b"1"), store.install(b"2")
    with pytest.raises(StoreError, match="is active: activate another one first"):
        store.artifact(version=second.version).absent()
    assert store.artifact(version=first.version, check_mode=True).absent().changed
    assert store.artifact(version=first.version).absent().removed == [first.version]
    assert not store.artifact(version=first.version).absent().changed
    assert store.artifact(check_mode=True).absent().changed and store.directory.exists()
    assert store.artifact().absent().changed
    assert set(store.listing()) == {".incoming"}
    assert not store.artifact().absent().changed


# Archives and hubs


def test_an_archive_on_the_host(store):
    source = store.source()
    with tarfile.open(store.tmp_path / "model.tar.gz", "w:gz") as archive:
        archive.add(source, "tiny-1.0")
    path = str(store.tmp_path / "model.tar.gz")
    with pytest.raises(ManifestError, match=r"model.tar.gz has sha256"):
        store.present(archive=path, archive_sha256="0" * 64)
    done = store.present(archive=path)
    assert done.changed and done.version == manifests.scan(source).version
    assert not store.present(archive=path).changed


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    behaviour = hub_server.Behaviour(
        small={"config.json": b"{}", "copy.json": b"{}"}, large={"a.bin": SHARED, "b.bin": SHARED * 50}
    )
    with hub_server.running(behaviour) as url:
        behaviour.source = HubSource(hub_server.REPOSITORY, hub_server.COMMIT, url, token="t", timeout_s=5)
        yield behaviour


def test_a_snapshot_of_a_hub(store, hub):
    assert store.present(hub=hub.source, check_mode=True).changed
    assert hub.requests == []
    done = store.present(hub=hub.source)
    root = store.directory / done.version
    assert (root / "b.bin").read_bytes() == SHARED * 50 and (root / "copy.json").read_bytes() == b"{}"
    assert done.manifest.source["revision"] == hub_server.COMMIT and "token" not in str(done.manifest.source)
    asked = len(hub.requests)
    assert not store.present(hub=hub.source).changed
    assert not store.present(hub=hub.source, check_mode=True).changed
    assert len(hub.requests) == asked


def test_an_interrupted_download_goes_on(store, hub, monkeypatch):
    hub.drop_after, hub.drops, hub.ranges = 30_000, 99, False
    with monkeypatch.context() as patch:
        patch.setattr("time.sleep", lambda seconds: None)
        patch.setattr("ansible_collections.citadel.llm.plugins.module_utils._hub.Hub._pause", lambda *a: None)
        with pytest.raises(HubError, match=r"'b.bin' stopped at 30000"):
            store.present(hub=hub.source)
    assert not store.directory.exists()
    hub.drops, hub.ranges, hub.requests[:] = 0, True, []
    assert store.present(hub=hub.source).changed
    storage = [(asked.path, asked.range) for asked in hub.requests if asked.role == "storage"]
    assert storage == [("/b.bin", "bytes=30000-")]


def test_a_snapshot_takes_what_another_version_has(store, hub):
    store.install()
    store.present(hub=hub.source)
    assert "/a.bin" not in [asked.path for asked in hub.requests if asked.role == "storage"]


def test_a_moved_branch_makes_a_new_version(store, hub):
    source = HubSource(
        hub_server.REPOSITORY, "main", hub.source.endpoint, allow_moving_revision=True, timeout_s=5
    )
    first = store.present(hub=source)
    assert not store.present(hub=source).changed
    hub.small["config.json"] = b"[]"
    second = store.present(hub=source)
    assert second.changed and second.version != first.version


def test_a_snapshot_with_a_path_that_leaves_the_model(store, hub):
    hub.small["../escape"] = b"x"
    with pytest.raises(ManifestError, match=r"'../escape' leaves"):
        store.present(hub=hub.source)

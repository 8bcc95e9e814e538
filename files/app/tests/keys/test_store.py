"""API keys: kept as hashes, brought to a desired state, never shown."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from citadel_llm.keys.desired import Changes, parse_desired
from citadel_llm.keys.records import ApiKeyError, new_key, read_key_file
from citadel_llm.keys.store import KeyStore


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path)


def sync(store: KeyStore, *desired: dict[str, Any], **options: bool) -> Changes:
    return store.sync(parse_desired(json.dumps(desired)), **options)


def tree(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def test_a_new_key_is_long_random_and_recognisable() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(re.fullmatch(r"sk-citadel-[A-Za-z0-9_-]{43}", key) for key in keys)


def test_a_key_is_kept_as_a_hash_and_its_text_for_the_owner_alone(store: KeyStore, tmp_path: Path) -> None:
    expires = datetime(2030, 1, 1, tzinfo=UTC)
    store.create("web", expires=expires, note="the shop")
    text = store.key_path("web").read_text()
    key = text.strip()
    assert text == key + "\n"
    (record,) = store.records()
    assert record.hash == "sha256:" + hashlib.sha256(key.encode()).hexdigest()
    assert key.startswith(record.prefix)
    assert (record.id, record.expires, record.note, record.disabled) == ("web", expires, "the shop", False)
    assert key not in store.path.read_text()
    assert store.path.stat().st_mode & 0o777 == 0o600
    assert store.key_path("web").stat().st_mode & 0o777 == 0o600
    assert store.key_path("web").parent.stat().st_mode & 0o777 == 0o700
    with pytest.raises(ApiKeyError, match="there is a key 'web' already"):
        store.create("web")
    assert store.key_path("web").read_text() == text


def test_a_given_key_is_written_nowhere(store: KeyStore, tmp_path: Path) -> None:
    key = new_key()
    store.create("web", key=key)
    assert list(tree(tmp_path)) == ["api_keys.json"]
    assert key not in store.path.read_text()


def test_sync_brings_keys_to_their_state_once(store: KeyStore, tmp_path: Path) -> None:
    given = new_key()
    desired = [
        {"id": "made"},
        {"id": "given", "key": given, "note": "n"},
        {"id": "off", "state": "disabled"},
        {"id": "never", "state": "absent"},
    ]
    changes = sync(store, *desired)
    assert changes.as_dict() == {
        "changed": True,
        "created": ["made", "given", "off"],
        "updated": [],
        "removed": [],
        "key_files": {name: str(tmp_path / "keys" / f"{name}.key") for name in ("made", "off")},
    }
    assert given not in json.dumps(changes.as_dict())
    before = tree(tmp_path)
    again = sync(store, *desired)
    assert (again.changed, again.created, again.key_files) == (False, [], changes.key_files)
    assert tree(tmp_path) == before
    assert {record.id: record.disabled for record in store.records()} == {
        "made": False,
        "given": False,
        "off": True,
    }


def test_check_predicts_the_same_and_writes_nothing(store: KeyStore, tmp_path: Path) -> None:
    sync(store, {"id": "old"}, {"id": "rotated", "key": new_key()})
    before = tree(tmp_path)
    desired = [{"id": "new"}, {"id": "rotated", "key": new_key()}, {"id": "old", "state": "absent"}]
    predicted = sync(store, *desired, check=True)
    assert tree(tmp_path) == before
    assert sync(store, *desired) == predicted
    assert (predicted.created, predicted.updated, predicted.removed) == (["new"], ["rotated"], ["old"])


def test_check_works_before_the_directory_exists(tmp_path: Path) -> None:
    assert sync(KeyStore(tmp_path / "later"), {"id": "a"}, check=True).created == ["a"]
    with pytest.raises(ApiKeyError, match="later: cannot be opened"):
        sync(KeyStore(tmp_path / "later"), {"id": "a"})


def test_a_key_that_is_removed_or_replaced_leaves_no_text(store: KeyStore) -> None:
    sync(store, {"id": "a"}, {"id": "b"}, {"id": "c"})
    sync(store, {"id": "a", "state": "absent"}, {"id": "b", "key": new_key()})
    assert [store.key_path(name).exists() for name in "abc"] == [False, False, True]


def test_keys_that_are_not_named_stay_unless_told(store: KeyStore) -> None:
    sync(store, {"id": "a"}, {"id": "b"})
    assert not sync(store, {"id": "a"}).changed
    assert sync(store, {"id": "a"}, exclusive=True).removed == ["b"]


def test_an_interrupted_run_can_be_run_again(store: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_records: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(store, "_write", interrupted)
        sync(store, {"id": "a"})
    text = store.key_path("a").read_text().strip()
    assert store.records() == ()
    assert sync(store, {"id": "a"}).created == ["a"]
    assert store.key_path("a").read_text().strip() == text
    assert store.records()[0].hash.endswith(hashlib.sha256(text.encode()).hexdigest())


def test_a_key_can_be_disabled_and_removed(store: KeyStore) -> None:
    store.create("a")
    assert store.revoke("a") is True
    assert store.revoke("a") is False
    assert store.records()[0].disabled
    assert store.revoke("a", remove=True) is True
    assert store.records() == ()
    assert not store.key_path("a").exists()
    with pytest.raises(ApiKeyError, match="there is no key 'a'"):
        store.revoke("a")


@pytest.mark.parametrize(
    ("desired", "reason"),
    [
        ("{", "not JSON"),
        ('{"id": "a"}', "Input should be a valid list"),
        ('[{"id": "../a"}]', "0.id"),
        ('[{"id": "a", "state": "gone"}]', "0.state"),
        ('[{"id": "a", "colour": 1}]', "0.colour"),
        ('[{"id": "a"}, {"id": "a"}]', "'a' appears twice"),
        ('[{"id": "a", "expires": "2030-01-01T00:00:00"}]', "0.expires"),
    ],
)
def test_a_wrong_wish_is_refused_with_its_place(desired: str, reason: str) -> None:
    with pytest.raises(ApiKeyError) as caught:
        parse_desired(desired)
    assert reason in str(caught.value)


def test_weak_or_shared_keys_are_refused_and_not_repeated(store: KeyStore, tmp_path: Path) -> None:
    shared = new_key()
    for desired, reason in (
        ([{"id": "a", "key": "hunter2-hunter2"}], "has 15 characters; between 32 and 256"),
        ([{"id": "a", "key": "x y" * 20}], "only visible ASCII characters"),
        ([{"id": "a", "key": shared}, {"id": "b", "key": shared}], "keys a, b have the same text"),
    ):
        with pytest.raises(ApiKeyError) as caught:
            sync(store, *desired)
        assert reason in str(caught.value)
        assert str(desired[0]["key"]) not in str(caught.value)
    assert tree(tmp_path) == {}


def test_a_broken_key_file_is_named_and_kept(store: KeyStore) -> None:
    store.path.write_text('{"schema": 1, "keys": [{"id": "a"}]}')
    with pytest.raises(ApiKeyError, match=r"api_keys\.json: keys\.0\.prefix: Field required.*restore it"):
        sync(store, {"id": "b"})
    assert "prefix" not in store.path.read_text()
    with pytest.raises(ApiKeyError, match="schema: "):
        store.path.write_text('{"schema": 2, "keys": []}')
        read_key_file(store.path)

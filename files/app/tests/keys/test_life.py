"""What happens to a key after it was made: a pepper, other rights, a new text."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from citadel_llm.gateway.errors import ApiError
from citadel_llm.gateway.identity.keys import KeyTable
from citadel_llm.keys.desired import Changes, parse_desired
from citadel_llm.keys.records import ApiKeyError, new_key
from citadel_llm.keys.store import KeyStore
from citadel_llm.routing.build import build
from citadel_llm.schema.access import Access
from citadel_llm.schema.key_hash import pepper_name


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path)


def sync(store: KeyStore, *desired: dict[str, Any], **options: bool) -> Changes:
    return store.sync(parse_desired(json.dumps(desired)), **options)


def text_of(store: KeyStore, id_: str = "web") -> str:
    return store.key_path(id_).read_text().strip()


def accepted(store: KeyStore, text: str, later: timedelta = timedelta()) -> str | None:
    """The id under which the gateway accepts a key, built from the store as the snapshot is."""
    snapshot, _ = build([], store.records(), None)
    now = (datetime.now(UTC) + later).timestamp()
    try:
        return KeyTable(snapshot.keys, store.peppers()).find(text.encode(), now).id
    except ApiError:
        return None


def test_the_pepper_is_made_once_and_only_the_owner_can_read_it(store: KeyStore, tmp_path: Path) -> None:
    assert store.peppers() == ()
    assert store.make_pepper(check=True)
    assert not store.pepper_path.exists()
    assert store.make_pepper()
    before = store.pepper_path.read_text()
    assert store.pepper_path.stat().st_mode & 0o777 == 0o600
    assert not store.make_pepper()
    assert not store.make_pepper(check=True)
    assert store.pepper_path.read_text() == before
    store.pepper_path.write_text("nonsense")
    with pytest.raises(ApiKeyError, match=r"gateway_pepper: line 1 is not a pepper.*restore it"):
        store.create("web")
    assert store.pepper_path.read_text() == "nonsense"


def test_keys_from_before_the_pepper_stay_valid_and_move_under_it_where_their_text_is_known(
    store: KeyStore,
) -> None:
    given, unknown = new_key(), new_key()
    desired = [{"id": "made"}, {"id": "given", "key": given}]
    sync(store, *desired)
    store.create("unknown", key=unknown)
    store.make_pepper()
    texts = {"made": text_of(store, "made"), "given": given, "unknown": unknown}
    assert {accepted(store, text) for text in texts.values()} == set(texts)
    assert sync(store, *desired, check=True).updated == ["made", "given"]
    assert sync(store, *desired).updated == ["made", "given"]
    assert not sync(store, *desired).changed
    names = {record.id: pepper_name(record.hash) for record in store.records()}
    (pepper,) = store.peppers()
    assert names == {"made": pepper.name, "given": pepper.name, "unknown": None}
    assert {accepted(store, text) for text in texts.values()} == set(texts)
    assert text_of(store, "made") == texts["made"]


def test_a_second_pepper_takes_over(store: KeyStore) -> None:
    store.make_pepper()
    store.create("web")
    old = store.pepper_path.read_text()
    store.pepper_path.write_text(secrets.token_hex(32) + "\n" + old)
    assert accepted(store, text_of(store)) == "web"
    assert sync(store, {"id": "web"}).updated == ["web"]
    assert pepper_name(store.records()[0].hash) == store.peppers()[0].name
    assert accepted(store, text_of(store)) == "web"


def test_a_rotated_key_keeps_what_it_may_do_and_its_old_text_for_a_time(store: KeyStore) -> None:
    store.make_pepper()
    access = Access.model_validate({"models": ["smol"], "limits": {"requests_per_minute": 5}})
    store.create("web", access=access, note="shop")
    old = text_of(store)
    record = store.rotate("web", timedelta(hours=1))
    new = text_of(store)
    assert old != new
    assert (record.note, record.models, record.limits) == ("shop", ("smol",), access.limits)
    for text, later, found in (
        (old, timedelta(minutes=59), "web"),
        (old, timedelta(minutes=61), None),
        (new, timedelta(days=999), "web"),
    ):
        assert accepted(store, text, later) == found
    store.rotate("web", timedelta(hours=2))
    assert [accepted(store, text) for text in (old, new, text_of(store))] == ["web"] * 3
    before = text_of(store)
    store.rotate("web", timedelta())
    assert [accepted(store, text) for text in (old, new, before, text_of(store))] == [None] * 3 + ["web"]
    assert sorted(path.name for path in store.key_path("web").parent.iterdir()) == ["web.key"]
    store.change("web", disabled=True)
    assert accepted(store, text_of(store)) is None
    with pytest.raises(ApiKeyError, match="there is no key 'none'"):
        store.rotate("none", timedelta())


@pytest.mark.parametrize("written", [False, True], ids=["before the record", "after the record"])
def test_an_interrupted_rotation_can_be_run_again(
    store: KeyStore, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    store.create("web")
    old = text_of(store)
    write = store._write

    def interrupted(records: Any) -> None:
        if written:
            write(records)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(store, "_write", interrupted)
        store.rotate("web", timedelta(hours=1))
    assert text_of(store) == old
    assert accepted(store, old) == "web"
    store.rotate("web", timedelta(hours=1))
    assert text_of(store) != old
    assert {accepted(store, old), accepted(store, text_of(store))} == {"web"}
    assert len(store.records()[0].previous) == 1
    assert not store.key_path("web").with_suffix(".new").exists()


def test_a_new_text_from_the_inventory_can_overlap_with_the_old_one(store: KeyStore) -> None:
    first, second, third = new_key(), new_key(), new_key()
    sync(store, {"id": "web", "key": first})
    desired = {"id": "web", "key": second, "overlap_s": 3600}
    assert sync(store, desired).updated == ["web"]
    assert not sync(store, desired).changed
    assert accepted(store, first) == accepted(store, second) == "web"
    assert accepted(store, first, timedelta(hours=2)) is None
    sync(store, {"id": "web", "key": third})
    assert accepted(store, second) is None


def test_what_a_key_may_do_follows_the_inventory(store: KeyStore) -> None:
    limits = {"requests_per_minute": 60, "tokens_per_month": 10**9}
    desired = {
        "id": "web",
        "models": ["chat-*"],
        "endpoints": ["chat_completions", "models"],
        "limits": limits,
        "user_limits": {"concurrent_requests": 2},
        "model_limits": {"big": {"tokens_per_day": 1000}},
        "priority": "high",
    }
    sync(store, desired)
    assert not sync(store, desired).changed
    snapshot, _ = build([], store.records(), None)
    found = snapshot.keys[0].access().model_dump(mode="json", exclude_none=True, exclude_unset=True)
    assert found == {name: value for name, value in desired.items() if name != "id"}
    assert sync(store, {"id": "web"}).updated == ["web"]
    assert build([], store.records(), None)[0].keys[0].access() == Access()


@pytest.mark.parametrize(
    ("desired", "reason"),
    [
        ({"models": ["a b"]}, "0.models.0"),
        ({"endpoints": ["everything"]}, "0.endpoints.0"),
        ({"limits": {"per_hour": 1}}, "0.limits.per_hour"),
        ({"limits": {}}, "names no limit"),
        ({"limits": {"tokens_per_day": 0}}, "0.limits.tokens_per_day"),
        ({"overlap_s": -1}, "0.overlap_s"),
    ],
)
def test_rights_that_make_no_sense_are_refused_with_their_place(desired: dict[str, Any], reason: str) -> None:
    with pytest.raises(ApiKeyError) as caught:
        parse_desired(json.dumps([{"id": "a", **desired}]))
    assert reason in str(caught.value)

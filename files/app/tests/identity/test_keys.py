"""API keys: peppers, rotation, scopes."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any

import pytest

from citadel_llm.gateway.errors import ApiError
from citadel_llm.gateway.identity.keys import KeyTable
from citadel_llm.gateway.identity.principal import Principal, Rules
from citadel_llm.schema.access import Access, PreviousKey
from citadel_llm.schema.key_hash import (
    Pepper,
    PepperError,
    hash_key,
    is_hash_of,
    parse_peppers,
    pepper_name,
)
from citadel_llm.schema.snapshot import Key, SnapshotError

NOW = 1_800_000_000.0


def new_text() -> str:
    return "sk-citadel-" + secrets.token_urlsafe(32)


def new_pepper() -> Pepper:
    return Pepper(secrets.token_bytes(32))


def key(text: str, pepper: Pepper | None = None, id_: str = "web", **fields: Any) -> Key:
    return Key(id=id_, prefix=text[:16], hash=hash_key(text, pepper), **fields)


def refused(table: KeyTable, text: str, now: float = NOW) -> ApiError:
    with pytest.raises(ApiError) as caught:
        table.find(text.encode(), now)
    assert caught.value.status == 401
    assert not text or text not in str(caught.value)
    return caught.value


def test_keys_with_and_without_a_pepper_are_accepted_side_by_side() -> None:
    old, new, pepper = new_text(), new_text(), new_pepper()
    table = KeyTable([key(old, id_="old"), key(new, pepper, id_="new")], [pepper])
    assert table.find(old.encode(), NOW).id == "old"
    assert table.find(new.encode(), NOW).id == "new"
    refused(table, new_text())
    refused(table, new[:-1])
    refused(table, "")
    refused(table, "ä" * 40)


def test_a_hash_is_of_no_use_without_its_pepper() -> None:
    text, pepper, other = new_text(), new_pepper(), new_pepper()
    for have in ([], [other]):
        with pytest.raises(SnapshotError) as caught:
            KeyTable([key(text, pepper)], have)
        assert "credential gateway_pepper" in str(caught.value)
        assert pepper.name in str(caught.value)
    assert is_hash_of(text, hash_key(text, pepper), (other, pepper))
    assert not is_hash_of(text, hash_key(text, pepper), (other,))
    assert not is_hash_of(new_text(), hash_key(text, pepper), (pepper,))
    assert is_hash_of(text, hash_key(text, None), ())
    assert pepper.secret.hex() not in repr(pepper)


def test_a_pepper_is_replaced_by_one_in_front_of_it() -> None:
    first, second, text = secrets.token_hex(32), secrets.token_hex(32), new_text()
    (old,) = parse_peppers(first + "\n")
    both = parse_peppers(f"{second}\n{first}\n")
    assert both[1] == old
    assert KeyTable([key(text, old)], both).find(text.encode(), NOW).id == "web"
    assert pepper_name(hash_key(text, both[0])) == both[0].name != old.name


@pytest.mark.parametrize("text", ["", "\n", "zz" * 32, "ab" * 31, "ab" * 32 + "c"])
def test_a_file_without_a_pepper_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(PepperError) as caught:
        parse_peppers(text)
    assert not text.strip() or text not in str(caught.value)


def test_a_rotated_key_has_two_texts_until_the_overlap_ends() -> None:
    old, new, pepper = new_text(), new_text(), new_pepper()
    end = datetime.fromtimestamp(NOW, UTC)
    previous = PreviousKey(prefix=old[:16], hash=hash_key(old, None), expires=end)
    table = KeyTable([key(new, pepper, previous=(previous,))], [pepper])
    assert table.find(old.encode(), NOW - 1) is table.find(new.encode(), NOW - 1)
    assert "expired" in refused(table, old, NOW).message
    assert table.find(new.encode(), NOW + 1e9).id == "web"
    disabled = KeyTable([key(new, pepper, previous=(previous,), disabled=True)], [pepper])
    for text in (old, new):
        assert "disabled" in refused(disabled, text, NOW - 1).message


def test_keys_that_begin_alike_are_told_apart() -> None:
    first = new_text()
    second = first[:-4] + "zzzz"
    table = KeyTable([key(first, id_="a"), key(second, id_="b")])
    assert [table.find(text.encode(), NOW).id for text in (first, second)] == ["a", "b"]


def test_what_a_key_may_do() -> None:
    access = Access.model_validate(
        {"models": ["org/smol", "chat-*", "v?"], "endpoints": ["chat_completions", "models"]}
    )
    principal = Principal("web", Rules(access))
    for name in ("org/smol", "chat-large", "chat-", "v1"):
        assert principal.rules.allows_model(name)
    for name in ("org/smolx", "xorg/smol", "chat", "v12", "", "org.smol"):
        assert not principal.rules.allows_model(name)
    assert principal.rules.allows_model("alias", "chat-large")
    principal.require_endpoint("models")
    with pytest.raises(ApiError) as caught:
        principal.require_endpoint("embeddings")
    assert (caught.value.status, caught.value.code) == (403, "endpoint_not_allowed")
    with pytest.raises(ApiError) as caught:
        principal.require_model("alias", "other")
    assert (caught.value.status, caught.value.param) == (403, "model")
    assert "'alias'" in caught.value.message
    nothing = Rules(Access(models=()))
    assert not nothing.allows_model("a")
    assert Rules(Access()).allows_model("a")


def test_names_are_no_expressions() -> None:
    rules = Rules(Access(models=("a.b+c",)))
    assert rules.allows_model("a.b+c")
    assert not rules.allows_model("axbbc")
    assert not rules.allows_model("a.b+c\n")


def test_many_keys_share_what_they_have_in_common() -> None:
    keys = [key(new_text(), id_=f"k{n}", models=("m",)) for n in range(50)]
    table = KeyTable(keys)
    assert len(table) == 50
    assert len(table._rules) == 1

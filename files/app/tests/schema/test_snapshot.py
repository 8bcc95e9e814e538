"""The routing snapshot: what is accepted, and how a refusal reads."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from citadel_llm.schema.snapshot import (
    Backend,
    Key,
    Model,
    SnapshotError,
    digest,
    json_schema,
    load,
    parse,
    seal,
)

MODELS = [
    Model(
        name="org/smol",
        aliases=("smol",),
        created=5,
        backends=(Backend(name="a", url="http://127.0.0.1:8101", model="smol"),),
    )
]
KEYS = [Key(id="team", prefix="sk-citadel-abcde", hash="sha256:" + "ab" * 32)]


def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(seal(MODELS, KEYS)[1])
    return found


def sealed(changed: dict[str, Any]) -> bytes:
    return json.dumps(changed | {"version": digest(changed)}).encode()


def test_what_is_sealed_can_be_read() -> None:
    snapshot, data = seal(MODELS, KEYS)
    assert parse(data) == snapshot
    assert snapshot.models == tuple(MODELS)
    assert snapshot.keys == tuple(KEYS)


def test_the_version_is_that_of_the_content() -> None:
    early, _ = seal(MODELS, KEYS, now=datetime(2026, 1, 1, tzinfo=UTC))
    late, _ = seal(MODELS, KEYS, now=datetime(2027, 1, 1, tzinfo=UTC))
    other, _ = seal(MODELS, [KEYS[0].model_copy(update={"disabled": True})])
    assert early.version == late.version != other.version


def test_the_file_matches_the_published_schema() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(document(), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document() | {"unknown": 1}, schema)


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: d.update(schema_version=2), "schema_version is 2; this version of the gateway reads 1"),
        (lambda d: d.update(schema_version=True), "schema_version is True"),
        (lambda d: d.pop("schema_version"), "schema_version is None"),
        (lambda d: d.update(limits={}), "limits: Extra inputs are not permitted"),
        (lambda d: d["models"][0].update(colour="x"), "models.0.colour: Extra inputs are not permitted"),
        (lambda d: d["models"][0].update(policy="x"), "models.0.policy: Input should be 'round_robin'"),
        (lambda d: d["models"][0].update(backends=[]), "models.0.backends: "),
        (lambda d: d["models"][0].update(name="a b"), "models.0.name: "),
        (lambda d: d["models"][0].update(task="sing"), "models.0.task: Input should be 'generate'"),
        (lambda d: d["models"].append(d["models"][0]), "model or alias 'org/smol' appears twice"),
        (lambda d: d["models"][0].update(aliases=["org/smol"]), "model or alias 'org/smol' appears twice"),
        (
            lambda d: d["models"][0]["backends"].append(d["models"][0]["backends"][0]),
            "back end 'a' appears twice",
        ),
        (lambda d: d["keys"].append(d["keys"][0]), "key 'team' appears twice"),
        (lambda d: d["keys"].append(d["keys"][0] | {"id": "other"}), "hash of key"),
        (lambda d: d["keys"][0].update(hash="md5:00"), "keys.0.hash: "),
        (lambda d: d["keys"][0].update(prefix="sk"), "keys.0.prefix: "),
        (lambda d: d["keys"][0].update(expires="2030-01-01"), "keys.0.expires: "),
        (lambda d: d.update(created="yesterday"), "created: "),
    ],
)
def test_a_refusal_names_the_place(change: Change, reason: str) -> None:
    changed = document()
    change(changed)
    with pytest.raises(SnapshotError) as caught:
        parse(sealed(changed))
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("127.0.0.1:8101", "must be http://HOST:PORT"),
        ("ftp://127.0.0.1:8101", "must be http://HOST:PORT"),
        ("http://", "must be http://HOST:PORT"),
        ("http://127.0.0.1:8101/v1", "no path"),
        ("http://127.0.0.1:8101?x=1", "no path"),
        ("http://127.0.0.1:99999", "a port that is not one"),
        ("http://127.0.0.1:0", "port 0"),
    ],
)
def test_an_address_that_is_none_is_refused(url: str, reason: str) -> None:
    changed = document()
    changed["models"][0]["backends"][0]["url"] = url
    with pytest.raises(SnapshotError) as caught:
        parse(sealed(changed))
    assert reason in str(caught.value)


def test_credentials_in_an_address_are_refused_and_not_repeated() -> None:
    secret = secrets.token_hex(8)
    changed = document()
    changed["models"][0]["backends"][0]["url"] = f"http://user:{secret}@127.0.0.1:8101"
    with pytest.raises(SnapshotError) as caught:
        parse(sealed(changed))
    assert "must not contain credentials" in str(caught.value)
    assert secret not in str(caught.value)


def test_an_edited_or_broken_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "routing.json"
    with pytest.raises(SnapshotError, match=r"routing\.json: cannot be read: No such file"):
        load(path)
    for data, reason in (
        (b"", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (json.dumps(document() | {"models": []}).encode(), "the content's digest is"),
    ):
        path.write_bytes(data)
        with pytest.raises(SnapshotError, match=reason):
            load(path)

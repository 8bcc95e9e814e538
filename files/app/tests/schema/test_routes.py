"""How models are routed: what is accepted in a snapshot, and what an old one means."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from citadel_llm.schema.routes import Arm, Backend, Model
from citadel_llm.schema.snapshot import SnapshotError, digest, json_schema, parse, seal


def backends(*names: str) -> tuple[Backend, ...]:
    return tuple(Backend(name=name, url="http://127.0.0.1:8101", model="m") for name in names)


def test_a_snapshot_without_the_routing_fields_means_their_defaults() -> None:
    old: dict[str, Any] = {
        "schema_version": 1,
        "created": "2026-01-01T00:00:00Z",
        "models": [{"name": "m", "backends": [{"name": "a", "url": "http://127.0.0.1:1", "model": "m"}]}],
        "keys": [],
    }
    model = parse(json.dumps(old | {"version": digest(old)}).encode()).models[0]
    assert (model.policy, model.arms, model.fallback, model.paused) == ("prefix", (), (), False)
    assert (model.sticky, model.queue.size, model.backends[0].weight) == (("key",), 1024, 1.0)


def test_defaults_are_not_written_so_that_a_version_stays() -> None:
    document = json.loads(seal([Model(name="m", backends=backends("a"))], [])[1])
    assert set(document["models"][0]) == {"name", "backends"}
    assert set(document["models"][0]["backends"][0]) == {"name", "url", "model"}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"arms": (Arm(name="x", backends=("a", "z")),)}, "arms name the back end 'z'; there is a, b"),
        ({"arms": (Arm(name="x", backends=("a",)),)}, "back end 'b' is in no arm"),
        (
            {"arms": (Arm(name="x", backends=("a", "b")), Arm(name="y", backends=("a",)))},
            "in arms, back end 'a' appears twice",
        ),
        (
            {"arms": (Arm(name="x", backends=("a",)), Arm(name="x", backends=("b",)))},
            "arm 'x' appears twice",
        ),
        (
            {
                "arms": (
                    Arm(name="x", backends=("a",), weight=0),
                    Arm(name="y", backends=("b",), mirror=0.5),
                )
            },
            "no arm gets requests",
        ),
        ({"fallback": ("m",)}, "names the model itself"),
        ({"fallback": ("o", "o")}, "fallback 'o' appears twice"),
        ({"sticky": ("cookie",)}, "sticky.0"),
        ({"sticky": ()}, "sticky"),
        ({"session": ("header:X-Upper",)}, "session.0"),
        ({"policy": "best"}, "policy"),
    ],
)
def test_what_cannot_be_routed_is_refused(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Model(name="m", backends=backends("a", "b"), **fields)
    assert reason in str(caught.value)


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf"), 1001])
def test_a_weight_is_a_number_of_some_size(weight: float) -> None:
    with pytest.raises(ValidationError):
        Backend(name="a", url="http://127.0.0.1:1", model="m", weight=weight)


def test_a_fallback_exists_and_does_the_same() -> None:
    first = Model(name="m", backends=backends("a"), fallback=("o",))
    with pytest.raises(SnapshotError, match=r"fallback of 'm': there is no model 'o'"):
        seal([first], [])
    other = Model(name="other", aliases=("o",), backends=backends("a"), task="embed")
    with pytest.raises(SnapshotError, match=r"the task of 'o' is 'embed', not 'generate'"):
        seal([first, other], [])
    assert seal([first, other.model_copy(update={"task": "generate"})], [])[0].models[0].fallback == ("o",)
    alias = Model(name="m", aliases=("n",), backends=backends("a"), fallback=("n",))
    with pytest.raises(SnapshotError, match=r"'n' is the model itself"):
        seal([alias], [])


def test_every_field_of_routing_is_described() -> None:
    definitions = json_schema()["$defs"]
    for name in ("Model", "Backend", "Arm", "Queue"):
        for field, found in definitions[name]["properties"].items():
            assert found.get("description"), f"{name}.{field} has no description"

"""The snapshot is built from deployments and keys, and replaced only when it differs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from citadel_llm.keys.records import new_key, record_of
from citadel_llm.routing.build import RoutingError, apply, build
from citadel_llm.routing.versions import engine_version
from citadel_llm.schema.model_routing import BackendRouting, ModelRouting
from citadel_llm.schema.routes import Arm, Queue
from citadel_llm.schema.snapshot import Task, load


@dataclass(frozen=True)
class Deployment:
    name: str
    model: str = "smol"
    aliases: tuple[str, ...] = ()
    base_url: str = "http://127.0.0.1:8101"
    task: Task = "generate"
    max_num_seqs: int | None = None


TWO = [Deployment("b", aliases=("x", "smol")), Deployment("a", aliases=("x", "y"))]


def test_deployments_of_one_model_are_its_back_ends() -> None:
    snapshot, _ = build([*TWO, Deployment("c", model="other", task="embed")], [], None)
    other, smol = snapshot.models
    assert (smol.name, smol.aliases) == ("smol", ("x", "y"))
    assert [(backend.name, backend.model) for backend in smol.backends] == [("a", "smol"), ("b", "smol")]
    assert (other.name, other.task) == ("other", "embed")


def test_what_is_set_for_a_model_is_in_the_snapshot() -> None:
    routing = ModelRouting(
        policy="round_robin",
        arms=(Arm(name="old", backends=("a",)), Arm(name="new", backends=("b",), weight=0.1)),
        fallback=("other",),
        queue=Queue(size=7),
        paused=True,
        backends={"b": BackendRouting(weight=0.5, max_in_flight=9)},
    )
    snapshot, _ = build([*TWO, Deployment("c", model="other")], [], None, {"smol": routing})
    other, smol = snapshot.models
    assert (smol.policy, smol.arms, smol.fallback, smol.queue.size, smol.paused) == (
        *("round_robin", routing.arms, ("other",)),
        *(7, True),
    )
    assert [(b.name, b.weight, b.max_in_flight) for b in smol.backends] == [("a", 1, 1024), ("b", 0.5, 9)]
    assert (other.policy, other.arms, other.paused) == ("prefix", (), False)


def test_a_back_end_gets_a_little_more_than_its_engine_computes_at_once() -> None:
    deployments = [
        Deployment("unknown"),
        Deployment("one", max_num_seqs=1),
        Deployment("many", max_num_seqs=256),
        Deployment("told", max_num_seqs=256),
    ]
    backends = {"told": BackendRouting(max_in_flight=9), "one": BackendRouting(weight=2)}
    routing = ModelRouting(backends=backends)
    snapshot, _ = build(deployments, [], None, {"smol": routing})
    found = {backend.name: backend.max_in_flight for backend in snapshot.models[0].backends}
    assert found == {"unknown": 1024, "one": 2, "many": 320, "told": 9}


def test_it_is_replaced_only_when_it_differs(tmp_path: Path) -> None:
    path = tmp_path / "routing.json"
    keys = [record_of("k", new_key())]
    predicted = apply(path, TWO, keys, check=True)
    assert predicted.changed
    assert not path.exists()
    first = apply(path, TWO, keys)
    assert (first.changed, first.previous, first.models, first.keys) == (True, None, ["smol"], 1)
    assert path.stat().st_mode & 0o777 == 0o640
    before = path.stat()
    again = apply(path, list(reversed(TWO)), keys)
    assert (again.changed, again.version, again.previous) == (False, first.version, first.version)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    changed = apply(path, TWO, [keys[0].model_copy(update={"disabled": True})])
    assert changed.changed
    assert load(path).version == changed.version
    assert load(path).models[0].created == json.loads(path.read_bytes())["models"][0]["created"]


def test_a_model_keeps_its_age(tmp_path: Path) -> None:
    path = tmp_path / "routing.json"
    apply(path, TWO, [])
    document = load(path)
    aged = document.models[0].model_copy(update={"created": 5})
    snapshot, _ = build(
        [*TWO, Deployment("n", model="new")], [], document.model_copy(update={"models": (aged,)})
    )
    assert {model.name: model.created == 5 for model in snapshot.models} == {"smol": True, "new": False}


def test_a_file_that_is_no_good_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "routing.json"
    path.write_text("{}")
    assert apply(path, TWO, []).changed
    assert load(path).models[0].name == "smol"


@pytest.mark.parametrize(
    ("deployments", "reason"),
    [
        (
            [Deployment("a"), Deployment("b", task="embed")],
            "a, b serve the model 'smol' with different tasks",
        ),
        ([Deployment("a", aliases=("z",)), Deployment("b", model="z")], "'z' appears twice"),
        ([Deployment("a"), Deployment("a")], "back end 'a' appears twice"),
        ([Deployment("a", base_url="nowhere")], "must be http://HOST:PORT"),
    ],
)
def test_what_does_not_fit_leaves_the_old_one(
    tmp_path: Path, deployments: list[Deployment], reason: str
) -> None:
    path = tmp_path / "routing.json"
    apply(path, TWO, [])
    before = path.read_bytes()
    with pytest.raises(RoutingError) as caught:
        apply(path, deployments, [])
    assert reason in str(caught.value)
    assert path.read_bytes() == before


def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(RoutingError, match=r"gone/routing\.json: cannot be written: No such file"):
        apply(tmp_path / "gone" / "routing.json", TWO, [])


@pytest.mark.parametrize(
    ("versions", "found"),
    [([], None), (["0.9.2"], "0.9.2"), (["0.32.0+cpu"], "0.32.0+cpu"), (["0.9.2", "0.33.0"], None)],
)
def test_endpoints_follow_the_engine_that_is_installed(
    tmp_path: Path, versions: list[str], found: str | None
) -> None:
    for version in versions:
        (tmp_path / f"lib/python3.11/site-packages/vllm-{version}.dist-info").mkdir(parents=True)
    assert engine_version(tmp_path) == found
    elsewhere = Deployment("far", base_url="http://10.0.0.5:8101")
    snapshot, _ = build([Deployment("near"), elsewhere], [], None, engine=engine_version(tmp_path))
    assert {backend.name: backend.engine for backend in snapshot.models[0].backends} == {
        "near": found,
        "far": None,
    }

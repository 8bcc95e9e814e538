"""From a wish to an attempt: arms, limits, what is left when nothing works, and new snapshots."""

from __future__ import annotations

import asyncio

import pytest

from citadel_llm.gateway.balancing.backend import Attempt, Outcome
from citadel_llm.gateway.balancing.balancer import Balancer
from citadel_llm.gateway.balancing.route import ModelRoute, NoBackend
from citadel_llm.gateway.balancing.wish import Wish
from citadel_llm.schema.routes import Arm, Backend, Model, Queue
from citadel_llm.schema.snapshot import seal
from files.app.tests.balancing.fakes import FakeTime, rules, surroundings


def model(*names: str, limit: int = 1000, **fields: object) -> Model:
    weights = fields.pop("weights", {})
    assert isinstance(weights, dict)
    backends = tuple(
        Backend(name=n, url=f"http://{n}:1", model="m", max_in_flight=limit, weight=weights.get(n, 1.0))
        for n in names
    )
    return Model.model_validate({"name": "m", "backends": backends} | fields)


class World:
    """A balancer with a clock of its own."""

    def __init__(self, *models: Model, **changes: object) -> None:
        self.time = FakeTime()
        self.balancer = Balancer(surroundings(self.time, rules(**changes)))
        self.use(*models)

    def use(self, *models: Model) -> None:
        self.balancer.apply(seal(list(models), [])[0])

    @property
    def route(self) -> ModelRoute:
        return self.balancer.routes["m"]

    def take(self, wish: Wish | None = None) -> Attempt:
        attempt = self.route.take(wish or Wish())
        assert attempt is not None
        return attempt

    def fail(self, name: str, outcome: Outcome = Outcome.UNREACHABLE) -> None:
        backend = next(b for b in self.route.backends if b.name == name)
        backend.begin(self.time.now).end(outcome, self.time.now)


def test_what_failed_is_passed_over_and_then_tried_by_one() -> None:
    world = World(model("a", "b"), breaker_open_s=1)
    world.fail("a")
    assert {world.take().backend.name for _ in range(4)} == {"b"}
    world.time.go(1)
    names = [world.take().backend.name for _ in range(4)]
    assert names.count("a") == 1


def test_what_was_tried_in_vain_is_not_tried_again() -> None:
    world = World(model("a", "b"))
    wish = Wish()
    first = world.take(wish)
    wish.leave(first.backend)
    second = world.take(wish)
    assert first.backend is not second.backend
    wish.leave(second.backend)
    with pytest.raises(NoBackend):
        world.route.take(wish)


def test_when_all_failed_the_one_that_is_due_first_is_asked() -> None:
    world = World(model("a", "b"), breaker_open_s=5)
    world.fail("b")
    world.time.go(1)
    world.fail("a")
    assert world.take().backend.name == "b"


def test_hanging_and_resting_ones_are_no_last_resort() -> None:
    world = World(model("a", "b", weights={"b": 0}))
    a, b = world.route.backends
    assert (b.health(world.time.now), {world.take().backend.name for _ in range(3)}) == ("resting", {"a"})
    a.real_failed()
    with pytest.raises(NoBackend):
        world.route.take(Wish())


def test_full_ones_make_it_wait_and_failed_ones_do_not() -> None:
    world = World(model("a", "b", limit=1))
    held = [world.take(), world.take()]
    assert world.route.take(Wish()) is None
    held[0].end(Outcome.FINISHED, world.time.now)
    assert world.take().backend is held[0].backend


# -- arms


def two_arms(**fields: object) -> Model:
    arms = (Arm(name="old", backends=("a", "b")), Arm(name="new", backends=("c",)))
    return model("a", "b", "c", arms=arms, **fields)


def test_a_client_stays_on_its_arm_until_nobody_is_left_there() -> None:
    world = World(two_arms())
    wishes = {n: Wish(sticky=f"key={n}") for n in range(40)}
    arms = {n: world.take(wish).backend.arm for n, wish in wishes.items()}
    assert set(arms.values()) == {"old", "new"}
    assert {n: world.take(Wish(sticky=f"key={n}")).backend.arm for n in range(40)} == arms
    world.fail("c")
    assert {world.take(Wish(sticky=f"key={n}")).backend.arm for n in range(40)} == {"old"}
    world.fail("a")
    world.fail("b")
    assert world.take(Wish(sticky="key=1")).backend.name == "c"  # the last resort looks everywhere
    assert sum(world.route.arm_requests.values()) == 121


def test_a_full_arm_is_waited_for() -> None:
    world = World(two_arms(limit=1))
    client = next(
        f"key={n}" for n in range(99) if world.route.arms.pick(f"key={n}", lambda: 0.0).name == "new"
    )
    world.take(Wish(sticky=client))
    assert world.route.take(Wish(sticky=client)) is None


def test_shadows_get_attempts_of_their_own() -> None:
    arms = (Arm(name="live", backends=("a",)), Arm(name="dark", backends=("b",), mirror=1.0))
    world = World(model("a", "b", limit=1, arms=arms))
    [shadow] = world.route.arms.mirrored(lambda: 0.5)
    copy = world.route.shadow(shadow)
    assert copy is not None
    assert copy.backend.name == "b"
    assert world.route.shadow(shadow) is None  # full: no copy, and nobody waits
    world.fail("a")
    assert world.take().backend.name == "a"  # a shadow serves nobody, not even as the last resort


# -- wishes


def test_only_what_the_model_needs_is_looked_up() -> None:
    asked: list[str] = []

    def value_of(source: str) -> str | None:
        asked.append(source)
        return {"user": "u1", "key": "k1"}.get(source)

    def prompt() -> bytes:
        asked.append("prompt")
        return b"x" * 2048

    world = World(model("a"))
    assert world.route.wish(value_of, prompt) == Wish()
    assert asked == []
    world.use(model("a", policy="session"))
    assert world.route.wish(value_of, prompt).session == "user=u1"
    assert asked == ["header:x-session-id", "user"]
    world.use(two_arms(policy="prefix", sticky=("header:x-none", "key")))
    wish = world.route.wish(value_of, prompt)
    assert (wish.sticky, len(wish.blocks)) == ("key=k1", 4)


# -- waiting and new snapshots


async def test_a_free_place_goes_to_who_waits() -> None:
    world = World(model("a", limit=1))
    held = world.take()
    waiting = asyncio.create_task(world.route.acquire(Wish(), "key"))
    await asyncio.sleep(0)
    assert world.route.queue.waiting == 1
    held.end(Outcome.FINISHED, world.time.now)
    assert world.route.take(Wish()) is None  # it is taken already, though the task has not run yet
    (await waiting).end(Outcome.FINISHED, world.time.now)
    assert world.route.backends[0].in_flight == 0


async def test_a_place_given_to_who_has_just_left_is_given_back() -> None:
    world = World(model("a", limit=1))
    held = world.take()
    waiting = asyncio.create_task(world.route.acquire(Wish(), "key"))
    await asyncio.sleep(0)
    held.end(Outcome.FINISHED, world.time.now)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (world.route.backends[0].in_flight, world.route.queue.waiting) == (0, 0)


async def test_a_new_snapshot_serves_those_who_wait() -> None:
    world = World(model("a", limit=1))
    world.take()
    waiting = [asyncio.create_task(world.route.acquire(Wish(), "key")) for _ in range(2)]
    await asyncio.sleep(0)
    route = world.route
    world.use(model("a", "b", limit=1, queue=Queue(size=5)))
    assert world.route is route
    assert (await waiting[0]).backend.name == "b"
    world.use(model("a", "b", limit=2))
    assert (await waiting[1]).backend.in_flight == 2
    assert route.backends[0].in_flight == 2  # what is in flight was not forgotten


async def test_who_waits_for_a_model_that_goes_away_is_told() -> None:
    world = World(model("a", paused=True))
    waiting = asyncio.create_task(world.route.acquire(Wish(), "key"))
    await asyncio.sleep(0)
    world.use()
    with pytest.raises(NoBackend):
        await waiting


async def test_a_pause_holds_until_everybody_has_resumed() -> None:
    world = World(model("a", paused=True))
    waiting = asyncio.create_task(world.route.acquire(Wish(), "key"))
    await asyncio.sleep(0)
    world.route.queue.pause("operator")
    world.use(model("a"))
    assert (world.route.queue.paused_by, world.route.queue.waiting) == (["operator"], 1)
    world.route.queue.resume("operator")
    assert (await waiting).backend.name == "a"


def test_a_back_end_that_joins_others_begins_slowly_and_one_of_a_new_model_does_not() -> None:
    world = World(model("a"), slow_start_duration_s=10)
    assert world.route.backends[0].share(world.time.now) == 1.0
    world.use(model("a", "b"), Model(name="n", backends=model("c").backends))
    shares = {b.name: b.share(world.time.now) for b in world.balancer.backends.values()}
    assert shares == {"a": 1.0, "b": pytest.approx(0.1), "c": 1.0}


def test_names_aliases_and_fallbacks() -> None:
    other = Model(name="o", aliases=("oo",), backends=model("z").backends)
    world = World(model("a", aliases=("mm",), fallback=("oo",)), other)
    route = world.balancer.find("mm")
    assert route is world.route
    assert [found.name for found in world.balancer.chain(route)] == ["m", "o"]
    assert world.balancer.find("zzz") is None


async def test_a_back_end_that_is_out_is_no_room_and_none_left_is_told() -> None:
    world = World(model("a", "b", limit=1), breaker_open_s=30)
    held = world.take()
    other = next(b.name for b in world.route.backends if b is not held.backend)
    world.fail(other)
    waiting = [asyncio.create_task(world.route.acquire(Wish(), "key")) for _ in range(2)]
    await asyncio.sleep(0)
    assert (world.route._has_room(), world.route.queue.waiting) == (False, 2)
    held.end(Outcome.FINISHED, world.time.now)
    (await waiting[0]).end(Outcome.UNREACHABLE, world.time.now)
    assert (await waiting[1]).backend.name == other  # the last resort, and not a long wait

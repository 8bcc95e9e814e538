"""The queue is fair, bounded and punctual, and loses no place whatever its requests do."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from citadel_llm.gateway.admission.queue import FairQueue, QueueFull, TooLate
from citadel_llm.schema.access import Priority
from citadel_llm.schema.routes import Queue
from files.app.tests.balancing.fakes import FakeTime


class Places:
    """A number of places, and a queue for them."""

    def __init__(self, free: int, **rules: Any) -> None:
        self.free = free
        self.waited: list[float] = []
        self.time = FakeTime()
        self.queue: FairQueue[str] = FairQueue(
            Queue.model_validate({"size": 100, "deadline_s": 10, "pause_s": 60} | rules),
            self.time,
            has_room=lambda: self.free > 0,
            give_back=self.release,
            waited=self.waited.append,
        )

    def take(self) -> str | None:
        if self.free == 0:
            return None
        self.free -= 1
        return "place"

    def release(self, _place: str = "place") -> None:
        self.free += 1
        self.queue.dispatch()

    def come(self, key: str, priority: Priority = "normal") -> asyncio.Task[str]:
        return asyncio.create_task(self.queue.acquire(key, priority, self.take))


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def served(places: Places, tasks: dict[str, list[asyncio.Task[str]]], turns: int) -> str:
    """Free one place at a time; return who got each, by the first letter of the name."""
    order = ""
    for _ in range(turns):
        before = {name: sum(task.done() for task in group) for name, group in tasks.items()}
        places.release()
        await settle()
        order += "".join(
            name[0]
            for name, group in tasks.items()
            for _ in range(sum(t.done() for t in group) - before[name])
        )
    return order


async def test_without_a_crowd_nobody_waits() -> None:
    places = Places(2)
    assert await places.come("a") == await places.come("a") == "place"
    assert (places.free, places.queue.waiting, places.time.alarms) == (0, 0, 0)


async def test_keys_take_turns_however_many_one_sends() -> None:
    places = Places(0)
    tasks = {"flood": [places.come("flood") for _ in range(20)]}
    await settle()
    tasks |= {"small": [places.come("small") for _ in range(2)], "other": [places.come("other")]}
    await settle()
    assert await served(places, tasks, 8) == "fsofsfff"
    for group in tasks.values():
        for task in group:
            task.cancel()
    await settle()
    assert (places.queue.waiting, places.time.alarms) == (0, 0)


async def test_classes_get_their_share_and_nobody_starves() -> None:
    places = Places(0)
    classes: tuple[Priority, ...] = ("low", "normal", "high")
    tasks = {p: [places.come(f"k{n % 3}", p) for n in range(40)] for p in classes}
    await settle()
    found = Counter(await served(places, tasks, 42))
    assert found == {"h": 32, "n": 8, "l": 2}
    for group in tasks.values():
        for task in group:
            task.cancel()
    await settle()


async def test_a_class_saves_up_no_turns_while_it_is_away() -> None:
    places = Places(0)
    tasks = {"high": [places.come("a", "high") for _ in range(30)]}
    await settle()
    await served(places, tasks, 20)
    tasks["low"] = [places.come("b", "low") for _ in range(10)]
    await settle()
    assert Counter(await served(places, tasks, 10))["l"] <= 2
    for group in tasks.values():
        for task in group:
            task.cancel()
    await settle()


async def test_who_cannot_use_a_place_does_not_hold_up_others() -> None:
    places = Places(0)

    async def never() -> str:
        return await places.queue.acquire("picky", "high", lambda: None)

    picky = asyncio.create_task(never())
    await settle()
    other = places.come("other", "low")
    await settle()
    places.release()
    assert await other == "place"
    assert not picky.done()
    picky.cancel()


async def test_what_taking_raises_goes_to_its_request() -> None:
    places = Places(0)

    def broken() -> str | None:
        if places.free:
            raise LookupError("nothing there")
        return None

    failing = asyncio.create_task(places.queue.acquire("a", "normal", broken))
    waiting = places.come("b")
    await settle()
    places.release()
    assert await waiting == "place"
    with pytest.raises(LookupError):
        await failing


async def test_a_full_queue_refuses_the_greedy_and_takes_in_the_modest() -> None:
    places = Places(0, size=4)
    flood = [places.come("flood") for _ in range(4)]
    await settle()
    with pytest.raises(QueueFull) as caught:
        await places.come("flood")
    assert caught.value.crowded is False  # nobody else is there
    modest = places.come("modest")
    await settle()
    assert (flood[3].done(), modest.done(), places.queue.waiting) == (True, False, 4)
    evicted = flood[3].exception()
    assert isinstance(evicted, QueueFull)
    assert (evicted.crowded, evicted.retry_after_s) == (True, 1.0)
    with pytest.raises(QueueFull) as caught:
        await places.come("flood")
    assert caught.value.crowded is True
    assert places.queue.full == 3
    for task in [*flood[:3], modest]:
        task.cancel()
    await settle()


async def test_a_full_queue_prefers_the_higher_class() -> None:
    places = Places(0, size=2)
    low = [places.come("a", "low"), places.come("b", "low")]
    await settle()
    high = places.come("c", "high")
    await settle()
    assert sum(task.done() for task in low) == 1
    with pytest.raises(QueueFull):
        await places.come("d", "low")
    for task in [*low, high]:
        task.cancel()
    await settle()


async def test_no_queue_means_no_waiting() -> None:
    places = Places(0, size=0)
    with pytest.raises(QueueFull):
        await places.come("a")


async def test_the_deadline_is_kept() -> None:
    places = Places(0, deadline_s=10)
    early = places.come("a")
    await settle()
    places.time.go(6)
    late = places.come("a")
    await settle()
    places.time.go(4)
    await settle()
    with pytest.raises(TooLate, match="every back end had as much as it may have for 10 s"):
        await early
    assert (late.done(), places.queue.waiting, places.queue.late) == (False, 1, 1)
    places.release()
    assert await late == "place"
    assert places.waited == [4.0]
    assert places.time.alarms == 0


async def test_a_pause_holds_longer_than_the_deadline_and_then_there_is_time_again() -> None:
    places = Places(5, deadline_s=10, pause_s=60)
    places.queue.pause("operator")
    waiting = places.come("a")
    await settle()
    places.time.go(50)
    places.queue.resume("someone else")
    assert (places.queue.paused, places.queue.waiting) == (True, 1)
    places.free = 0
    places.queue.resume("operator")
    places.time.go(9)
    await settle()
    assert not waiting.done()
    places.release()
    assert await waiting == "place"


async def test_a_pause_does_not_hold_for_ever() -> None:
    places = Places(5, deadline_s=10, pause_s=60)
    places.queue.pause("operator")
    waiting = places.come("a")
    await settle()
    places.time.go(60)
    with pytest.raises(TooLate) as caught:
        await waiting
    assert (caught.value.paused, "the model is paused" in str(caught.value)) == (True, True)


async def test_the_answer_to_when_follows_the_queues_speed() -> None:
    places = Places(0, size=30, deadline_s=1000)
    tasks = [places.come(f"k{n}") for n in range(30)]
    await settle()
    for _ in range(20):
        places.time.go(2)
        places.release()
    await settle()
    assert 10 < places.queue.retry_after() <= 20
    for task in tasks:
        task.cancel()
    await settle()


class Play:
    """Requests that come, get places, keep them, free them and leave, in any order."""

    def __init__(self, free: int, size: int) -> None:
        self.places = Places(free, size=size, deadline_s=5, pause_s=8)
        self.all = free
        self.freed = 0
        self.tasks: list[asyncio.Task[str]] = []

    @property
    def given(self) -> int:
        return sum(task.done() and not task.cancelled() and task.exception() is None for task in self.tasks)

    def come(self, number: int) -> None:
        priorities: tuple[Priority, ...] = ("low", "normal", "high")
        self.tasks.append(self.places.come(f"k{number % 3}", priorities[number % 3]))

    def free(self, _number: int) -> None:
        if self.given > self.freed:
            self.freed += 1
            self.places.release()

    def cancel(self, number: int) -> None:
        if self.tasks:
            self.tasks[number % len(self.tasks)].cancel()

    def race(self, number: int) -> None:
        self.free(number)
        self.cancel(number)  # perhaps the one that has just been given the place

    def go(self, number: int) -> None:
        self.places.time.go(number)

    def pause(self, _number: int) -> None:
        self.places.queue.pause("x")

    def resume(self, _number: int) -> None:
        self.places.queue.resume("x")


_STEPS = ["come", "come", "come", "free", "cancel", "go", "pause", "resume", "race"]


@settings(max_examples=150, deadline=None)
@given(
    free=st.integers(0, 3),
    size=st.integers(0, 6),
    steps=st.lists(st.tuples(st.sampled_from(_STEPS), st.integers(0, 9)), max_size=60),
)
def test_no_place_is_lost_or_given_twice(free: int, size: int, steps: list[tuple[str, int]]) -> None:
    async def play() -> None:
        world = Play(free, size)
        queue = world.places.queue
        for step, number in steps:
            getattr(world, step)(number)
            if step != "come" or number % 2:
                await settle()
            assert queue.waiting <= size
        queue.resume("x")
        await settle()
        assert world.places.free + world.given - world.freed == world.all
        assert queue.waiting == len(queue._all()) == sum(not task.done() for task in world.tasks)
        for task in world.tasks:
            task.cancel()
        await settle()
        assert (queue.waiting, world.places.time.alarms) == (0, 0)
        assert all(not flows for flows in queue._flows.values())

    asyncio.run(play())

"""Choices: fair by weight, stable where they should be, bounded in memory and in load."""

from __future__ import annotations

import random
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citadel_llm.gateway.balancing.arms import Arm, Arms
from citadel_llm.gateway.balancing.backend import Attempt, BackendState, EngineLoad, Outcome
from citadel_llm.gateway.balancing.hashing import rendezvous
from citadel_llm.gateway.balancing.policies import (
    LeastLoad,
    Policy,
    PowerOfTwo,
    Prefix,
    RoundRobin,
    Session,
    make_policy,
)
from citadel_llm.gateway.balancing.prefixes import ENTRY_BYTES, PrefixTable, blocks_of
from citadel_llm.gateway.balancing.wish import Wish
from citadel_llm.schema.resilience import PrefixAffinity
from files.app.tests.balancing.fakes import numbers, rules, state

RULES = PrefixAffinity(block_bytes=16, max_blocks=8)


def chosen(policy: Policy, candidates: list[BackendState], times: int, wish: Wish | None = None) -> list[str]:
    return [policy.choose(candidates, wish or Wish(), 1.0).name for _ in range(times)]


def test_round_robin_takes_turns_by_weight() -> None:
    assert chosen(RoundRobin(), [state("a"), state("b"), state("c")], 6) == list("abcabc")
    weighted = [state("a", weight=3), state("b", weight=1)]
    assert chosen(RoundRobin(), weighted, 8) == list("aabaaaba")


def test_round_robin_gives_little_to_one_that_warms_up() -> None:
    cold = state("cold", by=rules(slow_start_duration_s=10, slow_start_initial=0.1))
    cold.warm_up(1.0)
    found = Counter(chosen(RoundRobin(), [state("warm"), cold], 110))
    assert found == {"warm": 100, "cold": 10}


def test_least_load_rotates_among_equals_and_sees_all_load() -> None:
    a, b, c = backends = [state(name) for name in "abc"]
    assert chosen(LeastLoad(), backends, 6) == list("abcabc")
    busy = a.begin(1.0)
    b.polled_load(EngineLoad(running=5, waiting=0, kv=0), 1.0)
    assert set(chosen(LeastLoad(), backends, 4)) == {"c"}
    c.polled_load(EngineLoad(running=0, waiting=3, kv=0), 1.0)
    assert set(chosen(LeastLoad(), backends, 4)) == {"a"}
    busy.end(Outcome.FINISHED, 1.0)
    heavy = [state("light", weight=1), state("heavy", weight=3)]
    for _ in range(40):
        LeastLoad().choose(heavy, Wish(), 1.0).begin(1.0)
    assert [backend.in_flight for backend in heavy] == [10, 30]


def test_a_full_cache_weighs() -> None:
    a, b = state("a"), state("b")
    a.polled_load(EngineLoad(running=0, waiting=0, kv=0.95), 1.0)
    assert set(chosen(LeastLoad(), [a, b], 3)) == {"b"}


def test_power_of_two_compares_two_different_ones() -> None:
    a, b, c = backends = [state(name) for name in "abc"]
    b.begin(1.0)
    # 0.4 draws b; 0.1 draws a of the others, 0.9 draws c.
    assert chosen(PowerOfTwo(numbers(0.4, 0.1)), backends, 1) == ["a"]
    assert chosen(PowerOfTwo(numbers(0.4, 0.9)), backends, 1) == ["c"]
    assert chosen(PowerOfTwo(numbers(0.0)), [b], 1) == ["b"]
    c.begin(1.0)
    c.begin(1.0)
    drawn = Counter(chosen(PowerOfTwo(random.Random(1).random), backends, 300))
    assert drawn["a"] > drawn["b"] > drawn["c"] == 0
    assert a.in_flight == 0


def test_a_session_stays_and_few_move() -> None:
    backends = [state(name) for name in "abcd"]
    before = {n: chosen(Session(), backends, 2, Wish(session=f"s{n}")) for n in range(400)}
    assert all(first == second for first, second in before.values())
    assert all(70 < number < 130 for number in Counter(found[0] for found in before.values()).values())
    after = {n: chosen(Session(), backends[:3], 1, Wish(session=f"s{n}"))[0] for n in range(400)}
    moved = [n for n in before if before[n][0] != after[n]]
    assert all(before[n][0] == "d" for n in moved)
    assert chosen(Session(), backends, 4) == list("abcd")


def test_rendezvous_goes_by_weight() -> None:
    found = Counter(rendezvous(str(n), [("a", 3.0), ("b", 1.0), ("c", 0.0)]) for n in range(2000))
    assert 1400 < found[0] < 1600
    assert found[2] == 0
    assert rendezvous("x", [("a", 0.0)]) is None
    assert rendezvous("\ud800", [("a", 1.0)]) == 0  # JSON can say that


# -- prefixes


def blocks(text: str) -> tuple[int, ...]:
    return blocks_of(text.encode(), RULES, "m")


def test_equal_beginnings_have_equal_blocks() -> None:
    long, other = blocks("s" * 48 + "a" * 40), blocks("s" * 48 + "b" * 40)
    assert (len(long), long[:3] == other[:3], long[3] == other[3]) == (5, True, False)
    assert blocks("x" * 15) == ()
    assert len(blocks("x" * 10_000)) == 8
    assert blocks_of(b"s" * 48, RULES, "other")[0] != long[0]
    # The same block later is another one: what counts is everything before it, too.
    assert len(set(blocks("y" * 64))) == 4


def prefix(load_factor: float = 1.25) -> Prefix:
    return Prefix(PrefixTable(RULES), load_factor)


def test_a_prefix_returns_to_who_has_seen_most_of_it() -> None:
    backends = [state(name) for name in "abc"]
    policy = prefix()
    first = [policy.choose(backends, Wish(blocks=blocks(letter * 64)), 1.0).name for letter in "xyz"]
    assert first == list("abc")
    for letter, name in zip("xyz", first, strict=True):
        wish = Wish(blocks=blocks(letter * 64 + "tail" * 8))
        assert policy.choose(backends, wish, 1.0).name == name
    assert policy.choose(backends, Wish(), 1.0).name in "abc"
    # b has a longer match than a.
    policy.choose(backends[1:2], Wish(blocks=blocks("x" * 64 + "more" * 8)), 1.0)
    assert policy.choose(backends, Wish(blocks=blocks("x" * 64 + "more" * 8)), 1.0).name == "b"


def test_a_hot_prefix_is_spread_within_the_bound() -> None:
    backends = [state(name) for name in "abcd"]
    policy = prefix(1.25)
    wish = Wish(blocks=blocks("x" * 64))
    for _ in range(200):
        policy.choose(backends, wish, 1.0).begin(1.0)
        most = max(backend.in_flight for backend in backends)
        total = sum(backend.in_flight for backend in backends)
        assert most <= -(-1.25 * total // len(backends))
    assert min(backend.in_flight for backend in backends) > 30
    idle = [state("e"), state("f")]
    alone = [policy.choose(idle, Wish(blocks=blocks("q" * 64)), 1.0).name for _ in range(5)]
    assert len(set(alone)) == 1  # without load nobody has to share


@given(st.lists(st.text("ab", min_size=1, max_size=8), max_size=200))
def test_the_table_never_grows_beyond_its_limit(prompts: list[str]) -> None:
    table = PrefixTable(PrefixAffinity(block_bytes=16, max_entries=1024, max_bytes=1 << 20))
    table._most = 20
    for number, prompt in enumerate(prompts):
        found = blocks("".join(letter * 16 for letter in prompt))
        table.note(found, number % 7)
        assert len(table) <= 20
        assert table.match(found)[-1][0] == number % 7
    assert all(len(holders) <= 4 for holders in table._entries.values())


def test_what_is_used_is_kept_and_beginnings_outlive_ends() -> None:
    table = PrefixTable(RULES)
    table._most = 6
    kept = blocks("k" * 64)
    table.note(kept, 1)
    for letter in "uvw":
        table.note(kept[:2], 1)
        table.note(blocks(letter * 32), 2)
    assert len(table.match(kept)) == 2
    assert table.evicted == 4


def test_an_entry_takes_no_more_memory_than_is_counted() -> None:
    table = PrefixTable(RULES)
    number = 50_000
    for chained in range(number):
        table.note((hash((chained, b"x")),), 1000 + chained % 3)
        table.note((hash((chained, b"x")),), 1000 + chained % 4)
    entries = table._entries
    shared = {id(holders): holders for holders in entries.values()}
    size = (
        sys.getsizeof(entries) + sum(map(sys.getsizeof, entries)) + sum(map(sys.getsizeof, shared.values()))
    )
    assert size / number < ENTRY_BYTES


# -- arms


def arms(*specs: tuple[str, float, float]) -> Arms:
    return Arms([Arm(name, weight, mirror, (state(name),)) for name, weight, mirror in specs], ())


def test_a_model_without_arms_has_one_without_a_name() -> None:
    backend = state()
    only = Arms([], (backend,)).pick(None, numbers(0.5))
    assert (only.name, only.backends) == ("", (backend,))


def test_clients_stay_on_their_arm_and_arms_get_their_share() -> None:
    tried = arms(("old", 9, 0), ("new", 1, 0), ("none", 0, 0))
    names = {n: tried.pick(f"key=k{n}", numbers(0.0)).name for n in range(1000)}
    assert 60 < Counter(names.values())["new"] < 140
    assert "none" not in names.values()
    more = arms(("old", 9, 0), ("new", 3, 0), ("none", 0, 0))
    moved = {(names[n], more.pick(f"key=k{n}", numbers(0.0)).name) for n in names}
    assert ("new", "old") not in moved  # a bigger share takes nobody away
    drawn = [tried.pick(None, numbers(value)).name for value in (0.0, 0.89, 0.91, 0.9999)]
    assert drawn == ["old", "old", "new", "new"]


def test_a_shadow_gets_copies_only() -> None:
    tried = arms(("live", 1, 0), ("shadow", 5, 0.25))
    assert {tried.pick(f"key={n}", numbers(0.9)).name for n in range(50)} == {"live"}
    assert [arm.name for arm in tried.mirrored(numbers(0.24))] == ["shadow"]
    assert tried.mirrored(numbers(0.25)) == []
    assert [tried.named("live") is not None, tried.named("shadow")] == [True, None]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("round_robin", RoundRobin),
        ("least_load", LeastLoad),
        ("power_of_two", PowerOfTwo),
        ("session", Session),
        ("prefix", Prefix),
    ],
)
def test_each_name_is_a_policy(name: str, kind: type) -> None:
    assert isinstance(make_policy(name, numbers(0.5), PrefixTable(RULES), 1.25), kind)  # type: ignore[arg-type]


@given(
    st.sampled_from(["round_robin", "least_load", "power_of_two", "session", "prefix"]),
    st.lists(st.tuples(st.integers(0, 5), st.text("xyz", max_size=3)), max_size=40),
)
def test_every_policy_chooses_a_candidate_and_counts_stay_right(
    name: str, requests: list[tuple[int, str]]
) -> None:
    backends = [state(letter, weight=weight) for letter, weight in zip("abc", (1, 2, 3), strict=True)]
    policy = make_policy(name, random.Random(5).random, PrefixTable(RULES), 1.25)  # type: ignore[arg-type]
    running: list[Attempt] = []
    for number, text in requests:
        wish = Wish(session=text or None, blocks=blocks(text * 16))
        candidates = backends[number % 3 :]
        backend = policy.choose(candidates, wish, 1.0)
        assert backend in candidates
        running.append(backend.begin(1.0))
        if number > 2:
            running.pop(0).end(Outcome.FINISHED, 1.0)
    assert sum(backend.in_flight for backend in backends) == len(running)

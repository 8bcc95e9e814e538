"""Limits that several gateways share, in a real store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as redis

from citadel_llm.gateway.errors import ApiError
from citadel_llm.gateway.limits.limiter import Limiter
from citadel_llm.gateway.limits.shared import SharedStore
from citadel_llm.gateway.limits.subjects import Reservation, Subject
from citadel_llm.gateway.limits.window import calendar
from citadel_llm.schema.access import Limits
from citadel_llm.schema.gateway_access import LimitSettings
from files.app.tests.gateway.harness import until
from files.app.tests.limits.store import PROGRAM, RedisServer

pytestmark = pytest.mark.skipif(
    PROGRAM is None,
    reason="neither redis-server nor valkey-server is installed: apt-get install redis-server",
)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    started = await RedisServer(tmp_path).start()
    yield started
    await started.kill()


@pytest.fixture
async def gateway(server: RedisServer) -> AsyncIterator[Callable[..., Any]]:
    """Makes limiters as several gateways have them. A loaded machine must not look like a broken store."""
    made: list[Limiter] = []

    async def make(**fields: Any) -> Limiter:
        defaults = {"store_url": server.url, "store_timeout_s": 5, "store_retry_s": 0.02}
        settings = LimitSettings.model_validate(defaults | fields)
        limiter = Limiter(settings, store=SharedStore(settings, server.password))
        await limiter.start()
        made.append(limiter)
        return limiter

    yield make
    for limiter in made:
        await limiter.close()


def subject(name: str = "key\0web", **limits: int) -> Subject:
    return Subject("key", name, Limits.model_validate(limits))


async def count(limiters: list[Limiter], subjects: list[Subject], tries: int, tokens: int = 1) -> int:
    """How many of `tries` requests at the same time get in."""

    async def one(limiter: Limiter) -> bool:
        try:
            await limiter.reserve(subjects, tokens)
        except ApiError as error:
            assert error.status == 429
            return False
        return True

    return sum(await asyncio.gather(*(one(limiters[n % len(limiters)]) for n in range(tries))))


@pytest.mark.parametrize(
    ("limits", "tokens", "expected"),
    [
        ({"requests_per_minute": 37}, 1, 37),
        ({"tokens_per_minute": 105}, 10, 10),
        ({"concurrent_requests": 23}, 1, 23),
        ({"tokens_per_day": 99}, 2, 49),
        ({"tokens_per_month": 41}, 1, 41),
        ({"requests_per_minute": 50, "concurrent_requests": 20}, 1, 20),
    ],
)
async def test_two_gateways_let_in_exactly_the_limit(
    gateway: Callable[..., Any], limits: dict[str, int], tokens: int, expected: int
) -> None:
    both = [await gateway(), await gateway()]
    assert await count(both, [subject(**limits)], 200, tokens) == expected
    assert [limiter.local_decisions for limiter in both] == [0, 0]


async def test_a_refusal_says_the_same_as_without_a_store(gateway: Callable[..., Any]) -> None:
    limiter = await gateway()
    web = subject(requests_per_minute=1, tokens_per_minute=100)
    first = await limiter.reserve([web], 30)
    assert first.decision.requests.remaining == 0
    assert first.decision.tokens.remaining == 70
    with pytest.raises(ApiError) as caught:
        await limiter.reserve([web], 30)
    headers = dict(caught.value.headers)
    assert (caught.value.code, caught.value.type) == ("rate_limit_exceeded", "requests")
    assert 55 <= int(headers[b"retry-after"]) <= 61
    assert headers[b"x-ratelimit-remaining-tokens"] == b"70"
    with pytest.raises(ApiError) as caught:
        await limiter.reserve([subject("other", tokens_per_minute=5)], 6)
    assert dict(caught.value.headers)[b"x-should-retry"] == b"false"
    with pytest.raises(ApiError) as caught:
        await limiter.reserve([subject("other", tokens_per_day=5)], 6)
    assert caught.value.code == "insufficient_quota"


async def test_what_was_used_is_put_right_for_all(gateway: Callable[..., Any]) -> None:
    one, two = await gateway(), await gateway()
    web = subject(tokens_per_minute=1000, concurrent_requests=1, tokens_per_day=2000)
    first = await one.reserve([web], 500)
    one.settle(first, 100, 300)
    await until(lambda: one.store._drainer is None)
    second = await two.reserve([web], 600)
    assert second.decision.tokens.remaining == 0
    two.settle(second, None, 900)
    await until(lambda: two.store._drainer is None)
    with pytest.raises(ApiError) as caught:
        await one.reserve([web], 101)
    assert "tokens per day, used 1900" in caught.value.message


async def test_names_stay_here_and_every_key_ends(gateway: Callable[..., Any], server: RedisServer) -> None:
    limiter = await gateway()
    limits = dict.fromkeys(Limits.model_fields, 1000)
    await limiter.reserve([subject("key\0secret-name", **limits)], 1)
    async with redis.Redis.from_url(server.url, password=server.password) as client:
        keys = await client.keys("*")
        assert len(keys) == 4
        assert all(b"secret-name" not in key for key in keys)
        ends = sorted([await client.ttl(key) for key in keys])
        assert 0 < ends[0] <= ends[2] <= 62 < ends[3] <= 32 * 86400


async def test_the_month_is_that_of_the_calendar(gateway: Callable[..., Any], server: RedisServer) -> None:
    limiter = await gateway()
    await limiter.reserve([subject(tokens_per_month=10)], 4)
    async with redis.Redis.from_url(server.url, password=server.password) as client:
        (key,) = await client.keys("*:q")
        found = await client.hgetall(key)
        now = (await client.time())[0]
    assert (int(found[b"day"]), int(found[b"month"])) == calendar(now)
    assert (found[b"day_used"], found[b"month_used"]) == (b"4", b"4")


async def test_without_the_store_the_own_counts_hold_and_it_is_asked_again_when_back(
    gateway: Callable[..., Any], server: RedisServer
) -> None:
    limiter = await gateway()
    web, day = subject(requests_per_minute=10), subject("day", tokens_per_day=100)
    assert await count([limiter], [web], 6) == 6
    spent = await limiter.reserve([day], 10)
    await server.kill()
    # What was counted before goes on counting: 4 are left, and nobody is told anything but 200 or 429.
    assert await count([limiter], [web], 50) == 4
    assert not limiter.store.up
    assert limiter.store.failures >= 1
    assert limiter.local_decisions == 50
    limiter.settle(spent, 10, 60)
    await server.start()
    await until(lambda: limiter.store.up)
    # The store is new and knows only what it was told on return: the tokens of the day that came meanwhile.
    with pytest.raises(ApiError):
        await limiter.reserve([day], 41)
    assert await count([limiter], [web], 50) == 10
    assert limiter.local_decisions == 50


async def test_a_store_that_is_away_from_the_start_holds_up_nothing(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    settings = LimitSettings(store_url=server.url, store_retry_s=0.02)
    limiter = Limiter(settings, store=SharedStore(settings, server.password))
    await limiter.start()
    try:
        assert await count([limiter], [subject(requests_per_minute=3)], 20) == 3
        await server.start()
        assert limiter.store is not None
        store = limiter.store
        await until(lambda: store.up)
    finally:
        await limiter.close()
        await server.kill()


async def test_a_store_that_hangs_is_left_after_the_timeout(
    gateway: Callable[..., Any], server: RedisServer
) -> None:
    limiter = await gateway(store_timeout_s=0.2, store_retry_s=300)
    assert server._process is not None
    server._process.send_signal(19)  # SIGSTOP
    try:
        assert await count([limiter], [subject(requests_per_minute=5)], 20) == 5
        assert not limiter.store.up
    finally:
        server._process.send_signal(18)  # SIGCONT


async def test_a_wrong_password_is_a_store_that_is_down(server: RedisServer) -> None:
    settings = LimitSettings(store_url=server.url, store_timeout_s=5, store_retry_s=300)
    limiter = Limiter(settings, store=SharedStore(settings, "wrong"))
    await limiter.start()
    assert limiter.store is not None
    assert not limiter.store.up
    assert await count([limiter], [subject(requests_per_minute=2)], 5) == 2
    await limiter.close()


async def test_scripts_that_the_store_forgot_are_given_again(
    gateway: Callable[..., Any], server: RedisServer
) -> None:
    limiter = await gateway()
    async with redis.Redis.from_url(server.url, password=server.password) as client:
        await client.script_flush()
    assert await count([limiter], [subject(requests_per_minute=2)], 5) == 2
    assert limiter.local_decisions == 0


async def test_the_places_of_a_gateway_that_died_come_free(
    gateway: Callable[..., Any], server: RedisServer
) -> None:
    web = subject(concurrent_requests=1)
    dead, alive = await gateway(lease_s=3), await gateway(lease_s=3)
    held: Reservation = await dead.reserve([web], 1)
    async with redis.Redis.from_url(server.url, password=server.password) as client:
        (key,) = await client.keys("*:c")
        # Leases are made old here instead of waiting. A gateway that lives renews its own.
        late = (await client.time())[0] + 1
        await client.zadd(key, {held.lease: late})
        dead.store.renew()
        await until(lambda: dead.store._drainer is None)
        assert await client.zscore(key, held.lease) >= late + 1
        await client.zadd(key, {held.lease: 1})
    assert await count([alive], [web], 3) == 1


async def test_a_request_that_is_given_up_leaves_no_place_taken(gateway: Callable[..., Any]) -> None:
    limiter = await gateway()
    web = subject(concurrent_requests=1)
    task = asyncio.create_task(limiter.reserve([web], 1))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: limiter.store._drainer is None)
    assert await count([limiter], [web], 3) == 1

"""Engines and gateways for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from files.app.tests.gateway.harness import Running, model_of, running
from files.app.tests.gateway.mock_engine import MockEngine


@pytest.fixture
async def make_engine() -> AsyncIterator[Callable[[], Awaitable[MockEngine]]]:
    engines: list[MockEngine] = []

    async def make() -> MockEngine:
        engines.append(await MockEngine().start())
        return engines[-1]

    yield make
    for engine in engines:
        await engine.stop()


@pytest.fixture
async def engine(make_engine: Callable[[], Awaitable[MockEngine]]) -> MockEngine:
    return await make_engine()


@pytest.fixture
async def gateway(tmp_path: Path, engine: MockEngine) -> AsyncIterator[Running]:
    """A gateway in front of `engine`."""
    async with running(tmp_path, [model_of(engine, aliases=("smol",))]) as started:
        yield started

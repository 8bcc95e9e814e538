"""Every example of the page for clients, run as it stands there."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from files.app.tests.gateway.dialects import speak
from files.app.tests.gateway.harness import Running, model_of, running
from files.app.tests.gateway.mock_engine import MockEngine

PAGE = Path(__file__).parents[4] / "docs/clients.md"
EXAMPLES = re.findall(r"^```(bash|python)\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
async def gateway(tmp_path: Path, engine: MockEngine) -> AsyncIterator[Running]:
    engine.behaviour = speak
    models = [model_of(engine, name="small"), model_of(engine, name="mini", task="embed")]
    async with running(tmp_path, models) as started:
        yield started


def test_the_page_has_examples_of_both_kinds() -> None:
    assert {language for language, _ in EXAMPLES} == {"bash", "python"}


@pytest.mark.parametrize(
    ("language", "text"), EXAMPLES, ids=[f"{number}-{found[0]}" for number, found in enumerate(EXAMPLES)]
)
async def test_an_example_works(gateway: Running, engine: MockEngine, language: str, text: str) -> None:
    program = (
        [sys.executable, "-c", text] if language == "python" else ["bash", "-euo", "pipefail", "-c", text]
    )
    process = await asyncio.create_subprocess_exec(
        *program,
        env=os.environ | {"CITADEL_URL": gateway.url, "CITADEL_KEY": gateway.key},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, out.decode()
    assert len(engine.requests) == 1
    assert gateway.key.encode() not in out

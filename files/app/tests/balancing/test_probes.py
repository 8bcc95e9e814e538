"""Probes: what is asked when, what is believed, and how a hung engine leaves and returns."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from citadel_llm.gateway.balancing.backend import BackendState, EngineLoad
from citadel_llm.gateway.balancing.probes import Prober, engine_load
from citadel_llm.schema.resilience import Probes
from files.app.tests.balancing.fakes import FakeTime, numbers, rules, state

OK: dict[str, Any] = {"/health": (200, b""), "/metrics": (200, b""), "/v1/completions": (200, b"{}")}


class Engine:
    """Answers what a test says: a status and a body, or an error to raise, or an event to wait for."""

    def __init__(self, **changes: Any) -> None:
        self.answers = OK | changes
        self.asked: list[tuple[str, str]] = []
        self.bodies: list[bytes] = []
        self.timeouts: list[float] = []

    async def ask(
        self, backend: BackendState, method: str, path: str, body: bytes, timeout_s: float
    ) -> tuple[int, bytes]:
        self.asked.append((backend.name, path))
        self.bodies.append(body)
        self.timeouts.append(timeout_s)
        answer = self.answers[path]
        if callable(answer):
            answer = answer()
        if isinstance(answer, asyncio.Event):
            await answer.wait()
            return 200, b""
        if isinstance(answer, Exception):
            raise answer
        found: tuple[int, bytes] = answer
        return found


def prober(engine: Engine, time: FakeTime, **fields: Any) -> Prober:
    settings = Probes.model_validate({"interval_s": 2, "unhealthy_after": 2, "real_every": 3} | fields)
    return Prober(settings, engine.ask, time=time.time, random=numbers(0.5))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def ticks(probes: Prober, time: FakeTime, backends: list[BackendState], seconds: float) -> None:
    for _ in range(round(seconds * 2)):
        time.go(0.5)
        probes.tick((backend, "generate") for backend in backends)
        await settle()


def vllm(*lines: str) -> bytes:
    return "\n".join(["# HELP vllm:num_requests_running x", *lines, ""]).encode()


@pytest.mark.parametrize(
    ("text", "load"),
    [
        (
            vllm(
                'vllm:num_requests_running{engine="0",model_name="m"} 3.0',
                'vllm:num_requests_waiting{engine="0",model_name="m"} 2.0',
                'vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 9.0',
                'vllm:kv_cache_usage_perc{engine="0"} 0.25',
                'vllm:prompt_tokens_total{engine="0",model_name="m"} 5.0',
                'vllm:generation_tokens_total{engine="0",model_name="m"} 7.0',
                'vllm:iteration_tokens_total_bucket{engine="0",le="8.0"} 282.0',
            ),
            EngineLoad(3, 2, 0.25, 12),
        ),
        (
            vllm(
                'vllm:num_requests_running{engine="0"} 1', 'vllm:num_requests_running{engine="1"} 2e0',
                "vllm:num_requests_waiting 0", "vllm:gpu_cache_usage_perc 0.5",
                'vllm:kv_cache_usage_perc{engine="1"} 0.75',
            ),
            EngineLoad(3, 0, 0.75),
        ),
        (vllm("vllm:kv_cache_usage_perc 0.5"), None),
        (b"", None),
        (vllm("vllm:num_requests_running ..", "vllm:num_requests_waiting 1"), EngineLoad(0, 1, 0)),
    ],
)  # fmt: skip
def test_the_engines_own_numbers(text: bytes, load: EngineLoad | None) -> None:
    assert engine_load(text) == load


async def test_each_back_end_is_asked_at_its_interval() -> None:
    time, engine = FakeTime(), Engine()
    backends = [state("a"), state("b")]
    probes = prober(engine, time)
    await ticks(probes, time, backends, 12)
    asked = [path for name, path in engine.asked if name == "a"]
    assert 5 <= asked.count("/health") <= 6
    assert asked.count("/metrics") == asked.count("/health")
    assert asked.count("/v1/completions") == 1 + (asked.count("/health") == 6)
    real = next(b for (_, path), b in zip(engine.asked, engine.bodies, strict=True) if path.startswith("/v1"))
    assert json.loads(real)["max_tokens"] == 1
    assert json.loads(real)["model"] == "served"
    assert probes.results["m", "a", "health", "passed"] == asked.count("/health")


async def test_requests_of_clients_prove_as_much_as_a_real_probe() -> None:
    time, engine = FakeTime(), Engine()
    backend = state()
    attempt = backend.begin(time.now)
    probes = prober(engine, time)
    for _ in range(20):
        attempt.chunk(time.now)
        await ticks(probes, time, [backend], 1)
    assert ("a", "/v1/completions") not in engine.asked


async def test_no_back_end_is_asked_twice_at_once_and_the_number_is_bounded() -> None:
    time, engine = FakeTime(), Engine(**{"/health": asyncio.Event()})
    probes = prober(engine, time, concurrency=2)
    backends = [state(name) for name in "abc"]
    await ticks(probes, time, backends, 20)
    assert sorted(engine.asked) == [("a", "/health"), ("b", "/health")]
    await probes.close()
    assert probes._tasks == {}


async def test_a_refused_health_takes_it_out_and_a_good_one_brings_it_back() -> None:
    time, engine = FakeTime(), Engine(**{"/health": ConnectionRefusedError()})
    backend = state()
    probes = prober(engine, time)
    await ticks(probes, time, [backend], 2)
    assert backend.health(time.now) == "up"
    await ticks(probes, time, [backend], 3)
    assert backend.health(time.now) == "unhealthy"
    engine.answers["/health"] = (200, b"")
    await ticks(probes, time, [backend], 3)
    assert backend.health(time.now) == "up"
    engine.answers["/health"] = (503, b"")
    await ticks(probes, time, [backend], 5)
    assert backend.health(time.now) == "unhealthy"


async def test_silence_makes_it_ask_for_a_token_and_only_a_token_brings_it_back() -> None:
    time, engine = FakeTime(), Engine(**{"/v1/completions": TimeoutError()})
    backend = state(by=rules(stall_after_s=5))
    probes = prober(engine, time, real_every=0, real_timeout_s=7)
    moved: list[bool] = []
    attempt = backend.begin(time.now, lambda: moved.append(True))
    await ticks(probes, time, [backend], 4)
    assert ("a", "/v1/completions") not in engine.asked
    await ticks(probes, time, [backend], 2)
    assert (backend.health(time.now), moved) == ("stalled", [True])
    assert engine.timeouts[engine.asked.index(("a", "/v1/completions"))] == 7
    before = len(engine.asked)
    await ticks(probes, time, [backend], 6)
    assert {path for _, path in engine.asked[before:]} == {"/v1/completions"}
    attempt.chunk(time.now)
    await ticks(probes, time, [backend], 4)
    assert backend.stalled
    engine.answers["/v1/completions"] = (200, b"{}")
    await ticks(probes, time, [backend], 3)
    assert backend.health(time.now) == "up"
    assert probes.results["m", "a", "real", "timeout"] >= 2


async def test_an_engine_that_is_only_busy_stays() -> None:
    time = FakeTime()
    backend = state(by=rules(stall_after_s=5))
    attempt = backend.begin(time.now)

    def others_get_bytes() -> Exception:
        time.go(1)
        attempt.chunk(time.now)
        return TimeoutError()

    engine = Engine(**{"/v1/completions": others_get_bytes})
    await ticks(prober(engine, time), time, [backend], 6)
    assert ("a", "/v1/completions") in engine.asked
    assert backend.health(time.now) == "up"


async def test_long_answers_without_streams_are_no_stall() -> None:
    time, engine = FakeTime(), Engine()
    backend = state(by=rules(stall_after_s=5))
    backend.begin(time.now)
    probes = prober(engine, time)
    for _ in range(60):
        await ticks(probes, time, [backend], 0.5)
        assert backend.health(time.now) == "up"
    assert 4 <= engine.asked.count(("a", "/v1/completions")) <= 10


async def test_a_process_that_hangs_is_found_by_its_health() -> None:
    time, engine = FakeTime(), Engine(**{"/health": TimeoutError(), "/v1/completions": TimeoutError()})
    backend = state(by=rules(stall_after_s=500))
    moved: list[bool] = []
    backend.begin(time.now, lambda: moved.append(True))
    probes = prober(engine, time)
    await ticks(probes, time, [backend], 6)
    assert (backend.health(time.now), moved) == ("stalled", [True])
    engine.answers["/health"] = (200, b"")
    await ticks(probes, time, [backend], 4)
    assert backend.stalled
    engine.answers |= OK
    await ticks(probes, time, [backend], 4)
    assert backend.health(time.now) == "up"


async def test_answers_that_have_begun_end_when_the_engine_is_found_to_hang() -> None:
    time, engine = FakeTime(), Engine(**{"/health": TimeoutError(), "/v1/completions": TimeoutError()})
    backend = state(by=rules(stall_after_s=30))
    ended: list[float] = []
    backend.begin(time.now, lambda: ended.append(time.now)).first_byte(time.now)
    began = time.now
    probes = prober(engine, time)
    await ticks(probes, time, [backend], 10)
    assert (backend.health(time.now), ended) == ("stalled", [])
    await ticks(probes, time, [backend], 30)
    assert ended == [began + 30]


async def test_long_prompts_of_others_end_no_answer_that_has_begun() -> None:
    """A stream may be silent while the engine computes: its counters go up, or it answers one token."""
    time, ended = FakeTime(), list[bool]()
    backend = state(by=rules(stall_after_s=5))
    backend.begin(time.now, lambda: ended.append(True)).first_byte(time.now)

    def metrics() -> tuple[int, bytes]:
        return 200, vllm("vllm:num_requests_running 2", f"vllm:prompt_tokens_total {time.now}")

    engine = Engine(**{"/metrics": metrics, "/v1/completions": TimeoutError()})
    await ticks(prober(engine, time), time, [backend], 120)
    engine.answers |= {"/metrics": (404, b""), "/v1/completions": (200, b"{}")}
    await ticks(prober(engine, time), time, [backend], 120)
    assert ("a", "/v1/completions") in engine.asked
    assert ended == []


async def test_what_an_engine_refuses_it_answers() -> None:
    time, engine = FakeTime(), Engine(**{"/v1/completions": (404, b"")})
    backend = state()
    await ticks(prober(engine, time, real_every=1), time, [backend], 8)
    assert backend.health(time.now) == "up"
    engine.answers["/v1/completions"] = (500, b"")
    await ticks(prober(engine, time, real_every=1), time, [backend], 8)
    assert backend.stalled


async def test_load_is_taken_over_and_forgotten_when_it_cannot_be_had() -> None:
    time, engine = FakeTime(), Engine(**{"/metrics": (200, vllm("vllm:num_requests_waiting 4"))})
    backend = state()
    probes = prober(engine, time)
    await ticks(probes, time, [backend], 3)
    assert backend.polled == EngineLoad(0, 4, 0)
    engine.answers["/metrics"] = ConnectionResetError()
    await ticks(probes, time, [backend], 3)
    assert (backend.polled, backend.foreign) == (None, 0.0)


async def test_what_the_snapshot_drops_is_forgotten() -> None:
    time, engine = FakeTime(), Engine(**{"/health": asyncio.Event()})
    probes = prober(engine, time)
    await ticks(probes, time, [state("a"), state("b")], 3)
    await ticks(probes, time, [], 1)
    tables = (probes._due, probes._rounds, probes._known, probes._tasks, probes.results)
    assert all(len(table) == 0 for table in tables)


def test_a_real_exposition_is_understood() -> None:
    path = Path(__file__).parents[1] / "fixtures" / "vllm-metrics.txt"
    assert engine_load(path.read_bytes()) == EngineLoad(running=2, waiting=1, kv=0.375, tokens=632)


async def test_an_engine_that_counts_tokens_is_not_asked_for_more() -> None:
    """Long prompts, or long answers without streams: nobody gets a byte for minutes, and nothing hangs."""
    time = FakeTime()
    backend = state(by=rules(stall_after_s=5))
    tokens = 0

    def metrics() -> tuple[int, bytes]:
        nonlocal tokens
        tokens += 100
        return 200, vllm("vllm:num_requests_running 8", f"vllm:generation_tokens_total {tokens}")

    engine = Engine(**{"/metrics": metrics, "/v1/completions": TimeoutError()})
    backend.begin(time.now)
    probes = prober(engine, time, real_every=0)
    await ticks(probes, time, [backend], 30)
    assert ("a", "/v1/completions") not in engine.asked
    still = f"vllm:generation_tokens_total {tokens}"
    engine.answers["/metrics"] = (200, vllm("vllm:num_requests_running 8", still))
    await ticks(probes, time, [backend], 10)
    assert backend.stalled  # the counters stand still


async def test_progress_while_it_is_asked_for_a_token_keeps_it() -> None:
    time = FakeTime()
    backend = state(by=rules(stall_after_s=5))
    count = iter(range(1000))
    asked = False

    def real() -> Exception:
        nonlocal asked
        asked = True
        return TimeoutError()

    def metrics() -> tuple[int, bytes]:
        tokens = next(count) if asked else 0  # a long prompt, and then tokens
        return 200, vllm("vllm:num_requests_running 8", f"vllm:generation_tokens_total {tokens}")

    engine = Engine(**{"/metrics": metrics, "/v1/completions": real})
    backend.begin(time.now)
    next(count)
    await ticks(prober(engine, time, real_every=0), time, [backend], 9)
    assert asked
    assert backend.health(time.now) == "up"

"""A whole gateway on real sockets with engines behind it, a client that behaves, and eyes on all of them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import json
import sys
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from citadel_llm.keys.records import new_key
from citadel_llm.schema.access import Limits, RequestLimits
from citadel_llm.schema.routes import Backend, Model
from citadel_llm.telemetry import configure_logging
from files.app.tests.gateway.harness import Running, key_entry, running
from tools.fuzz import answers
from tools.fuzz.engines import Engine
from tools.fuzz.grammar import Names
from tools.fuzz.heads import KEYS
from tools.fuzz.strict import Reading

WELL = "org/well"
_PAUSE_S = 0.02
_PATIENCE_S = 20.0
_SLACK = 4
"""Descriptors: connections of the client that behaves come and go."""
_SETTINGS: dict[str, Any] = {
    # An engine that answers nonsense is asked again at once. Waits are long: the machine may be busy.
    "breaker": {"consecutive": 1000, "min_requests": 100_000, "open_s": 0, "open_max_s": 0},
    "timeouts": {"head_s": 15, "body_s": 15, "first_byte_s": 10, "idle_s": 10, "send_s": 10},
    "backends": {"keepalive_s": 0.2},
    "retries": {"min_per_s": 100_000},
    "max_json_depth": 64,
    "keepalive_s": 5,
}


class Log(io.TextIOBase):
    """Takes the gateway's log: JSON lines, none of which tells of an unexpected error."""

    def __init__(self) -> None:
        self.complaints: list[str] = []

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        for line in text.splitlines():
            try:
                level = json.loads(line)["level"]
            except (ValueError, KeyError, TypeError):
                self.complaints.append(f"a line of the log is not JSON: {line[:500]!r}")
                continue
            if level in ("error", "critical"):
                self.complaints.append(f"the log tells of an error: {line[:4000]}")
        return len(text)


@dataclass
class Lane:
    """What one client after the other uses: two engines, and models of its own on them."""

    names: Names
    plain: Engine
    wild: Engine
    before: deque[Reading] = field(default_factory=lambda: deque(maxlen=8))
    """What the last clients sent."""

    def models(self) -> list[Model]:
        """The models of the lane."""
        names = self.names
        limits = RequestLimits(max_tokens=4096, max_choices=4)
        return [
            _model(names.plain, self.plain, names.plain, request_limits=limits),
            _model(names.renamed, self.plain, "served", policy="prefix"),
            _model(names.wild, self.wild, names.wild),
        ]


@dataclass
class World:
    """Everything that an input meets. `complaints` has what was noticed since it was emptied last."""

    gateway: Running
    lanes: list[Lane]
    keys: dict[bytes, bytes]
    log: Log
    complaints: list[str] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    """Seconds that each answer to the client that behaves took."""
    at_rest: tuple[int, int] = (0, 0)

    def with_keys(self, data: bytes) -> bytes:
        """An input with keys in the places of their marks."""
        for mark, key in self.keys.items():
            data = data.replace(mark, key)
        return data

    def take_complaints(self) -> list[str]:
        found = [*self.complaints, *self.log.complaints]
        self.complaints.clear()
        self.log.complaints.clear()
        return found

    # -- what is left over

    def _left(self) -> dict[str, int]:
        process = self.gateway.process
        routes = process.engines.balancer.routes.values()
        backends = [backend for route in routes for backend in route.backends]
        return {
            "connections of clients": self.gateway.connections - 1,  # one is the client's that behaves
            "requests in flight": process.gateway.in_flight,
            "requests at back ends": sum(backend.in_flight for backend in backends),
            "requests in budgets": sum(route.budget.in_flight for route in routes),
            "requests in queues": sum(route.queue.waiting for route in routes),
            "connections to engines": len(process.engines.pool.connections),
        }

    def _tasks_and_descriptors(self) -> tuple[int, int]:
        return len(asyncio.all_tasks()), len(list(Path("/proc/self/fd").iterdir()))

    async def rest(self) -> list[str]:
        """Wait until nothing is under way; what then is left over, compared with the first time."""
        end = time.monotonic() + _PATIENCE_S
        while time.monotonic() < end:
            await asyncio.sleep(0.05)
            # Connections to engines of the client that behaves come and go.
            left = {name: number for name, number in self._left().items() if number > 0}
            left.pop("connections to engines", None)
            counted = self._tasks_and_descriptors()
            if not left and (
                self.at_rest == (0, 0)
                or (counted[0] <= self.at_rest[0] and counted[1] <= self.at_rest[1] + _SLACK)
            ):
                if self.at_rest == (0, 0):
                    self.at_rest = counted
                return []
        gc.collect()
        return [f"left over: {left}; tasks and descriptors {counted}, at first {self.at_rest}"]


async def _behave(world: World, port: int, key: bytes) -> None:
    """Ask over and over on one connection; every answer must be a good one."""
    body = json.dumps({"model": WELL, "messages": []}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer %b\r\n"
    request = head % key + b"content-length: %d\r\n\r\n%b" % (len(body), body)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while True:
            began = time.monotonic()
            writer.write(request)
            async with asyncio.timeout(_PATIENCE_S):
                status = await reader.readuntil(b"\r\n\r\n")
                answer = await reader.readexactly(len(answers.ANSWER))
            world.waits.append(time.monotonic() - began)
            if not status.startswith(b"HTTP/1.1 200 ") or answer != answers.ANSWER:
                world.complaints.append(f"a client that behaves got {status[:300]!r} {answer!r}")
            await asyncio.sleep(_PAUSE_S)
    except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
        world.complaints.append(f"a client that behaves was not served: {error!r}")
    finally:
        writer.close()


@contextlib.asynccontextmanager
async def world(directory: Path, lanes: int) -> AsyncIterator[World]:
    """Start everything; end it, too. It must be the loop's only work."""
    engines = [Engine() for _ in range(2 * lanes + 1)]
    for engine in engines:
        await engine.start()
    well = engines[-1]
    all_lanes = [Lane(Names(n), engines[2 * n], engines[2 * n + 1]) for n in range(lanes)]
    keys = {mark: new_key().encode() for mark in KEYS.values()}
    secrets = {name: keys[mark].decode() for name, mark in KEYS.items()}
    own = new_key()
    log = Log()
    configure_logging(style="json", stream=log, service="citadel-gateway")  # type: ignore[arg-type]
    entries = [
        key_entry(secrets["good"], "good", limits=Limits(concurrent_requests=10_000, tokens_per_day=10**15)),
        key_entry(
            secrets["small"],
            "small",
            limits=Limits(requests_per_minute=300, tokens_per_minute=50_000),
            user_limits=Limits(requests_per_minute=60),
        ),
        key_entry(secrets["narrow"], "narrow", endpoints=("models", "chat_completions"), models=("*/plain",)),
        key_entry(own, "own"),
    ]
    models = [model for lane in all_lanes for model in lane.models()] + [_model(WELL, well, WELL)]
    async with running(directory, models, keys=entries, state_dir=directory, **_SETTINGS) as gateway:
        found = World(gateway, all_lanes, keys, log)
        with _watched(found.complaints):
            client = asyncio.create_task(_behave(found, gateway.port, own.encode()))
            try:
                yield found
            finally:
                client.cancel()
                await asyncio.gather(client, return_exceptions=True)
    for engine in engines:
        engine.stop()


def _model(name: str, engine: Engine, served: str, **fields: Any) -> Model:
    backend = Backend(name="engine-0", url=f"http://127.0.0.1:{engine.port}", model=served)
    return Model(name=name, backends=(backend,), **fields)


@contextlib.contextmanager
def _watched(complaints: list[str]) -> Any:
    """Write down what would otherwise only be printed: exceptions that nobody caught."""
    loop = asyncio.get_running_loop()

    def tell(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        complaints.append(f"nobody caught: {context.get('message')} {context.get('exception')!r}")

    hook = sys.unraisablehook
    loop.set_exception_handler(tell)
    sys.unraisablehook = lambda args: complaints.append(
        f"nobody caught: {args.exc_value!r} in {args.object!r}"
    )
    try:
        yield
    finally:
        loop.set_exception_handler(None)
        sys.unraisablehook = hook

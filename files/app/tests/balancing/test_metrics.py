"""What Prometheus reads: states, loads and decisions, with labels that the snapshot bounds."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from citadel_llm.gateway.balancing.backend import EngineLoad, Outcome
from citadel_llm.gateway.balancing.balancer import Balancer
from citadel_llm.gateway.balancing.metrics import BalancingCollector, QueueTime
from citadel_llm.gateway.balancing.probes import Prober
from citadel_llm.gateway.balancing.wish import Wish
from citadel_llm.schema.resilience import Probes
from citadel_llm.schema.routes import Arm, Backend, Model
from citadel_llm.schema.snapshot import seal
from files.app.tests.balancing.fakes import FakeTime, numbers, surroundings


def canonical(line: str) -> tuple[str, frozenset[str], str]:
    """A sample without regard to the order of its labels."""
    name, _, rest = line.partition("{")
    labels, _, value = rest.partition("} ")
    return name, frozenset(labels.split(",")), value


def test_everything_is_there_and_nothing_else() -> None:
    time, registry = FakeTime(), CollectorRegistry()
    balancer = Balancer(surroundings(time))
    backends = tuple(Backend(name=n, url=f"http://{n}:1", model="m") for n in "ab")
    arms = (Arm(name="x", backends=("a",)), Arm(name="y", backends=("b",)))
    balancer.apply(seal([Model(name="m", backends=backends, arms=arms)], [])[0])

    async def ask(*_args: object) -> tuple[int, bytes]:
        raise AssertionError("nothing is asked here")

    prober = Prober(Probes(), ask, time=time.time, random=numbers(0.5))
    prober.results["m", "a", "health", "passed"] = 3
    prober.tick((backend, "generate") for backend in balancer.backends.values())
    registry.register(BalancingCollector(balancer, prober, time.time))
    route = balancer.routes["m"]
    attempt = route.take(Wish(sticky="key=k"))
    assert attempt is not None
    attempt.backend.polled_load(EngineLoad(1, 2, 0.5), 1.0)
    other = next(b for b in route.backends if b is not attempt.backend)
    other.begin(time.now).end(Outcome.UNREACHABLE, time.now)
    route.budget.withdraw(time.now)
    used, failed = attempt.backend.name, other.name
    text = generate_latest(registry).decode()
    found = {canonical(line) for line in text.splitlines()}
    prefix = "citadel_gateway"
    for line in (
        f'{prefix}_backend_up{{backend="{used}",model="m"}} 1.0',
        f'{prefix}_backend_up{{backend="{failed}",model="m"}} 0.0',
        f'{prefix}_backend_state{{backend="{failed}",model="m",state="open"}} 1.0',
        f'{prefix}_backend_breaker_opened_total{{backend="{failed}",model="m"}} 1.0',
        f'{prefix}_backend_requests_in_flight{{backend="{used}",model="m"}} 1.0',
        f'{prefix}_backend_engine_waiting{{backend="{used}",model="m"}} 2.0',
        f'{prefix}_backend_engine_kv_usage{{backend="{used}",model="m"}} 0.5',
        f'{prefix}_backend_attempts_total{{backend="{failed}",model="m",outcome="unreachable"}} 1.0',
        f'{prefix}_backend_failures_total{{backend="{failed}",cause="unreachable",model="m"}} 1.0',
        f'{prefix}_backend_probes_total{{backend="a",kind="health",model="m",result="passed"}} 3.0',
        f'{prefix}_queue_requests{{model="m"}} 0.0',
        f'{prefix}_queue_refused_total{{model="m",reason="full"}} 0.0',
        f'{prefix}_paused{{model="m"}} 0.0',
        f'{prefix}_retries_total{{model="m"}} 1.0',
        f'{prefix}_arm_attempts_total{{arm="{attempt.backend.arm}",model="m"}} 1.0',
    ):
        assert canonical(line) in found, line
    balancer.apply(seal([], [])[0])
    prober.tick([])
    assert 'model="m"' not in generate_latest(registry).decode()


def test_waiting_is_a_histogram() -> None:
    registry = CollectorRegistry()
    times = QueueTime(registry)
    times.waited("m", 0.2)
    assert 'citadel_gateway_queue_seconds_count{model="m"} 1.0' in generate_latest(registry).decode()
    times.keep_only(set(), {"m"})
    assert 'model="m"' not in generate_latest(registry).decode()

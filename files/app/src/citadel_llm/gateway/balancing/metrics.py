"""What Prometheus is told of back ends and queues, read when it asks: requests pay nothing for it.

Labels are bounded by the snapshot: models, back ends, arms, and names of states, outcomes and reasons from
here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import get_args

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from citadel_llm.gateway.balancing.backend import BackendState, Health
from citadel_llm.gateway.balancing.balancer import Balancer
from citadel_llm.gateway.balancing.probes import Prober
from citadel_llm.gateway.balancing.route import ModelRoute
from citadel_llm.telemetry.metrics import LATENCY_BUCKETS

_PREFIX = "citadel_gateway"
_STATES: tuple[Health, ...] = get_args(Health)
_BACKEND = ["model", "backend"]


class QueueTime:
    """How long requests waited for a back end; those that did not wait are not counted."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            f"{_PREFIX}_queue_seconds",
            "Time that requests waited for a back end, of those that had to wait.",
            ["model"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )

    def waited(self, model: str, seconds: float) -> None:
        self._seconds.labels(model).observe(seconds)

    def keep_only(self, models: set[str], known: set[str]) -> None:
        """Forget the models of `known` that are not in `models`."""
        for model in known - models:
            self._seconds.remove_by_labels({"model": model})


class BalancingCollector(Collector):
    """Reads the state of all back ends, queues and retry budgets."""

    def __init__(self, balancer: Balancer, prober: Prober, now: Callable[[], float]) -> None:
        self._balancer = balancer
        self._prober = prober
        self._now = now

    def collect(self) -> Iterator[Metric]:
        backends = list(self._balancer.backends.values())
        routes = list(self._balancer.routes.values())
        yield from _states(backends, self._now())
        yield from _loads(backends)
        yield from _attempts(backends)
        yield from _queues(routes)
        yield from _decisions(routes)
        yield self._probes()
        yield _gauge("prefix_blocks", "Blocks of prompts that are remembered.", len(self._balancer.prefixes))

    def _probes(self) -> Metric:
        metric = CounterMetricFamily(
            f"{_PREFIX}_backend_probes",
            "Probes of back ends, by what was asked.",
            labels=[*_BACKEND, "kind", "result"],
        )
        for labels, number in self._prober.results.items():
            metric.add_metric(labels, number)
        return metric


def _states(backends: list[BackendState], now: float) -> Iterator[Metric]:
    up = GaugeMetricFamily(f"{_PREFIX}_backend_up", "Whether a back end gets requests.", labels=_BACKEND)
    state = GaugeMetricFamily(
        f"{_PREFIX}_backend_state", "1 for the state that a back end is in.", labels=[*_BACKEND, "state"]
    )
    opened = CounterMetricFamily(
        f"{_PREFIX}_backend_breaker_opened", "How often the circuit breaker opened.", labels=_BACKEND
    )
    for backend in backends:
        labels = [backend.model, backend.name]
        health = backend.health(now)
        up.add_metric(labels, float(health == "up"))
        opened.add_metric(labels, backend.breaker.opened)
        for name in _STATES:
            state.add_metric([*labels, name], float(name == health))
    yield from (up, state, opened)


def _loads(backends: list[BackendState]) -> Iterator[Metric]:
    in_flight = GaugeMetricFamily(
        f"{_PREFIX}_backend_requests_in_flight", "Requests that a back end has.", labels=_BACKEND
    )
    first_byte = GaugeMetricFamily(
        f"{_PREFIX}_backend_first_byte_seconds",
        "Time to the first byte, exponentially weighted.",
        labels=_BACKEND,
    )
    queued = GaugeMetricFamily(
        f"{_PREFIX}_backend_engine_waiting",
        "Requests waiting in the engine, as it said last.",
        labels=_BACKEND,
    )
    cache = GaugeMetricFamily(
        f"{_PREFIX}_backend_engine_kv_usage", "Share of the engine's KV cache in use.", labels=_BACKEND
    )
    for backend in backends:
        labels = [backend.model, backend.name]
        in_flight.add_metric(labels, backend.in_flight)
        first_byte.add_metric(labels, backend.ewma_first_byte)
        if backend.polled is not None:
            queued.add_metric(labels, backend.polled.waiting)
            cache.add_metric(labels, backend.polled.kv)
    yield from (in_flight, first_byte, queued, cache)


def _attempts(backends: list[BackendState]) -> Iterator[Metric]:
    attempts = CounterMetricFamily(
        f"{_PREFIX}_backend_attempts",
        "Attempts on back ends, by how they ended.",
        labels=[*_BACKEND, "outcome"],
    )
    failures = CounterMetricFamily(
        f"{_PREFIX}_backend_failures",
        "Failed attempts on a back end, those included that another one made good.",
        labels=[*_BACKEND, "cause"],
    )
    for backend in backends:
        labels = [backend.model, backend.name]
        for outcome, number in backend.outcomes.items():
            attempts.add_metric([*labels, outcome.label], number)
            if outcome.failure:
                failures.add_metric([*labels, outcome.label], number)
    yield from (attempts, failures)


def _queues(routes: list[ModelRoute]) -> Iterator[Metric]:
    waiting = GaugeMetricFamily(
        f"{_PREFIX}_queue_requests", "Requests that wait for a back end.", labels=["model"]
    )
    paused = GaugeMetricFamily(f"{_PREFIX}_paused", "Whether a model's requests are held.", labels=["model"])
    refused = CounterMetricFamily(
        f"{_PREFIX}_queue_refused", "Requests that the queue refused.", labels=["model", "reason"]
    )
    for route in routes:
        waiting.add_metric([route.name], route.queue.waiting)
        paused.add_metric([route.name], float(route.queue.paused))
        refused.add_metric([route.name, "full"], route.queue.full)
        refused.add_metric([route.name, "late"], route.queue.late)
    yield from (waiting, paused, refused)


def _decisions(routes: list[ModelRoute]) -> Iterator[Metric]:
    retries = CounterMetricFamily(f"{_PREFIX}_retries", "Requests sent again.", labels=["model"])
    denied = CounterMetricFamily(
        f"{_PREFIX}_retries_denied", "Retries that the budget did not allow.", labels=["model"]
    )
    arms = CounterMetricFamily(
        f"{_PREFIX}_arm_attempts", "Attempts on the back ends of an arm.", labels=["model", "arm"]
    )
    for route in routes:
        retries.add_metric([route.name], route.budget.granted)
        denied.add_metric([route.name], route.budget.denied)
        for arm, number in route.arm_requests.items() if route.model.arms else ():
            arms.add_metric([route.name, arm], number)
    yield from (retries, denied, arms)


def _gauge(name: str, text: str, value: float) -> Metric:
    metric = GaugeMetricFamily(f"{_PREFIX}_{name}", text)
    metric.add_metric([], value)
    return metric

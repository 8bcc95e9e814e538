"""What the gateway counts. Labels are bounded: models and back ends of the snapshot, statuses, causes."""

from __future__ import annotations

from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge

from citadel_llm.gateway.key_metrics import KeyMetrics
from citadel_llm.telemetry import tally
from citadel_llm.telemetry.metrics import LATENCY_BUCKETS, new_registry

NO_MODEL = ""
"""The label of requests that did not get as far as a model of the snapshot."""


class _ModelMetrics(NamedTuple):
    in_flight: tally.Count
    first_byte: tally.Distribution
    duration: tally.Distribution
    prompt_tokens: tally.Count
    completion_tokens: tally.Count


class GatewayMetrics:
    """All metrics of one gateway, in a registry of its own. `keys` is how many pairs of key and model have
    series of their own; with 0 nothing is counted by key."""

    def __init__(self, registry: CollectorRegistry | None = None, *, keys: int = 100) -> None:
        self.registry = registry or new_registry()
        self.keys = KeyMetrics(keys, self.registry) if keys else None
        prefix = "citadel_gateway"
        self.requests = tally.Counter(
            f"{prefix}_requests", "Requests answered.", ["model", "endpoint", "code"], registry=self.registry
        )
        self.failures = tally.Counter(
            f"{prefix}_failures",
            "Requests that did not succeed, by cause.",
            ["model", "cause"],
            registry=self.registry,
        )
        self.in_flight = tally.Gauge(
            f"{prefix}_requests_in_flight", "Requests being served.", ["model"], registry=self.registry
        )
        self.first_byte = tally.Histogram(
            f"{prefix}_time_to_first_byte_seconds",
            "From a request's arrival to the first byte of its answer's body.",
            ["model"],
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.duration = tally.Histogram(
            f"{prefix}_request_duration_seconds",
            "From a request's arrival to the end of its answer.",
            ["model"],
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.tokens = tally.Counter(
            f"{prefix}_tokens", "Tokens that engines reported.", ["model", "kind"], registry=self.registry
        )
        self.snapshot_info = Gauge(
            f"{prefix}_snapshot_info", "The routing snapshot in use.", ["version"], registry=self.registry
        )
        self.snapshot_created = Gauge(
            f"{prefix}_snapshot_created_timestamp_seconds",
            "When the snapshot in use was built.",
            registry=self.registry,
        )
        self.snapshot_age = Gauge(
            f"{prefix}_snapshot_age_seconds",
            "Time since the snapshot in use was loaded.",
            registry=self.registry,
        )
        self.snapshot_refused = Counter(
            f"{prefix}_snapshot_refused", "Snapshots that were refused.", registry=self.registry
        )
        self.access_lines_dropped = Gauge(
            f"{prefix}_access_lines_dropped",
            "Lines of the access log that were dropped because nobody took them.",
            registry=self.registry,
        )
        self.draining = Gauge(
            f"{prefix}_draining", "Whether the gateway is shutting down.", registry=self.registry
        )
        self._by_model: dict[str, _ModelMetrics] = {}
        self._requests: dict[tuple[str, str, int], tally.Count] = {}
        self._models: set[str] = set()

    def of(self, model: str) -> _ModelMetrics:
        """The metrics of one model. Looking labels up once is what keeps counting cheap."""
        found = self._by_model.get(model)
        if found is None:
            found = self._by_model[model] = _ModelMetrics(
                self.in_flight.labels(model),
                self.first_byte.labels(model),
                self.duration.labels(model),
                self.tokens.labels(model, "prompt"),
                self.tokens.labels(model, "completion"),
            )
        return found

    def answered(self, model: str, endpoint: str, code: int) -> None:
        counter = self._requests.get((model, endpoint, code))
        if counter is None:
            counter = self._requests[model, endpoint, code] = self.requests.labels(model, endpoint, str(code))
        counter.inc()

    def snapshot_in_use(self, version: str, created: float, names: set[str]) -> None:
        """Tell of a snapshot with the models of these names, and forget those that it no longer has."""
        self.snapshot_info.clear()
        self.snapshot_info.labels(version).set(1)
        self.snapshot_created.set(created)
        models = names | {NO_MODEL}
        for model in names:
            self.of(model)  # a series that starts at 0 shows the first event
        for model in set(self._by_model) - models:
            del self._by_model[model]
        for identity in [identity for identity in self._requests if identity[0] not in models]:
            del self._requests[identity]
        for metric in (
            self.requests,
            self.failures,
            self.in_flight,
            self.first_byte,
            self.duration,
            self.tokens,
        ):
            for model in self._models - models:
                metric.remove_by_labels({"model": model})
        if self.keys is not None:
            self.keys.forget(self._models - models)
        self._models = names

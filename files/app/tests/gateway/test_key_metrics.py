"""Counts by key stay bounded and true, whichever keys are used most."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from citadel_llm.gateway.key_metrics import OTHER, KeyMetrics


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def read(registry: CollectorRegistry) -> dict[tuple[str, str, str], float]:
    """Value by key, model, and result or kind; zeros left out."""
    found = {}
    for family in registry.collect():
        for sample in family.samples:
            key, model, *what = sample.labels.values()
            if sample.value:
                found[key, model, what[0]] = sample.value
    return found


def test_results_and_tokens_are_counted_by_key_and_model() -> None:
    registry = CollectorRegistry()
    metrics = KeyMetrics(10, registry)
    metrics.count("k1", "m", 200, (7, 2))
    metrics.count("k1", "m", 200, (3, 1))
    for status in (429, 400, 502):
        metrics.count("k1", "m", status, None)
    metrics.count("k2", "m", 499, None)
    assert read(registry) == {
        ("k1", "m", "ok"): 2,
        ("k1", "m", "limited"): 1,
        ("k1", "m", "refused"): 1,
        ("k1", "m", "failed"): 1,
        ("k1", "m", "prompt"): 10,
        ("k1", "m", "completion"): 3,
        ("k2", "m", "refused"): 1,
    }


def test_a_thousand_keys_and_fifty_models_have_few_series() -> None:
    registry, clock = CollectorRegistry(), Clock()
    metrics = KeyMetrics(100, registry, clock)
    for _ in range(2):
        for number in range(50_000):
            metrics.count(f"key-{number % 1000}", f"model-{number // 1000}", 200, (1, 1))
        clock.now += 600
        series = sum(len(family.samples) for family in registry.collect())
        assert series == (100 + 50) * 6
    assert sum(value for (_, _, what), value in read(registry).items() if what == "ok") == 100_000


def test_the_most_used_take_the_places_and_nothing_counts_backwards() -> None:
    registry, clock = CollectorRegistry(), Clock()
    metrics = KeyMetrics(1, registry, clock)
    metrics.count("first", "m", 200, None)
    for _ in range(5):
        metrics.count("busy", "m", 200, None)
    assert read(registry) == {("first", "m", "ok"): 1, (OTHER, "m", "ok"): 5}
    clock.now = 600
    assert read(registry) == {(OTHER, "m", "ok"): 5}
    metrics.count("busy", "m", 200, None)
    metrics.count("first", "m", 200, None)
    assert read(registry) == {("busy", "m", "ok"): 1, (OTHER, "m", "ok"): 6}
    clock.now = 1200  # as many requests: who has the place keeps it
    assert read(registry)["busy", "m", "ok"] == 1


def test_models_that_are_gone_are_forgotten() -> None:
    registry = CollectorRegistry()
    metrics = KeyMetrics(1, registry)
    for model in ("old", "new"):
        metrics.count("k", model, 200, None)
        metrics.count("l", model, 200, None)
    metrics.forget({"old"})
    assert {model for _, model, _ in read(registry)} == {"new"}


def test_a_key_called_other_has_no_series_of_its_own() -> None:
    registry = CollectorRegistry()
    KeyMetrics(5, registry).count(OTHER, "m", 200, None)
    assert read(registry) == {(OTHER, "m", "ok"): 1}

"""A scrape answers at once with what collectors last found, and says how old that is."""

from __future__ import annotations

import threading

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from citadel_llm.exporter.cache import Cache, Source
from citadel_llm.exporter.samples import Definition, Sample, families

DEFINITIONS = {
    "citadel_things": Definition("Things.", ("kind",)),
    "citadel_events": Definition("Events.", (), "counter"),
}


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def exposed(cache: Cache) -> str:
    registry = CollectorRegistry()
    registry.register(cache)
    return generate_latest(registry).decode()


def test_samples_become_families() -> None:
    samples = [
        Sample("citadel_things", 1, ("a",)),
        Sample("citadel_events", 3),
        Sample("citadel_things", 2, ("b",)),
    ]
    found = families(DEFINITIONS, samples)
    assert [(family.name, family.type, len(family.samples)) for family in found] == [
        ("citadel_things", "gauge", 2),
        ("citadel_events", "counter", 1),
    ]
    with pytest.raises(KeyError):
        families(DEFINITIONS, [Sample("citadel_unknown", 1)])


def test_what_was_found_is_exposed_with_its_age() -> None:
    clock = Clock()
    source = Source(
        "things", lambda: [Sample("citadel_things", 7, ("a",)), Sample("citadel_events", 2)], DEFINITIONS
    )
    cache = Cache([source], clock)
    assert 'citadel_exporter_collector_age_seconds{collector="things"} +Inf' in exposed(cache)
    source.run(clock)
    clock.now += 12
    text = exposed(cache)
    assert 'citadel_things{kind="a"} 7.0' in text
    assert "citadel_events_total 2.0" in text
    assert 'citadel_exporter_collector_age_seconds{collector="things"} 12.0' in text
    assert 'citadel_exporter_collector_up{collector="things"} 1.0' in text


def test_a_collector_that_fails_keeps_its_samples_for_a_while() -> None:
    clock, broken = Clock(), False

    def read() -> list[Sample]:
        if broken:
            raise OSError("no such disk")
        return [Sample("citadel_things", 1, ("a",))]

    source = Source("things", read, DEFINITIONS, interval_s=10)
    cache = Cache([source], clock)
    source.run(clock)
    broken = True
    clock.now += 40
    source.run(clock)
    text = exposed(cache)
    assert 'citadel_things{kind="a"} 1.0' in text
    assert 'citadel_exporter_collector_up{collector="things"} 0.0' in text
    clock.now += 20
    assert "citadel_things{" not in exposed(cache)


def test_a_collector_that_hangs_holds_up_neither_the_scrape_nor_the_others() -> None:
    hanging, ran = threading.Event(), threading.Event()

    def hang() -> list[Sample]:
        hanging.wait(30)
        return []

    def work() -> list[Sample]:
        ran.set()
        return [Sample("citadel_things", 1, ("a",))]

    cache = Cache([Source("hangs", hang, DEFINITIONS), Source("works", work, DEFINITIONS, interval_s=0.01)])
    cache.start()
    try:
        assert ran.wait(10)
        while 'citadel_exporter_collector_up{collector="works"} 1.0' not in exposed(cache):
            pass
        assert 'citadel_exporter_collector_up{collector="hangs"} 0.0' in exposed(cache)
    finally:
        cache.stop()
        hanging.set()

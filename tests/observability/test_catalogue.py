"""The catalogue says what the exporters expose: held against recordings and against the project's own "
"code."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.parser import text_string_to_metric_families

from citadel_llm.exporter import cache, gpus, host, units
from citadel_llm.gateway.balancing.metrics import BalancingCollector, QueueTime
from citadel_llm.gateway.keeping import Keeping
from citadel_llm.gateway.metrics import GatewayMetrics
from citadel_llm.schema.gateway import GatewaySettings
from citadel_llm.schema.gateway_access import LimitSettings, TokenIssuer, TraceSettings
from tools.observability.catalogue import METRICS, Metric

FIXTURES = Path(__file__).parent / "fixtures"
RECORDED = sorted(path.stem for path in FIXTURES.glob("*.prom"))
NOT_EXPOSED = {"scrape", "alerts"}
"""Prometheus makes these itself."""


def of(exporter: str) -> list[Metric]:
    return [metric for metric in METRICS if exporter in metric.exporters]


def test_every_exporter_has_a_recording_that_says_how_it_was_made() -> None:
    exporters = {exporter for metric in METRICS for exporter in metric.exporters} - NOT_EXPOSED
    assert exporters == set(RECORDED)
    for exporter in RECORDED:
        assert (FIXTURES / f"{exporter}.prom").read_text().startswith(("# Recorded from", "# Made "))


def test_names_are_unique() -> None:
    assert len({(metric.name, metric.exporters) for metric in METRICS}) == len(METRICS)


@pytest.mark.parametrize("exporter", RECORDED)
def test_the_recording_has_each_metric_with_its_type_and_labels(exporter: str) -> None:
    families: dict[str, Family] = {}
    for family in text_string_to_metric_families((FIXTURES / f"{exporter}.prom").read_text()):
        families[family.name] = family
    for metric in of(exporter):
        family = families.get(metric.name) or families.get(metric.name.removesuffix("_total"))
        assert family is not None, metric.name
        assert family.type in (metric.kind, "unknown"), metric.name
        assert family.samples, metric.name
        for sample in family.samples:
            assert set(metric.labels) <= set(sample.labels), metric.name


async def _keep(registry: CollectorRegistry, directory: Path) -> None:
    """Everything that a gateway may keep, so that each of its metrics is there."""
    settings = GatewaySettings(
        host="127.0.0.1",
        internal_host="127.0.0.1",
        port=1,
        internal_port=2,
        snapshot_path=directory / "routing.json",
        state_dir=directory,
        issuers=(TokenIssuer(name="i", issuer="i", audiences=("a",), jwks_url="https://i.example.org/"),),
        limits=LimitSettings(store_url="redis://127.0.0.1:1/0"),
        traces=TraceSettings(otlp_endpoint="http://127.0.0.1:1/"),
    )
    keeping = Keeping(settings, registry)
    await keeping.close()


def exposed_by_the_gateway(directory: Path) -> dict[str, tuple[str, tuple[str, ...]]]:
    metrics = GatewayMetrics()
    QueueTime(metrics.registry)
    nothing = SimpleNamespace(backends={}, routes={}, prefixes=[], results={})
    metrics.registry.register(BalancingCollector(nothing, nothing, lambda: 0.0))  # type: ignore[arg-type]
    asyncio.run(_keep(metrics.registry, directory))
    found = {}
    for collector in metrics.registry._collector_to_names:
        families = list(collector.collect())
        for family in families:
            labels = getattr(family, "_labelnames", None) or getattr(collector, "_labelnames", ())
            found[family.name] = (family.type, tuple(labels))
    return found


def test_the_gateway_exposes_what_the_catalogue_says(tmp_path: Path) -> None:
    exposed = exposed_by_the_gateway(tmp_path)
    for metric in of("gateway"):
        name = metric.name.removesuffix("_total")
        assert name in exposed, metric.name
        kind, labels = exposed[name]
        assert kind == metric.kind, metric.name
        assert set(labels) == set(metric.labels), metric.name


def test_the_citadel_exporter_exposes_what_the_catalogue_says() -> None:
    definitions = {**gpus.DEFINITIONS, **host.DEFINITIONS, **units.DEFINITIONS, **units.LOG_DEFINITIONS}
    about = {family.name for family in cache.Cache([]).collect()}
    for metric in of("citadel"):
        name = metric.name.removesuffix("_total")
        if name.startswith("citadel_exporter_"):
            assert name in about, name
            continue
        assert definitions[name].kind == metric.kind, name
        assert set(definitions[name].labels) == set(metric.labels), name

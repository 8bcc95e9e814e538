"""What every part that offers metrics has in common."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder

LATENCY_BUCKETS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    120.0, 300.0, 600.0,
)  # fmt: skip
"""Seconds: from a gateway's own cost to the longest generations."""


def new_registry() -> CollectorRegistry:
    """A registry with the process's own metrics and nothing else: no global state, so tests can have many."""
    # The _created series would nearly double what is exposed and tell nothing that a rate does not.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def exposition(registry: CollectorRegistry, accept: str = "") -> tuple[str, bytes]:
    """Content type and body in the format that the `Accept` header asks for."""
    encoder, content_type = choose_encoder(accept)
    return content_type, encoder(registry)

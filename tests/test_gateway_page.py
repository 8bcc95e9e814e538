"""docs/gateway.md names every setting of routing and of failing back ends, with its default."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
from prometheus_client import CollectorRegistry
from pydantic import BaseModel

from citadel_llm.gateway.balancing.backend import Health
from citadel_llm.gateway.balancing.balancer import Balancer
from citadel_llm.gateway.balancing.metrics import BalancingCollector, QueueTime
from citadel_llm.gateway.balancing.probes import Prober
from citadel_llm.gateway.balancing.route import Surroundings
from citadel_llm.schema import resilience
from citadel_llm.schema.routes import Arm, Backend, Policy, Queue, Routing

PAGE = (Path(__file__).resolve().parents[1] / "docs/gateway.md").read_text()
SECTIONS: list[tuple[type[BaseModel], str]] = [
    (resilience.Breaker, "breaker."),
    (resilience.Retries, "retries."),
    (resilience.Probes, "probes."),
    (resilience.Stall, "stall."),
    (resilience.SlowStart, "slow_start."),
    (resilience.PrefixAffinity, ""),
    (resilience.Mirroring, "mirroring."),
    (Queue, "queue."),
    (Routing, ""),
]

LIMITS = {"limits", "request_limits"}  # they are told with the limits of keys


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


@pytest.mark.parametrize(("section", "prefix"), SECTIONS, ids=lambda value: getattr(value, "__name__", ""))
def test_every_setting_is_told(section: type[BaseModel], prefix: str) -> None:
    for name in set(section.model_fields) - LIMITS:
        alone = f"`{prefix}{name}`" in PAGE
        with_others = re.search(rf"`{re.escape(prefix)}\w+`[^|]*`\.?{name}`", PAGE)
        nested = f"`{name}." in PAGE
        assert alone or with_others or nested, f"{prefix}{name} is not in docs/gateway.md"


def test_defaults_are_those_of_the_code() -> None:
    told = 0
    for section, prefix in SECTIONS[:6]:
        for name, field in section.model_fields.items():
            for line in PAGE.splitlines():
                if line.startswith(f"| `{prefix}{name}` |"):
                    told += 1
                    shown = str(field.default).lower()
                    values = {shown, shown.removesuffix(".0")}
                    assert cells(line)[1] in values, f"{prefix}{name}: {cells(line)[1]}, not {field.default}"
    assert told >= 10


def test_policies_states_and_metrics_are_told() -> None:
    async def ask(*_: Any) -> tuple[int, bytes]:
        raise OSError

    class Still:
        def time(self) -> float:
            return 0.0

        def call_at(self, when: float, callback: Any) -> Any:
            raise NotImplementedError

    for name in (*get_args(Policy), *get_args(Health)):
        assert f"`{name}`" in PAGE, name
    for model in (Arm, Backend):
        for name in set(model.model_fields) - {"name", "url", "model", "backends", "engine"}:
            assert f"{name}`" in PAGE, f"{model.__name__}.{name}"
    registry = CollectorRegistry()
    QueueTime(registry)
    balancer = Balancer(Surroundings(timers=Still(), random=lambda: 0.0))
    prober = Prober(resilience.Probes(), ask, time=lambda: 0.0, random=lambda: 0.0)
    registry.register(BalancingCollector(balancer, prober, lambda: 0.0))
    for metric in registry.collect():
        name = metric.name + ("_total" if metric.type == "counter" else "")
        short = "…" + name.removeprefix("citadel_gateway").removeprefix("_backend")
        assert f"`{name}`" in PAGE or f"`{short}`" in PAGE, name

"""What operators see of models and back ends, and how they hold a model's requests."""

from __future__ import annotations

from typing import Any

from citadel_llm.gateway.balancing.backend import BackendState
from citadel_llm.gateway.balancing.balancer import Balancer
from citadel_llm.gateway.balancing.route import ModelRoute

_OPERATOR = "operator"


def state(balancer: Balancer, now: float) -> dict[str, Any]:
    """Every model with its queue and its back ends, by name."""
    return {name: _model(route, now) for name, route in balancer.routes.items()}


def pause(balancer: Balancer, name: str, now: float) -> dict[str, Any] | None:
    """Hold the requests of a model from now on. Its state, or None when there is no such model."""
    route = balancer.find(name)
    if route is None:
        return None
    route.queue.pause(_OPERATOR)
    return _model(route, now)


def resume(balancer: Balancer, name: str, now: float) -> dict[str, Any] | None:
    """Take back `pause`. A model that its snapshot pauses stays paused."""
    route = balancer.find(name)
    if route is None:
        return None
    route.queue.resume(_OPERATOR)
    return _model(route, now)


def _model(route: ModelRoute, now: float) -> dict[str, Any]:
    return {
        "model": route.name,
        "policy": route.model.policy,
        "paused_by": route.queue.paused_by,
        "waiting": route.queue.waiting,
        "in_flight": sum(backend.in_flight for backend in route.backends),
        "backends": {backend.name: _backend(backend, now) for backend in route.backends},
    }


def _backend(backend: BackendState, now: float) -> dict[str, Any]:
    polled = backend.polled
    return {
        "url": backend.url,
        "state": backend.health(now),
        "arm": backend.arm or None,
        "weight": backend.weight,
        "share": round(backend.share(now), 4),
        "in_flight": backend.in_flight,
        "max_in_flight": backend.limit,
        "first_byte_s": round(backend.ewma_first_byte, 4),
        "engine_running": polled.running if polled is not None else None,
        "engine_waiting": polled.waiting if polled is not None else None,
        "kv_usage": polled.kv if polled is not None else None,
        "outcomes": {outcome.label: number for outcome, number in backend.outcomes.items()},
    }

"""What a key or a token finds where it asks for a model: checked once, kept while nothing changes."""

from __future__ import annotations

from citadel_llm.gateway import errors
from citadel_llm.gateway.api.endpoints import Endpoint
from citadel_llm.gateway.balancing.route import ModelRoute
from citadel_llm.gateway.identity.principal import Principal
from citadel_llm.gateway.limits.subjects import Subject, subjects_of
from citadel_llm.gateway.metrics import GatewayMetrics
from citadel_llm.gateway.table import RoutingTable


class Way:
    """From one owner and endpoint to a model of one snapshot. Making it raises ApiError (400, 403, 404)."""

    __slots__ = ("_principal", "_serial", "asked", "metrics", "model_limits", "route", "subjects")

    def __init__(
        self,
        table: RoutingTable,
        principal: Principal,
        endpoint: Endpoint,
        asked: str,
        metrics: GatewayMetrics,
    ) -> None:
        route = table.route(asked)
        principal.require_model(asked, route.name)
        _require_endpoint(table, route, endpoint)
        self.asked = asked
        self.route = route
        self.metrics = metrics.of(route.name)
        self.model_limits = route.model.limits
        self._serial = table.serial
        self._principal = principal
        # Where users are limited, whose counts a request belongs to depends on its body.
        self.subjects: tuple[Subject, ...] | None = None
        if principal.rules.user_limits is None:
            self.subjects = subjects_of(principal, route.name, self.model_limits, None)

    def leads(self, table: RoutingTable, principal: Principal, asked: str) -> bool:
        """Whether it is the way of this owner to the model of that name, and nothing has changed."""
        return self.asked == asked and self._serial == table.serial and self._principal is principal


def _require_endpoint(table: RoutingTable, route: ModelRoute, endpoint: Endpoint) -> None:
    """Raises ApiError (400) when the model is not served at the endpoint."""
    if endpoint.name in table.offers[route.name]:
        return
    if route.task not in endpoint.tasks:
        raise errors.wrong_task(route.name, route.task, endpoint.path)
    raise errors.engine_too_old(route.name, endpoint.path, endpoint.least_engine or "")

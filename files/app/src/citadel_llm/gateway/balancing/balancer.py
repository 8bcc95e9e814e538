"""All models and back ends of the snapshot in use."""

from __future__ import annotations

from collections.abc import Iterator

from citadel_llm.gateway.balancing.backend import BackendState, Identity
from citadel_llm.gateway.balancing.prefixes import PrefixTable
from citadel_llm.gateway.balancing.route import ModelRoute, Surroundings
from citadel_llm.schema.routes import Backend, Model
from citadel_llm.schema.snapshot import RoutingSnapshot


class Balancer:
    """Keeps what is known of models and back ends across snapshots. Used from the event loop only."""

    def __init__(self, surroundings: Surroundings) -> None:
        self.routes: dict[str, ModelRoute] = {}
        self.backends: dict[Identity, BackendState] = {}
        self.prefixes = PrefixTable(surroundings.prefix)
        self._around = surroundings
        self._by_name: dict[str, ModelRoute] = {}
        self._loaded = False

    def apply(self, snapshot: RoutingSnapshot) -> None:
        """Serve what a snapshot says from now on; requests that wait go on waiting under its rules."""
        known, routes = self.backends, self.routes
        self.backends, self.routes, self._by_name = {}, {}, {}
        for model in snapshot.models:
            states = tuple(self._state(model, backend, known) for backend in model.backends)
            route = routes.get(model.name)
            if route is None:
                route = ModelRoute(model, self._around, self.prefixes)
            self.routes[model.name] = route
            for name in (model.name, *model.aliases):
                self._by_name[name] = route
            route.update(model, states)
        for name in set(routes) - set(self.routes):
            routes[name].close()
        self._loaded = True

    def find(self, name: str) -> ModelRoute | None:
        """The model of that name or alias."""
        return self._by_name.get(name)

    def chain(self, route: ModelRoute) -> Iterator[ModelRoute]:
        """The model, and then those that serve in its stead."""
        yield route
        for name in route.model.fallback:
            found = self._by_name.get(name)
            if found is not None:
                yield found

    def wake(self) -> None:
        """Let those who wait look again: time alone may have made a back end usable."""
        for route in self.routes.values():
            route.queue.dispatch()

    def _state(self, model: Model, backend: Backend, known: dict[Identity, BackendState]) -> BackendState:
        identity = (model.name, backend.name, backend.url, backend.model)
        state = known.get(identity)
        if state is None:
            state = BackendState(identity, self._around.rules)
            if self._loaded and model.name in {found.model for found in known.values()}:
                state.warm_up(self._around.timers.time())  # it is new beside others that serve
        self.backends[identity] = state
        return state

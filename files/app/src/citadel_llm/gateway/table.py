"""The snapshot in the form that requests are served from: everything is looked up, nothing is computed."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence

from citadel_llm.gateway.api.description import describe
from citadel_llm.gateway.api.endpoints import offered
from citadel_llm.gateway.api.page import render
from citadel_llm.gateway.balancing.route import ModelRoute
from citadel_llm.gateway.errors import model_not_found
from citadel_llm.gateway.identity.keys import KeyTable
from citadel_llm.gateway.identity.principal import Rules
from citadel_llm.schema.key_hash import Pepper
from citadel_llm.schema.snapshot import RoutingSnapshot

_serials = itertools.count(1)


class RoutingTable:
    """One snapshot, ready to serve."""

    def __init__(self, snapshot: RoutingSnapshot, peppers: Sequence[Pepper] = ()) -> None:
        """Raises SnapshotError when keys were hashed with a pepper that is not given."""
        self.snapshot = snapshot
        self.version = snapshot.version
        self.serial = next(_serials)
        """What was found out with another table than the one of this number may not hold any more."""
        self.created = snapshot.created.timestamp()
        self.models: dict[str, ModelRoute] = {}
        self._by_name: dict[str, ModelRoute] = {}
        self.keys = KeyTable(snapshot.keys, peppers)
        self.offers = {
            model.name: offered(model.task, [backend.engine for backend in model.backends])
            for model in snapshot.models
        }
        """The endpoints that each model has, by name."""
        self._documents = _documents(snapshot)
        self._listing = _list_of(self._documents.values())

    def bind(self, routes: Mapping[str, ModelRoute]) -> None:
        """Take the routes of this snapshot's models. They outlive snapshots, and belong to the event loop."""
        for model in self.snapshot.models:
            route = self.models[model.name] = routes[model.name]
            for name in (model.name, *model.aliases):
                self._by_name[name] = route

    def route(self, name: str) -> ModelRoute:
        """The model of that name or alias. Raises ApiError (404)."""
        route = self._by_name.get(name)
        if route is None:
            raise model_not_found(name)
        return route

    def listing(self, rules: Rules) -> bytes:
        """What GET /v1/models answers to an owner who may use what the rules allow."""
        if rules.all_models:
            return self._listing
        return _list_of(document for name, document in self._documents.items() if self._allows(rules, name))

    def document(self, name: str, rules: Rules) -> bytes:
        """What GET /v1/models/NAME answers. Raises ApiError (404), for what the owner may not use, too."""
        if name not in self._documents or not self._allows(rules, name):
            raise model_not_found(name)
        return json.dumps(self._documents[name]).encode()

    def _allows(self, rules: Rules, name: str) -> bool:
        return rules.allows_model(name, str(self._documents[name]["root"]))

    @functools.cached_property
    def openapi(self) -> bytes:
        """The description of what this snapshot serves."""
        return json.dumps(self._description, ensure_ascii=False).encode()

    @functools.cached_property
    def docs(self) -> bytes:
        """The same as a page."""
        return render(self._description)

    @functools.cached_property
    def _description(self) -> dict[str, object]:
        names = {
            name: self.offers[model.name]
            for model in self.snapshot.models
            for name in (model.name, *model.aliases)
        }
        return describe(names, self.version)


def _list_of(documents: Iterable[dict[str, object]]) -> bytes:
    return json.dumps({"object": "list", "data": list(documents)}).encode()


def _documents(snapshot: RoutingSnapshot) -> dict[str, dict[str, object]]:
    documents: dict[str, dict[str, object]] = {}
    for model in snapshot.models:
        for name in (model.name, *model.aliases):
            documents[name] = {
                "id": name,
                "object": "model",
                "created": model.created,
                "owned_by": "citadel",
                "root": model.name,
            }
    return documents

"""The API's description as clients get it: what this gateway really serves now."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from citadel_llm.gateway.api.endpoints import ENDPOINTS, Endpoint

BASE_PATH = Path(__file__).with_name("openapi.json")
_METHODS = {"get", "post"}


@functools.cache
def _base() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(BASE_PATH.read_bytes())
    return document


def describe(models: Mapping[str, frozenset[str]], version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document for models (names and aliases) and the endpoints that each one has."""
    document = copy.deepcopy(_base())
    document["info"]["version"] = version
    for endpoint in ENDPOINTS:
        serving = sorted(name for name, endpoints in models.items() if endpoint.name in endpoints)
        if serving:
            _name_models(document, endpoint, serving)
        else:
            del document["paths"][endpoint.path]
    _drop_unused(document)
    return document


def _name_models(document: dict[str, Any], endpoint: Endpoint, serving: list[str]) -> None:
    operation = document["paths"][endpoint.path]["post"]
    operation["description"] = "Models: " + ", ".join(serving)
    content = operation["requestBody"]["content"]["application/json"]
    # Each endpoint's models differ, so its schema refines the common one.
    content["schema"] = {
        "allOf": [content["schema"]],
        "properties": {"model": {"type": "string", "enum": serving}},
        "required": ["model"],
    }


def _drop_unused(document: dict[str, Any]) -> None:
    """Leave out schemas that nothing mentions any more."""
    schemas = document["components"]["schemas"]
    used: set[str] = set()
    waiting = [json.dumps(document["paths"])]
    while waiting:
        text = waiting.pop()
        for name in schemas:
            if name not in used and f'"#/components/schemas/{name}"' in text:
                used.add(name)
                waiting.append(json.dumps(schemas[name]))
    document["components"]["schemas"] = {name: schemas[name] for name in schemas if name in used}


def operations(document: Mapping[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Method, path and operation of everything that a document describes."""
    return [
        (method.upper(), path, operation)
        for path, by_method in document["paths"].items()
        for method, operation in by_method.items()
        if method in _METHODS
    ]

"""Write the API's description: ``python -m citadel_llm.gateway.api.generate`` (``--check`` only compares).

FastAPI makes it from the table of endpoints and the schemas; the gateway serves the file and never imports
FastAPI. A test holds the file equal to what this makes.
"""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

from fastapi import Body, FastAPI, Path, Security
from fastapi.security import APIKeyHeader, HTTPBearer

from citadel_llm.gateway.api.description import BASE_PATH
from citadel_llm.gateway.api.endpoints import ENDPOINTS, Endpoint
from citadel_llm.gateway.api.schemas import (
    REQUESTS,
    Answer,
    AnthropicErrorAnswer,
    ErrorAnswer,
    ModelDocument,
    ModelList,
)

_STATUSES = {
    400: "The request cannot be used: JSON, a missing member, or a limit of the model.",
    401: "The key or token is missing, wrong, disabled or expired.",
    403: "The key may not use this endpoint or this model.",
    404: "The model does not exist here.",
    408: "The request did not arrive in time.",
    413: "The request is too large.",
    415: "The body is compressed.",
    422: "The engine refuses what the request asks for.",
    429: "A limit has been reached, or too many requests wait for the model. See Retry-After.",
    431: "The headers are too large.",
    500: "The engine or the gateway met an unexpected error.",
    502: "The engine's answer broke off.",
    503: "No engine can serve at the moment. See Retry-After.",
    504: "The engine took too long.",
}
_GET_STATUSES = (401, 403, 408, 429, 431, 500, 503)


def generate() -> dict[str, Any]:
    """The description of everything that could be served."""
    app = FastAPI(
        title="Citadel",
        version="1",
        summary="Language models behind OpenAI's and Anthropic's APIs.",
        separate_input_output_schemas=False,
    )
    bearer = HTTPBearer(scheme_name="bearer", description="An API key, or a token of your identity provider.")
    header = APIKeyHeader(
        name="x-api-key", scheme_name="x-api-key", description="An API key, as Anthropic's clients send it."
    )
    security = [Security(bearer), Security(header)]
    app.add_api_route(
        "/v1/models",
        lambda: None,
        response_model=ModelList,
        name="list_models",
        summary="List the models that you may use",
        responses=_errors(ErrorAnswer, _GET_STATUSES),
        dependencies=security,
    )
    app.add_api_route(
        "/v1/models/{model}",
        _one_model,
        response_model=ModelDocument,
        name="get_model",
        summary="Tell of one model",
        responses=_errors(ErrorAnswer, (*_GET_STATUSES, 404)),
        dependencies=security,
    )
    for endpoint in ENDPOINTS:
        _add(app, endpoint, security)
    return _tidy(app.openapi())


def _one_model(model: Annotated[str, Path(description="Name or alias of the model.")]) -> None:
    del model


def _add(app: FastAPI, endpoint: Endpoint, security: list[Any]) -> None:
    request = REQUESTS[endpoint.name]

    def handler(body: Any) -> None:
        del body

    handler.__annotations__["body"] = Annotated[request, Body()]
    error = AnthropicErrorAnswer if endpoint.form == "anthropic" else ErrorAnswer
    responses = _errors(error, tuple(_STATUSES))
    if endpoint.streams:
        # Without a schema: readers differ on whether it would be that of the text or that of each event.
        responses[200] = {
            "description": "The answer, or server-sent events when `stream` is true.",
            "content": {"text/event-stream": {}},
        }
    app.add_api_route(
        endpoint.path,
        handler,
        methods=["POST"],
        response_model=Answer,
        name=endpoint.name,
        summary=endpoint.summary,
        responses=responses,
        dependencies=security,
    )


def _errors(model: type[Any], statuses: tuple[int, ...]) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": model, "description": _STATUSES[status]} for status in sorted(statuses)}


def _tidy(document: dict[str, Any]) -> dict[str, Any]:
    """Leave out what FastAPI adds for requests that it would check itself; either credential is enough."""
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["operationId"] = operation["operationId"].split("__")[0].split("_v1_")[0]
            operation["security"] = [{"bearer": []}, {"x-api-key": []}]
            checked = operation["responses"].get("422", {})
            if "HTTPValidationError" in json.dumps(checked):
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
    return document


def main() -> int:
    text = json.dumps(generate(), indent=1, ensure_ascii=False) + "\n"
    if "--check" in sys.argv[1:]:
        if BASE_PATH.is_file() and BASE_PATH.read_text() == text:
            return 0
        sys.stderr.write(f"{BASE_PATH} is out of date: run python -m citadel_llm.gateway.api.generate\n")
        return 1
    temporary = BASE_PATH.with_suffix(".new")
    temporary.write_text(text)
    temporary.replace(BASE_PATH)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Asking the running gateway, on its internal port."""

from __future__ import annotations

import http.client
import json
import time
from typing import Any
from urllib.parse import quote

from citadel_llm.configuration.loader import load

_TIMEOUT_S = 10.0
_PAUSE_S = 0.2


class GatewayError(Exception):
    """The gateway could not be asked, or refused. The message says why."""


def ask(method: str, path: str, model: str | None = None) -> Any:
    """The JSON document that the gateway answers. Raises GatewayError."""
    settings = load().api_gateway
    host, port = settings.internal_host, settings.internal_port
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    target = path if model is None else f"{path}?model={quote(model, safe='')}"
    try:
        connection.request(method, target)
        response = connection.getresponse()
        status, document = response.status, json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        detail = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise GatewayError(f"the gateway on {host}:{port} does not answer: {detail}") from error
    finally:
        connection.close()
    if status != 200:
        raise GatewayError(str(document.get("error", f"HTTP {status}")))
    return document


def until_idle(model: str, wait_s: float) -> Any:
    """The state of a paused model when nothing is in flight any more, or after `wait_s` seconds."""
    end = time.monotonic() + wait_s
    while True:
        found = ask("POST", "/pause", model)  # once more changes nothing, and tells how it is
        if not found["in_flight"] or time.monotonic() >= end:
            return found
        time.sleep(_PAUSE_S)

"""One real request to an engine. Its health end point answers even when it hangs, so nothing less will do."""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import dataclass
from typing import Any, Literal

State = Literal["ready", "refused", "starting", "failing"]
_REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "generate": ("/v1/completions", {"prompt": "Hello", "max_tokens": 1, "temperature": 0}),
    "embed": ("/v1/embeddings", {"input": "Hello"}),
    "score": ("/v1/score", {"text_1": "Hello", "text_2": "Hello"}),
}
_LONGEST_ANSWER = 1 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    """What a probe found.

    `ready`: answered. `starting`: nothing listens yet. `failing`: no usable answer now, another try may do.
    `refused`: the engine will never answer this request as it is configured.
    """

    state: State
    message: str
    seconds: float

    @property
    def ready(self) -> bool:
        """Whether the engine answered."""
        return self.state == "ready"

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {"state": self.state, "message": self.message, "seconds": round(self.seconds, 4)}


def probe(host: str, port: int, model: str, task: str, timeout_s: float) -> Answer:
    """Ask the engine for one token (or embedding, or score) and wait at most `timeout_s` for the answer."""
    path, body = _REQUESTS[task]
    begin = time.monotonic()
    try:
        status, text = _post(host, port, path, {"model": model, **body}, timeout_s)
    except ConnectionRefusedError:
        return Answer("starting", f"nothing listens on {host}:{port} yet", time.monotonic() - begin)
    except TimeoutError:
        return Answer(
            "failing", f"no answer to a one-token request within {timeout_s:g} s", time.monotonic() - begin
        )
    except (OSError, http.client.HTTPException) as error:
        detail = str(error) or type(error).__name__
        return Answer("failing", f"{host}:{port}: {detail}", time.monotonic() - begin)
    return _judge(status, text, model, path, time.monotonic() - begin)


def _post(host: str, port: int, path: str, body: dict[str, Any], timeout_s: float) -> tuple[int, str]:
    deadline = time.monotonic() + timeout_s
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        if connection.sock is not None:
            connection.sock.settimeout(max(0.01, deadline - time.monotonic()))
        return response.status, response.read(_LONGEST_ANSWER).decode("utf-8", "replace")
    finally:
        connection.close()


def _judge(status: int, text: str, model: str, path: str, seconds: float) -> Answer:
    if status == 200:
        ready = _has_result(text)
        message = (
            f"answered in {seconds:.2f} s"
            if ready
            else f"{path} answered 200 without a result: {text[:200]!r}"
        )
        return Answer("ready" if ready else "failing", message, seconds)
    detail = f"{path} answered {status}: {_error_message(text)}"
    if status == 404:
        detail += f". It must serve {path} for the model {model!r}: compare --served-model-name and the task"
    return Answer("refused" if status in (400, 401, 403, 404, 405, 422) else "failing", detail, seconds)


def _has_result(text: str) -> bool:
    try:
        members = json.loads(text)
    except ValueError:
        return False
    return isinstance(members, dict) and bool(members.get("choices") or members.get("data"))


def _error_message(text: str) -> str:
    try:
        members = json.loads(text)
    except ValueError:
        return text[:200].strip() or "no text"
    error = members.get("error", members) if isinstance(members, dict) else members
    message = error.get("message") or error.get("detail") if isinstance(error, dict) else error
    return str(message)[:200]

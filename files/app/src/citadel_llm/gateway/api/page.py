"""The page /docs: the API's description for people, in one document without scripts."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from html import escape
from typing import Any

from citadel_llm.gateway.api.description import operations

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem 1.5rem}
body{color:#1c2733;background:#fff}
h1{margin:.5rem 0}h2{font-size:1.1rem;margin:2.2rem 0 .4rem;border-top:1px solid #d8dee6;padding-top:1.2rem}
code,pre{font-family:ui-monospace,monospace;font-size:.9em}
pre{background:#f3f5f8;padding:.8rem;overflow:auto;border-radius:4px}
table{border-collapse:collapse;width:100%;margin:.6rem 0}
th,td{text-align:left;vertical-align:top;padding:.3rem .8rem .3rem 0;border-bottom:1px solid #e4e9ef}
.method{background:#1c2733;color:#fff;border-radius:3px;padding:.1rem .4rem;font-size:.8rem}
.models{color:#4a5866}
@media(prefers-color-scheme:dark){
body{color:#dfe6ee;background:#141a21}pre{background:#1d2630}h2,th,td{border-color:#2c3845}.models{color:#9fb0c0}
.method{background:#3b4b5c}a{color:#8ab8ff}}
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'"
)
_CREDENTIALS = (
    "<p>Send your key as <code>Authorization: Bearer KEY</code> or as <code>x-api-key: KEY</code>. "
    "Members that are not named here pass through to the engine and back.</p>"
)
_EXAMPLES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Say hello."}]},
    "/v1/completions": {"prompt": "Once upon a time", "max_tokens": 16},
    "/v1/responses": {"input": "Say hello."},
    "/v1/messages": {"max_tokens": 64, "messages": [{"role": "user", "content": "Say hello."}]},
    "/v1/messages/count_tokens": {"messages": [{"role": "user", "content": "Say hello."}]},
    "/v1/embeddings": {"input": "A text"},
    "/v1/rerank": {"query": "fruit", "documents": ["an apple", "a car"]},
    "/v1/score": {"text_1": "fruit", "text_2": ["an apple", "a car"]},
    "/tokenize": {"prompt": "A text"},
    "/detokenize": {"tokens": [1, 2, 3]},
}


def render(document: Mapping[str, Any]) -> bytes:
    """The whole page."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width,initial-scale=1'>",
        f"<title>{escape(document['info']['title'])} API</title><style>{_STYLE}</style>",
        f"<h1>{escape(document['info']['title'])}</h1>",
        f"<p>{escape(document['info'].get('summary', ''))} Machine-readable: ",
        "<a href=/openapi.json>openapi.json</a> (OpenAPI 3.1).</p>",
        _CREDENTIALS,
        _contents(document),
    ]
    parts += [_operation(document, *found) for found in operations(document)]
    return "".join(parts).encode()


def _contents(document: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><a href='#{escape(operation['operationId'])}'><code>{escape(path)}</code></a>"
        f"<td>{escape(operation['summary'])}"
        for _, path, operation in operations(document)
    )
    return f"<table><tr><th>Endpoint<th>What it does{rows}</table>"


def _operation(document: Mapping[str, Any], method: str, path: str, operation: Mapping[str, Any]) -> str:
    text = (
        f"<h2 id='{escape(operation['operationId'])}'><span class=method>{method}</span>"
        f"<code> {escape(path)}</code></h2><p>{escape(operation['summary'])}.</p>"
    )
    if "description" in operation:
        text += f"<p class=models>{escape(operation['description'])}</p>"
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        model = schema["properties"]["model"]["enum"][0]
        text += _members(document, schema["allOf"][0]["$ref"].rpartition("/")[2])
        text += _example(path, {"model": model, **_EXAMPLES[path]})
    rows = "".join(
        f"<tr><td>{status}<td>{escape(answer['description'])}"
        for status, answer in sorted(operation["responses"].items())
    )
    return f"{text}<table><tr><th>Status<th>Meaning{rows}</table>"


def _members(document: Mapping[str, Any], name: str) -> str:
    schema = document["components"]["schemas"][name]
    needed = schema.get("required", [])
    rows = "".join(
        f"<tr><td><code>{escape(member)}</code><td>{'required' if member in needed else ''}"
        f"<td>{escape(about.get('description', ''))}"
        for member, about in schema["properties"].items()
    )
    return f"<table><tr><th>Member<th><th>{rows}</table>"


def _example(path: str, body: Mapping[str, Any]) -> str:
    # The address is the reader's own: the page does not know by which name it was reached.
    command = (
        f"curl $URL{path} -H \"Authorization: Bearer $KEY\" -H 'Content-Type: application/json' \\\n  -d '"
    )
    return f"<pre>{escape(command + json.dumps(body))}'</pre>"

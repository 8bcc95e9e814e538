"""The API's description: generated, honest, and readable without anything from elsewhere."""

from __future__ import annotations

import ast
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import citadel_llm.gateway
from citadel_llm.gateway.api import generate
from citadel_llm.gateway.api.description import BASE_PATH, describe, operations
from citadel_llm.gateway.api.endpoints import ENDPOINTS, offered
from citadel_llm.gateway.api.page import CONTENT_SECURITY_POLICY, render

MODELS = {"org/smol": offered("generate", ["0.9.2"]), "<b>&mini": offered("embed", [])}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return describe(MODELS, "0123456789abcdef")


def test_the_file_is_what_the_generator_makes() -> None:
    assert json.loads(BASE_PATH.read_bytes()) == generate.generate()


def test_the_gateway_serves_without_fastapi() -> None:
    apart = {"generate.py", "schemas.py"}
    for path in Path(citadel_llm.gateway.__file__).parent.rglob("*.py"):
        if path.name in apart and path.parent.name == "api":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(node, "module", "") if isinstance(node, ast.ImportFrom) else ""
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [name or ""]
            assert not any(name.startswith("fastapi") or name.endswith(".schemas") for name in names), path


def test_it_describes_what_is_served_and_nothing_else(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    assert document["info"]["version"] == "0123456789abcdef"
    served = {"/v1/models", "/v1/models/{model}"} | {
        endpoint.path for endpoint in ENDPOINTS if any(endpoint.name in names for names in MODELS.values())
    }
    assert set(document["paths"]) == served
    assert "/v1/messages" not in served
    chat = document["paths"]["/v1/chat/completions"]["post"]
    schema = chat["requestBody"]["content"]["application/json"]["schema"]
    assert schema["properties"]["model"]["enum"] == ["org/smol"]
    assert "text/event-stream" in chat["responses"]["200"]["content"]
    tokenize = document["paths"]["/tokenize"]["post"]
    both = tokenize["requestBody"]["content"]["application/json"]["schema"]["properties"]["model"]["enum"]
    assert both == ["<b>&mini", "org/smol"]


def test_every_reference_leads_somewhere_and_every_schema_is_used(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    found = set(re.findall(r'"#/components/schemas/(\w+)"', text))
    assert found == set(document["components"]["schemas"])


def test_every_operation_tells_its_errors_and_its_credentials(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        assert {"401", "403", "429", "503"} <= set(operation["responses"]), (method, path)
        assert operation["security"] == [{"bearer": []}, {"x-api-key": []}]
    assert set(document["components"]["securitySchemes"]) == {"bearer", "x-api-key"}
    identifiers = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(identifiers)) == len(identifiers)


def test_each_api_has_its_own_errors() -> None:
    document = describe({"m": offered("generate", [])}, "v")

    def error(path: str) -> str:
        answer = document["paths"][path]["post"]["responses"]["429"]
        reference: str = answer["content"]["application/json"]["schema"]["$ref"]
        return reference.rpartition("/")[2]

    assert error("/v1/messages") == "AnthropicErrorAnswer"
    assert error("/v1/responses") == error("/v1/chat/completions") == "ErrorAnswer"


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]


def test_the_page_needs_nothing_from_elsewhere(document: dict[str, Any]) -> None:
    html = render(document).decode()
    page = _Page()
    page.feed(html)
    assert not {"script", "img", "iframe", "link", "form", "b"} & page.tags
    assert all(link.startswith("#") or link == "/openapi.json" for link in page.links)
    assert "&lt;b&gt;&amp;mini" in html
    for path in document["paths"]:
        assert path in html
    assert CONTENT_SECURITY_POLICY.startswith("default-src 'none'")


def test_with_no_models_there_are_only_the_lists() -> None:
    document = describe({}, "v")
    assert set(document["paths"]) == {"/v1/models", "/v1/models/{model}"}
    assert render(document)


def test_the_generator_checks_and_writes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(generate, "BASE_PATH", tmp_path / "openapi.json")
    monkeypatch.setattr("sys.argv", ["generate", "--check"])
    assert generate.main() == 1
    monkeypatch.setattr("sys.argv", ["generate"])
    assert generate.main() == 0
    monkeypatch.setattr("sys.argv", ["generate", "--check"])
    assert generate.main() == 0

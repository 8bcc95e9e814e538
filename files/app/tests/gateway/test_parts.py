"""The small parts on their own: bodies, token counts, turns, and what may import what."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import citadel_llm
from citadel_llm.gateway.accounting.tokens import Tail
from citadel_llm.gateway.envelope import read_envelope
from citadel_llm.gateway.errors import ApiError

SOURCE = Path(citadel_llm.__file__).parent
ALLOWED = {"gateway": {"gateway", "telemetry", "schema"}, "schema": {"schema"}, "telemetry": {"telemetry"}}

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=60, deadline=None)
@given(
    before=st.dictionaries(st.text().filter(lambda name: name != "model"), values, max_size=3),
    after=st.dictionaries(st.text().filter(lambda name: name != "model"), values, max_size=3),
    model=st.text(min_size=1),
    served=st.text(min_size=1),
    ascii_=st.booleans(),
    indent=st.sampled_from([None, 0, 2]),
)
def test_addressing_changes_the_models_name_and_nothing_else(
    before: dict[str, Any], after: dict[str, Any], model: str, served: str, ascii_: bool, indent: int | None
) -> None:
    document = before | {"model": model} | {k: v for k, v in after.items() if k not in before}
    try:
        body = json.dumps(document, ensure_ascii=ascii_, indent=indent).encode()
    except UnicodeEncodeError:
        return  # a lone surrogate has no UTF-8
    envelope = read_envelope(body)
    assert envelope.model == model
    assert envelope.addressed_to(model) is body
    assert json.loads(envelope.addressed_to(served)) == document | {"model": served}


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60) | st.text(alphabet='{}[]":,\\ \nmodelx1.e-', max_size=60).map(str.encode))
def test_any_bytes_are_an_envelope_or_a_bad_request(body: bytes) -> None:
    try:
        envelope = read_envelope(body)
    except ApiError as error:
        assert error.status == 400
    else:
        assert json.loads(body)["model"] == envelope.model


@pytest.mark.parametrize(
    ("chunks", "found"),
    [
        ([b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}'], (3, 4)),
        ([b'{"usage": {"prompt_tokens": 3, "total_tokens": 3, "completion_tokens": 0}, "x": null}'], (3, 0)),
        (
            [b'data: {"usage":{"prompt_tok', b'ens":3,"completion_tokens":4}}\n\n', b"data: [DONE]\n\n"],
            (3, 4),
        ),
        ([b'{"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n', b'data: {"usage":null}\n\n'], (3, 4)),
        ([b'{"content":"\\"usage\\": {\\"prompt_tokens\\": 9}"}'], None),
        ([b'{"usage":{"prompt_tokens":"3"}}'], None),
        ([b'{"usage":{"prompt_tokens":3,'], None),
        ([b'{"usage":[1]}'], None),
        ([b'{"usage":{"prompt_tokens":true}}'], None),
        ([b'{"usage":{"prompt_tokens":-1}}'], None),
        ([], None),
    ],
)
def test_tokens_are_read_from_the_end(chunks: list[bytes], found: tuple[int, int] | None) -> None:
    tail = Tail()
    for chunk in [b"x" * 50_000, *chunks]:
        tail.add(chunk)
    assert tail.usage() == found


@pytest.mark.parametrize(
    ("end", "whole"), [(b"a\n\n", True), (b"a\r\n\r\n", True), (b"a\n", False), (b"a", False)]
)
def test_the_end_of_an_event_is_seen(end: bytes, whole: bool) -> None:
    for chunks in ([end], [end[:1], end[1:]], [bytes([byte]) for byte in end]):
        tail = Tail()
        for chunk in filter(None, chunks):
            tail.add(chunk)
        assert tail.ends_event() is whole


@pytest.mark.parametrize("part", ALLOWED)
def test_serving_depends_on_nothing_else(part: str) -> None:
    found = set()
    for path in (SOURCE / part).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {(alias.name, path.name) for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: a relative import"
                found |= {(node.module or "", path.name)}
                if node.module == "citadel_llm":
                    found |= {(f"citadel_llm.{alias.name}", path.name) for alias in node.names}
    ours = {(name, file) for name, file in found if name.split(".")[0] == "citadel_llm"}
    wrong = {(name, file) for name, file in ours if [*name.split("."), ""][1] not in ALLOWED[part]}
    assert wrong == set()
    assert found

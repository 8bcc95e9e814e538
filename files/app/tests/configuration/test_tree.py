"""Parsing and merging with origins."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from citadel_llm.configuration.tree import (
    Location,
    Node,
    SourceError,
    collisions,
    find,
    merge,
    origin_of,
    parse,
    plain,
)

KEYS = st.text("abcdef_", min_size=1, max_size=3)
SCALARS = st.none() | st.booleans() | st.integers(-5, 5) | st.text("xyz 0'\"#:-", max_size=5)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=8,
)
BRIEFLY = settings(max_examples=25, deadline=None)
MAPPINGS = st.dictionaries(KEYS, VALUES, max_size=4)


def tree(value: Any, source: str) -> Node:
    return parse(yaml.safe_dump(value, default_flow_style=False), source)


def merged_plainly(lower: Any, upper: Any) -> Any:
    if not (isinstance(lower, dict) and isinstance(upper, dict)):
        return upper
    both = {key: merged_plainly(lower[key], upper[key]) for key in lower.keys() & upper.keys()}
    return {**lower, **upper, **both}


def leaves(node: Node, at: Location = ()) -> list[Location]:
    if isinstance(node.value, dict) and node.value:
        return [leaf for key, child in node.value.items() for leaf in leaves(child, (*at, key))]
    return [at]


@BRIEFLY
@given(VALUES)
def test_parsing_keeps_every_value(value: Any) -> None:
    expected = {} if value is None else value
    assert plain(tree(value, "a")) in (expected, value)


@BRIEFLY
@given(MAPPINGS, MAPPINGS)
def test_merging_trees_is_merging_values(lower: Any, upper: Any) -> None:
    assert plain(merge(tree(lower, "low"), tree(upper, "up"))) == merged_plainly(lower, upper)


@BRIEFLY
@given(MAPPINGS, MAPPINGS, MAPPINGS)
def test_merging_is_associative(a: Any, b: Any, c: Any) -> None:
    one, two, three = tree(a, "1"), tree(b, "2"), tree(c, "3")
    left, right = merge(merge(one, two), three), merge(one, merge(two, three))
    assert plain(left) == plain(right)
    for leaf in leaves(left):
        assert origin_of(left, leaf) == origin_of(right, leaf)


@BRIEFLY
@given(MAPPINGS, MAPPINGS)
def test_each_leaf_comes_from_the_last_layer_that_has_it(lower: Any, upper: Any) -> None:
    low, up = tree(lower, "low"), tree(upper, "up")
    both = merge(low, up)
    for leaf in leaves(both):
        origin = origin_of(both, leaf)
        if leaf and origin is not None:
            assert origin.source == ("up" if find(up, leaf) is not None else "low")


@BRIEFLY
@given(MAPPINGS)
def test_origins_name_the_line_of_the_key(value: Any) -> None:
    text = yaml.safe_dump(value, default_flow_style=False)
    root, lines = parse(text, "a"), text.splitlines()
    for key in value:
        origin = origin_of(root, (key,))
        assert origin is not None
        assert origin.line is not None
        assert yaml.safe_load(lines[origin.line - 1].split(":")[0]) == key


@BRIEFLY
@given(MAPPINGS, MAPPINGS)
def test_collisions_are_what_the_order_decides(lower: Any, upper: Any) -> None:
    low, up = tree(lower, "low"), tree(upper, "up")
    if not list(collisions(low, up)):
        assert plain(merge(low, up)) == plain(merge(up, low))


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "'a' is given twice, first in line 1"),
        ("a:\n  b: 1\n  b: 2\n", 3, "'b' is given twice, first in line 2"),
        ("a: &x 1\nb: *x\n", 1, "anchors and aliases are not supported"),
        ("a: 1\nb: *x\n", 2, "anchors and aliases are not supported"),
        ("a:\n  <<: {b: 1}\n", 2, "merge keys"),
        ("a:\n  on: 1\n", 2, "the key on is read as bool, not as text: quote it"),
        ("1: a\n", 1, "the key 1 is read as int"),
        ("? [a]\n: b\n", 1, "a collection"),
        ("a: [1,\nb: 2\n", 3, "not valid YAML: .* that begins in line 1"),
        ("a: !!python/name:os.system x\n", 1, "could not determine a constructor"),
        ("a: 1\n---\nb: 2\n", 2, "single document"),
        ("a: 2024-13-45\n", None, "month must be in"),
    ],
)
def test_what_cannot_be_settings_is_refused_with_its_line(text: str, line: int | None, message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        parse(text, "file")
    assert caught.value.origin.source == "file"
    assert caught.value.origin.line == line


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(SourceError, match="not valid YAML"):
        parse("[" * 450, "file")

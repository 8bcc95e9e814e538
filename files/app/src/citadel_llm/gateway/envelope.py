"""The part of a request's body that routing needs, found without touching the rest."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from citadel_llm.gateway.errors import ApiError, bad_request

_quote = json.encoder.encode_basestring_ascii
_decoder = json.JSONDecoder()
_decode = _decoder.raw_decode
_scan: Callable[[str, int], tuple[Any, int]] = _decoder.scan_once  # type: ignore[attr-defined]
_NAME = b'"model"'
_PROMPTS = (b'"messages"', b'"prompt"', b'"input"')
_space = re.compile(r"[ \t\n\r]*").match
_member = re.compile(r'"model"[ \t\n\r]*:[ \t\n\r]*').search


@dataclass(slots=True)
class Envelope:
    """A body that has been read. `span` is where the value of `model` stands, once known."""

    body: bytes
    text: str
    model: str
    stream: bool
    members: dict[str, Any]
    span: tuple[int, int] | None = None

    def addressed_to(self, model: str) -> bytes:
        """The body for an engine that calls the model `model`: every other byte stays as it came."""
        if model == self.model:
            return self.body
        if self.span is None:
            plain = self._replace_plain(model)
            if plain is not None:
                return plain
            self.span = _find_value(self.text)
        start, end = self.span
        return (self.text[:start] + _quote(model) + self.text[end:]).encode()

    def prompt(self) -> memoryview:
        """The body from where its prompt begins; what comes before may differ between equal prompts."""
        start = next((at for at in map(self.body.find, _PROMPTS) if at >= 0), 0)
        return memoryview(self.body)[start:]

    def _replace_plain(self, model: str) -> bytes | None:
        """The same where the only `"model"` is followed by its value as most clients write it; else None."""
        body = self.body
        start = body.find(_NAME)
        for written, other in zip(_members(self.model), _members(model), strict=True):
            # Where the name needs escapes there can be more than one way to write it.
            if body.startswith(written, start) and b"\\" not in written:
                return body[:start] + other + body[start + len(written) :]
        return None


@functools.lru_cache(maxsize=1024)
def _members(model: str) -> tuple[bytes, bytes]:
    """The member `model` without and with a space."""
    name = _quote(model).encode()
    return b'"model":%b' % name, b'"model": %b' % name


def read_envelope(body: bytes) -> Envelope:
    """Find `model` and `stream` in a JSON object. Raises ApiError (400) with the reason."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise bad_request(f"The body is not UTF-8: invalid byte at position {error.start}.") from None
    try:
        # Where the name stands once and nothing is spelt with escapes, no second `model` can hide.
        if text.count('"model"') == 1 and "\\u" not in text:
            return _read_plain(body, text)
        return _read_members(body, text)
    except json.JSONDecodeError as error:
        raise bad_request(f"The body is not valid JSON: {error.msg} at position {error.pos}.") from None
    except RecursionError:
        raise bad_request("The body is nested too deeply.") from None
    except ValueError:
        raise bad_request("The body contains a number with too many digits.") from None


def _read_plain(body: bytes, text: str) -> Envelope:
    try:
        document, end = _scan(text, 0)
    except StopIteration:
        end = -1
    if end != len(text):
        document = json.loads(text)  # there is white space around it, or it tells what is wrong
    if not isinstance(document, dict):
        raise json.JSONDecodeError("expected an object", text, 0)
    model = document.get("model")
    if not isinstance(model, str) or not model:
        raise _no_model("model" in document)
    return Envelope(body, text, model, document.get("stream") is True, document)


def _find_value(text: str) -> tuple[int, int]:
    """Where the value of the only member `model` stands."""
    match = _member(text)
    if match is None:
        raise ValueError("there is no member 'model'")
    return match.end(), _decode(text, match.end())[1]


def _read_members(body: bytes, text: str) -> Envelope:
    """Walk the members one by one, so that each name and each place is known."""
    model: object = None
    span: tuple[int, int] | None = None
    members: dict[str, Any] = {}
    at = _expect(text, 0, "{")
    more = text[at : at + 1] != "}"
    while more:
        if text[at : at + 1] != '"':
            raise json.JSONDecodeError("expected a name in double quotes", text, at)
        name, at = _decode(text, at)
        start = _expect(text, at, ":")
        value, end = _decode(text, start)
        if name == "model":
            # Two readers could choose differently between two values, so neither may.
            if span is not None:
                raise bad_request("The body contains 'model' twice.", param="model")
            model, span = value, (start, end)
        members[name] = value
        at = _skip(text, end)
        more = text[at : at + 1] == ","
        if more:
            at = _skip(text, at + 1)
    at = _expect(text, at, "}")
    if at != len(text):
        raise json.JSONDecodeError("unexpected text after the object", text, at)
    if span is None or not isinstance(model, str) or not model:
        raise _no_model(span is not None)
    return Envelope(body, text, model, members.get("stream") is True, members, span)


def _no_model(present: bool) -> ApiError:
    if present:
        return bad_request("'model' must be a string with the name of a model.", param="model")
    return bad_request("You must provide 'model', the name of a model.", param="model")


def _skip(text: str, at: int) -> int:
    match = _space(text, at)
    return match.end() if match else at


def _expect(text: str, at: int, character: str) -> int:
    """Skip white space, one character and white space again."""
    at = _skip(text, at)
    if text[at : at + 1] != character:
        raise json.JSONDecodeError(f"expected {character!r}", text, at)
    return _skip(text, at + 1)

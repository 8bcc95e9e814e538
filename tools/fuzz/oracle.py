"""What must be true of every input, whatever it is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from citadel_llm.gateway.api.endpoints import ENDPOINTS
from tools.fuzz import answers
from tools.fuzz.grammar import Case
from tools.fuzz.strict import Message, Reading, read_answers

_PATHS = frozenset(endpoint.path.encode() for endpoint in ENDPOINTS)
_ADDED = frozenset({b"host", b"content-length", b"x-request-id", b"traceparent", b"tracestate"})
"""Headers that the gateway writes anew for engines."""
_KEPT_BACK = frozenset(
    b"connection transfer-encoding upgrade te trailer expect http2-settings keep-alive "
    b"authorization x-api-key cookie proxy-connection".split()
)
_METHODS = frozenset(b"GET HEAD POST PUT DELETE OPTIONS TRACE PATCH CONNECT".split())
_GOOD_BODIES = (answers.ANSWER, b"".join(answers.EVENTS))


def answered_to(sent: Reading) -> int:
    """How many requests the gateway has to answer: those up to the first that ends the connection."""
    for number, message in enumerate(sent.messages):
        options = b",".join(message.values(b"connection")).lower()
        if message.minor == 0 or b"close" in options or b"upgrade" in options or message.values(b"upgrade"):
            return number + 1
    return len(sent.messages)


def check_answers(case: Case, sent: Reading, data: bytes, *, closed: bool) -> list[str]:
    """What is wrong with what a client got."""
    got = read_answers(data, sent.methods, closed=closed)
    found: list[str] = []
    if got.end == "invalid" or (got.end == "unfinished" and not (case.leaves or case.scripts)):
        found.append(f"an answer is not well formed ({got.end}): {data[got.rest :][:300]!r}")
    if len(got.messages) > len(sent.messages) + 1:
        found.append(f"{len(got.messages)} answers to {len(sent.messages)} requests")
    for number, answer in enumerate(got.messages):
        request = sent.messages[number] if number < len(sent.messages) else None
        found += _check_answer(case, request, answer)
    if case.clean and not case.leaves:
        wrong = [m.status for m in got.messages if m.status not in (200, 403, 429)]
        if wrong or len(got.messages) != len(sent.messages):
            found.append(f"{len(sent.messages)} proper requests got {[m.status for m in got.messages]}")
    return found


def _check_answer(case: Case, request: Message | None, answer: Message) -> list[str]:
    # Of a method that does not exist, nobody reads the target.
    known = request is not None and request.method in _METHODS
    path = request.first[1].partition(b"?")[0] if request is not None and known else None
    head = request is not None and request.method == b"HEAD"
    found: list[str] = []
    if case.listener == "internal":
        return found
    if len(answer.values(b"x-request-id")) != 1 or len(answer.values(b"date")) != 1:
        found.append(f"an answer lacks its request id or its date: {answer.headers}")
    if b'"internal_error"' in answer.body:
        found.append(f"the gateway met an error of its own: {answer.body[:300]!r}")
    if case.scripts or head:
        return found  # it may be the engine's own
    if answer.status >= 400:
        found += _check_error(path, answer)
    elif path in _PATHS and answer.status == 200 and answer.body not in _GOOD_BODIES:
        found.append(f"an answer was changed on its way: {answer.body[:300]!r}")
    if answer.status >= 500:
        found.append(f"{answer.status} although every engine works: {answer.body[:300]!r}")
    return found


def _check_error(path: bytes | None, answer: Message) -> list[str]:
    try:
        document = json.loads(answer.body)
        error = document["error"]
        well = isinstance(error["message"], str) and isinstance(error["type"], str)
        anthropic = document.get("type") == "error" and isinstance(document.get("request_id"), str)
        openai = set(error) == {"message", "type", "param", "code"}
        well = well and (anthropic != openai)
        if path is not None:  # else what was called may not even be known
            well = well and anthropic == path.startswith(b"/v1/messages")
    except (ValueError, KeyError, TypeError, AttributeError):
        well = False
    if well and answer.values(b"content-type") == [b"application/json"]:
        return []
    return [f"an error at {path!r} is not in the form of its API: {answer.body[:300]!r}"]


def check_requests(
    sent: Reading, before: Iterable[Reading], seen: Sequence[Message], renamed: str, *, repeats: bool
) -> list[str]:
    """What engines saw must be what the client sent, in that order. With `repeats`, again and again.

    `before` is what clients before it sent: they may have left while their requests were on their way.
    """
    at = 0
    earlier = [message for reading in before for message in reading.messages]
    for message in seen:
        if any(not _difference(one, message, renamed) for one in earlier):
            continue
        place = at
        while place < len(sent.messages) and _difference(sent.messages[place], message, renamed):
            place += 1
        if place == len(sent.messages):
            reason = (
                _difference(sent.messages[at], message, renamed)
                if at < len(sent.messages)
                else "it was never sent"
            )
            return [f"smuggled: an engine saw {message.first} {message.body[:200]!r}; {reason}"]
        at = place if repeats else place + 1
    return []


def _difference(sent: Message, seen: Message, renamed: str) -> str:
    """Why a request that an engine saw is not this one; empty if it is."""
    if seen.first != (b"POST", sent.first[1].partition(b"?")[0]) and not sent.first[1].startswith(b"http"):
        return "its first line is another one"
    if sent.method != b"POST" or seen.first[1] not in _PATHS:
        return "it is not on the list of what is allowed"
    if not _same_body(sent.body, seen.body, renamed):
        return "its body is another one"
    there = set(sent.headers)
    for header in seen.headers:
        if header[0] in _KEPT_BACK:
            return f"{header[0]!r} is not for engines"
        if header not in there and header[0] not in _ADDED:
            return f"{header!r} was never sent"
    for name in (b"host", b"content-length"):
        if len(seen.values(name)) != 1:
            return f"{name!r} is there {len(seen.values(name))} times"
    return ""


def _same_body(sent: bytes, seen: bytes, renamed: str) -> bool:
    if sent == seen:
        return True
    try:
        before, after = json.loads(sent), json.loads(seen)
    except (ValueError, RecursionError):
        return False
    if not isinstance(before, dict) or before.get("model") != renamed:
        return False
    return json.dumps(before | {"model": "served"}) == json.dumps(after)

"""Silences of the Alertmanager, over its API: alerts of a time of maintenance that nobody is told of."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

_TIMEOUT_S = 10.0
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_MATCHER = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)\s*(=~|!~|!=|=)\s*"?(.*?)"?')
_LONGEST = timedelta(days=90)


class SilenceError(Exception):
    """A silence cannot be made or read; the message says why and the remedy."""


@dataclass(frozen=True, slots=True)
class Silence:
    """One silence. `state` is `active`, `pending` or `expired`."""

    identity: str
    state: str
    matchers: tuple[str, ...]
    starts: datetime
    ends: datetime
    author: str
    comment: str


def duration(text: str) -> timedelta:
    """`90m`, `2h30m`, `1d`. Raises SilenceError for anything else, for nothing, and for more than 90 days."""
    match = _DURATION.fullmatch(text.strip())
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0, 0)
    found = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    if not timedelta(0) < found <= _LONGEST:
        raise SilenceError(f"{text!r} is no duration: write 30m, 2h or 1d12h, at most 90d")
    return found


def matcher(text: str) -> dict[str, Any]:
    """`name=value`, `!=`, `=~regex` or `!~regex`, as the API takes it. Raises SilenceError."""
    match = _MATCHER.fullmatch(text.strip())
    if match is None or not match[3]:
        raise SilenceError(f"{text!r} is no matcher: write label=value, or label=~regex")
    return {"name": match[1], "value": match[3], "isRegex": "~" in match[2], "isEqual": "!" not in match[2]}


class Alertmanager:
    """The Alertmanager at an address such as `http://127.0.0.1:9093`."""

    def __init__(self, url: str) -> None:
        """`url` has no path."""
        self._url = url
        self._opener = build_opener(ProxyHandler({}))

    def add(self, matchers: list[str], length: timedelta, author: str, comment: str) -> str:
        """Make a silence from now on and return its identity. Raises SilenceError."""
        now = datetime.now(UTC)
        body = {
            "matchers": [matcher(text) for text in matchers],
            "startsAt": now.isoformat(),
            "endsAt": (now + length).isoformat(),
            "createdBy": author,
            "comment": comment,
        }
        answer = self._call("POST", "silences", body)
        return str(answer["silenceID"])

    def silences(self) -> list[Silence]:
        """All that the Alertmanager still knows, those first that end first. Raises SilenceError."""
        found = [_silence(one) for one in self._call("GET", "silences")]
        return sorted(found, key=lambda silence: (silence.state == "expired", silence.ends))

    def expire(self, identity: str) -> None:
        """End a silence now. Raises SilenceError."""
        if not re.fullmatch(r"[0-9a-fA-F-]{1,64}", identity):
            raise SilenceError(f"{identity!r} is no silence's id: citadel silence list shows them")
        self._call("DELETE", f"silence/{identity}")

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = Request(  # noqa: S310 (the settings allow http and https only)
            f"{self._url}/api/v2/{path}", data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S) as response:
                text = response.read()
            return json.loads(text) if text.strip() else None
        except HTTPError as error:
            said = error.read().decode("utf-8", "replace").strip()[:300]
            raise SilenceError(f"the Alertmanager refused it ({error.code}): {said}") from error
        except (URLError, OSError, HTTPException, ValueError) as error:
            reason = error.reason if isinstance(error, URLError) else error
            raise SilenceError(
                f"{self._url}: the Alertmanager does not answer: {reason}. It runs on the monitoring host"
            ) from error


def _silence(record: dict[str, Any]) -> Silence:
    signs = {(True, False): "=", (True, True): "=~", (False, False): "!=", (False, True): "!~"}
    matchers = tuple(
        f"{one['name']}{signs[bool(one.get('isEqual', True)), bool(one['isRegex'])]}{one['value']}"
        for one in record["matchers"]
    )
    return Silence(
        str(record["id"]),
        str(record["status"]["state"]),
        matchers,
        datetime.fromisoformat(record["startsAt"]),
        datetime.fromisoformat(record["endsAt"]),
        str(record.get("createdBy", "")),
        str(record.get("comment", "")),
    )

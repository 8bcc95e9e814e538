"""Token counts out of the end of an answer, without reading the answer."""

from __future__ import annotations

import json
from collections import deque

_decode = json.JSONDecoder().raw_decode
_KEY = b'"usage":'
_KEEP_CHUNKS = 4
_KEEP_BYTES = 16 * 1024


class Tail:
    """The last few chunks of an answer, by reference: a chunk is neither copied nor kept for long."""

    __slots__ = ("_chunks",)

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque(maxlen=_KEEP_CHUNKS)

    def add(self, chunk: bytes) -> None:
        self._chunks.append(chunk)

    def ends_event(self) -> bool:
        """Whether a stream could be continued by a new event here."""
        end = b"".join(self._chunks)[-4:]
        return not end or end.endswith((b"\n\n", b"\r\n\r\n", b"\r\r"))

    def usage(self) -> tuple[int, int] | None:
        """Prompt and completion tokens, or None when the end of the answer does not tell."""
        text = b"".join(self._chunks)[-_KEEP_BYTES:]
        at = text.rfind(_KEY)
        # Null in one event does not hide the count in the one before it.
        while at >= 0:
            found = _counts(text[at + len(_KEY) :])
            if found is not None:
                return found
            at = text.rfind(_KEY, 0, at)
        return None


def _counts(text: bytes) -> tuple[int, int] | None:
    try:
        usage, _ = _decode(text.lstrip().decode("utf-8", "replace"))
    except ValueError:
        return None
    if not isinstance(usage, dict):
        return None
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens", 0)
    if type(prompt) is not int or type(completion) is not int or prompt < 0 or completion < 0:
        return None
    return prompt, completion

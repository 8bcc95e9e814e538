"""How many tokens a prompt has, before the engine has read it.

Asking the engine's tokenizer would cost a round trip and the reading of the whole prompt; a ratio of bytes to
tokens costs nothing and is corrected as soon as the engine tells the real number.
"""

from __future__ import annotations

import math
import re

_EMBEDDED = re.compile(rb";base64,[A-Za-z0-9+/=_-]{64,}")


def estimate_tokens(body: bytes, *, bytes_per_token: float, image_tokens: int) -> int:
    """About how many prompt tokens a request's body holds, at least 1.

    Embedded files (base64) are not text; each counts as `image_tokens`.
    """
    size = len(body)
    extra = 0
    if size > 64 and b";base64," in body:
        for match in _EMBEDDED.finditer(body):
            size -= match.end() - match.start()
            extra += image_tokens
    return max(1, math.ceil(size / bytes_per_token)) + extra

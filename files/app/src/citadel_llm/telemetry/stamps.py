"""The moment in UTC as text, for lines that are written one after the other."""

from __future__ import annotations

import time


class Stamps:
    """Makes a text once in a millisecond, and its larger part once in a second. Of one thread."""

    def __init__(self) -> None:
        self._millisecond = -1
        self._second = -1
        self._stem = ""
        self._text = ""

    def now(self) -> str:
        """Like 2026-01-31T23:59:59.123, without a time zone."""
        millisecond = int(time.time() * 1000)
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            second, rest = divmod(millisecond, 1000)
            if second != self._second:
                self._second = second
                self._stem = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
            self._text = f"{self._stem}{rest:03d}"
        return self._text


stamps = Stamps()
"""The event loop's."""

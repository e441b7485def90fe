"""What an event carries: its number, the time it was sent, and a marker that ends it.

CLOCK_MONOTONIC is the same in all processes of a machine, so the reader can tell how long the event
was under way. The marker is one byte that occurs nowhere else in a stream, so that counting it
counts events, however the stream is cut into reads.
"""

from __future__ import annotations

import itertools
import re
import time
from typing import Final

MARKER: Final = b"~"

#: The number and the time of sending, in nanoseconds.
STAMP: Final = re.compile(rb"(\d{10}) (\d{20}) ")

_FRAME: Final = len(f"{0:010d} {0:020d} ") + len(MARKER)


class Payloads:
    """Makes payloads, numbered from 0."""

    def __init__(self) -> None:
        self._numbers = itertools.count()

    def next(self, size: int, due: float | None = None) -> str:
        """Return the next payload, stamped with the time when it was due, else of this call."""
        filler = "x" * (size - _FRAME)
        stamp = time.monotonic_ns() if due is None else int(due * 1e9)
        return f"{next(self._numbers):010d} {stamp:020d} {filler}~"

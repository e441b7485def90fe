"""Event data that tells whether it arrived as it was sent: a number, a checksum, and filler.

The filler has line ends in it, so that an event is many `data` lines, and differs from event to
event, so that a piece of one in another's place is noticed.
"""

from __future__ import annotations

import random
import zlib
from typing import Final

_LARGEST: Final = 200_000
_ALPHABET: Final = 10 * "abcdefghijklmnopqrstuvwxyz0123456789 :é" + "\n"
_FILLER: Final = "".join(random.Random(1).choices(_ALPHABET, k=2 * _LARGEST))  # noqa: S311


def seal(number: int, size: int) -> str:
    """Return the data of an event, with so many characters of filler."""
    start = number * 7919 % _LARGEST
    filler = _FILLER[start : start + min(size, _LARGEST)]
    return f"{number} {_checksum(number, filler)} {filler}"


def unseal(data: str) -> int:
    """Return the number of an event.

    Raises:
        ValueError: If the data is not as it was sealed.
    """
    number, checksum, filler = data.split(" ", 2)
    if int(checksum) != _checksum(int(number), filler):
        raise ValueError(f"the checksum is wrong: {data[:80]!r}")
    return int(number)


def _checksum(number: int, filler: str) -> int:
    return zlib.crc32(f"{number} {filler}".encode())

"""Events as hypothesis makes them up, and what any reader must make of their bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Final

from hypothesis import strategies as st

from trio_sse import ServerSentEvent


def is_encodable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def is_line(text: str) -> bool:
    return is_encodable(text) and not set(text) & set("\r\n\0")


#: Any text, but what matters here is frequent in it.
texts: Final = st.text(
    st.sampled_from("\r\n :ai\0\ud800\ufeff\u2028\x85é€😀") | st.characters(), max_size=20
)
names: Final = st.sampled_from(["message", "error", "price", "data: x", ""]) | texts
retries: Final = st.none() | st.integers(-1, 2**53)

lines: Final = texts.filter(is_line)
encodable: Final = texts.filter(is_encodable)

#: Every event that `ServerSentEvent` accepts, several in one stream.
streams: Final = st.lists(
    st.builds(
        ServerSentEvent,
        event=(st.just("message") | lines).filter(bool),
        data=st.none() | encodable,
        id=st.none() | lines,
        retry=st.none() | st.integers(0, 2**53 - 1),
        comment=st.none() | encodable,
    ),
    max_size=4,
)

#: Where to cut the bytes of a stream.
places: Final = st.lists(st.integers(0, 999), max_size=9)


def cut(wire: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(wire) + 1) for place in at), len(wire)]
    return [wire[start:end] for start, end in pairwise(edges)]


def normalised(text: str) -> str:
    """Return the text with its line ends as they arrive."""
    return re.sub("\r\n|\r", "\n", text)


def comment_lines(events: Iterable[ServerSentEvent]) -> list[str]:
    """Return the comments as they arrive: one for each line."""
    comments = [event.comment for event in events if event.comment is not None]
    return [line for comment in comments for line in normalised(comment).split("\n")]

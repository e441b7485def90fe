"""What Redis's replies say: ids, entries, pages.

Whoever may write to the stream speaks to every browser, so nothing of what comes out is trusted:
each event is made anew, under the same rules as one that is broadcast here, or refused. A reply
that is none to its command is the end of its session. It knows no commands.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, Final, final

import attrs

from .._core.event import RESERVED_EVENTS, ServerSentEvent
from ._history import parse_id
from ._outbox import MAX_BYTES
from ._refusals import reading_replies

#: What an event is made of; whatever else an entry has is its writer's.
_FIELDS: Final = (b"event", b"data", b"topic")


@final
@attrs.frozen
class Entry:
    """What has an id in the stream."""

    id: str
    event: ServerSentEvent | None
    """`None` if it is none that could be sent."""

    topic: str | None

    size: int
    """The bytes of its fields."""


@final
@attrs.frozen
class Page:
    """What follows an id."""

    anchored: bool
    """Whether the entry with that id is still there: else what follows may not be all."""

    entries: Sequence[Entry]


@final
@attrs.frozen
class Extent:
    """What there is of a stream."""

    last_id: str
    """The id that all future ones follow."""

    length: int = 0
    """How many entries there are."""

    is_whole: bool = True
    """Whether everything that was ever written into it is there."""


@reading_replies()
def read_ids(reply: Any, number: int, count: int) -> list[str]:
    done, *ids = reply.split()
    if (int(done), len(ids)) != (number, count):
        raise ValueError(f"{reply!r} is not of batch {number}, of {count} events")
    return [_checked(raw_id) for raw_id in ids]


@reading_replies()
def read_id(reply: Any) -> str | None:
    return None if reply is None else _checked(reply)


@reading_replies()
def read_extent(reply: Any) -> Extent:
    length = int(reply[b"length"])
    is_whole = length == reply.get(b"entries-added")
    return Extent(_checked(reply[b"last-generated-id"]), length, is_whole)


@reading_replies()
def read_page(reply: Any) -> Page:
    anchor: int = reply[0]
    entries: list[Any] = reply[1:]
    return Page(bool(anchor), [_entry(*entry) for entry in entries])


@reading_replies()
def read_entries(reply: Any) -> list[Entry]:
    streams: dict[bytes, list[Any]] = reply or {}
    return [_entry(*entry) for entry in chain.from_iterable(streams.values())]


def _checked(raw: bytes) -> str:
    text = raw.decode()
    if parse_id(text) is None:
        raise ValueError(f"{text!r} is no id")
    return text


def _entry(raw_id: bytes, raw: list[bytes] | None) -> Entry:
    entry_id, found = _checked(raw_id), raw or []
    size = sum(map(len, found))
    given = dict(zip(found[::2], found[1::2], strict=True))
    try:
        fields = {name: given[name].decode() for name in _FIELDS if name in given}
        event = ServerSentEvent(fields[b"event"], fields[b"data"], id=entry_id)
    except (KeyError, ValueError):  # UnicodeDecodeError is one, too.
        return Entry(entry_id, None, None, size)
    if event.event in RESERVED_EVENTS or size > MAX_BYTES:
        return Entry(entry_id, None, None, size)
    return Entry(entry_id, event, fields.get(b"topic"), size)

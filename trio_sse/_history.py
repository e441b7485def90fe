"""The last events that were broadcast, and what a client that comes back has missed of them.

Sans-IO: it knows events and their ids, and neither clients nor clocks. An id is ``<epoch>-<n>``:
the n-th event of a history whose epoch no other history has, so that an id of another process, or
of this one before its restart, is never mistaken for one of ours. Events are kept in a ring: to add
one costs the same however many there are, and what follows an id is found by its number. Those who
come back all together share the bytes of what they missed.
"""

from __future__ import annotations

import re
import secrets
from functools import cached_property
from typing import Final, final

import attrs

from ._event import ServerSentEvent

#: 64 bits of number are more than any process broadcasts; a longer one is no id of ours.
_ID: Final = re.compile(r"([0-9a-f]+)-(0|[1-9][0-9]{0,18})", re.ASCII)


#: Events that are joined once for all who replay them.
_BLOCK: Final = 64


@final
@attrs.frozen
class Missed:
    """What a client has missed since an id: all from `start` on, unless there is a `gap`."""

    start: int = 0
    """The position of the first event that was missed."""

    gap: str | None = None
    """Why it cannot be known what was missed."""


@final
class History:
    """A bounded record of events, each with its id.

    Args:
        size: How many events are kept.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._count = 0
        self._ring: list[ServerSentEvent] = []
        self._blocks: dict[int, bytes] = {}

    @cached_property
    def _epoch(self) -> str:
        # Made when it is first needed: by then a program has forked its processes.
        return secrets.token_hex(6)

    @property
    def last_id(self) -> str:
        """The id of the last event; before the first event, one that all events follow."""
        return f"{self._epoch}-{self._count}"

    @property
    def next_id(self) -> str:
        """The id that the next event must have."""
        return f"{self._epoch}-{self._count + 1}"

    def append(self, event: ServerSentEvent) -> None:
        """Record an event that was made with `next_id`."""
        if len(self._ring) < self._size:
            self._ring.append(event)
        else:
            self._ring[self._count % self._size] = event
            self._blocks.pop(self._count - self._size, None)
        self._count += 1

    def since(self, last_event_id: str) -> Missed:
        """Return what followed the event with this id, whoever has made the id up."""
        match = _ID.fullmatch(last_event_id)
        if match is None:
            return Missed(gap="the last event ID is malformed")
        epoch, number = match[1], int(match[2])
        if epoch != self._epoch:
            return Missed(gap="the last event ID is from before a restart, or another server's")
        if number > self._count:
            return Missed(gap="the last event ID is of an event that is still to come")
        if number < self._count - len(self._ring):
            return Missed(gap="the last event ID is too old")
        return Missed(number)

    def events_from(self, start: int) -> list[ServerSentEvent]:
        """Return the events from a position on."""
        return [self._ring[n % self._size] for n in range(start, self._count)]

    def wire_from(self, start: int) -> list[bytes]:
        """Return the same as bytes, in pieces that all who ask share."""
        aligned = min(-(-start // _BLOCK) * _BLOCK, self._count)
        tail = max(aligned, self._count // _BLOCK * _BLOCK)
        return [
            *self._encoded(start, aligned),
            *(self._block(n) for n in range(aligned, tail, _BLOCK)),
            *self._encoded(tail, self._count),
        ]

    def _encoded(self, start: int, stop: int) -> list[bytes]:
        return [self._ring[n % self._size].encode() for n in range(start, stop)]

    def _block(self, start: int) -> bytes:
        if start not in self._blocks:
            self._blocks[start] = b"".join(self._encoded(start, start + _BLOCK))
        return self._blocks[start]

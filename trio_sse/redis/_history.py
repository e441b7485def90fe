"""The last events that came out of a stream which several processes share, and their ids.

Sans-IO: it knows events and the ids that Redis gave them, ``<milliseconds>-<n>``, which grow along
the stream; it knows neither clients nor Redis. Ids come from the network: one is looked at only
once it is known to be of that form, and 64 bits.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Final, final

from .._core.event import ServerSentEvent
from .._core.history import History, Missed

_ID: Final = re.compile(r"(0|[1-9][0-9]{0,19})-(0|[1-9][0-9]{0,19})", re.ASCII)

_MAX: Final = 2**64 - 1

#: The id that all of a stream follows: that of its end while it is empty.
ORIGIN: Final = "0-0"

#: The id that nothing follows.
GREATEST: Final = f"{_MAX}-{_MAX}"

StreamId = tuple[int, int]


def parse_id(text: str) -> StreamId | None:
    """Return an id as numbers, which compare as the ids follow each other; `None` if it is none."""
    match = _ID.fullmatch(text)
    if match is None:
        return None
    milliseconds, number = int(match[1]), int(match[2])
    return (milliseconds, number) if max(milliseconds, number) <= _MAX else None


def order(known: str) -> StreamId:
    """Return an id that came out of the stream as numbers."""
    milliseconds, _, number = known.partition("-")
    return int(milliseconds), int(number)


@final
class StreamHistory(History):
    """A bounded record of events that have ids already."""

    def __init__(self, size: int) -> None:
        super().__init__(max(size, 1))  # Of none, it could not be told where it ends.
        self._ids: deque[str] = deque([ORIGIN])
        self._positions = {ORIGIN: 0}

    @property
    def last_id(self) -> str:
        return self._ids[-1]

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids after which it is known what follows, from the oldest on."""
        return tuple(self._ids)

    def restart(self, last_id: str, *, covered: bool = True) -> None:
        """Forget all; go on after this id, and if that is `covered`, with all that follows it."""
        self._ring.clear()
        self._blocks.clear()
        self._count = 0
        self._ids = deque([last_id])
        self._positions = {last_id: 0} if covered else {}

    def append(self, event: ServerSentEvent, topic: str | None) -> ServerSentEvent:
        self._record(event, topic)
        event_id = str(event.id)
        self._ids.append(event_id)
        self._positions[event_id] = self._count
        if len(self._ids) > self.size + 1:
            self._positions.pop(self._ids.popleft(), None)
        return event

    def covers(self, known: str) -> bool:
        """Whether all that follows this id is here."""
        return known in self._positions

    def since(self, last_event_id: str) -> Missed:
        if self.covers(last_event_id):
            return Missed(self._positions[last_event_id])
        numbers = parse_id(last_event_id)
        if numbers is None:
            return Missed(gap="the last event ID is malformed")
        if numbers > order(self.last_id):
            return Missed(gap="the last event ID is of an event that is still to come")
        return Missed(gap="the last event ID is too old, or of events that were lost")

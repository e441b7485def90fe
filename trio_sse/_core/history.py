"""The last events, their ids, and what a client that comes back has missed of them.

Sans-IO: it knows events, topics and ids, and neither clients nor clocks. Those who come back all
together share the bytes of what they missed. One record is for all topics: what a client asks for
is chosen when it asks.

An id of this process is ``<epoch>-<n>``: the n-th event of a history whose epoch no other history
has. So an id of another process, or of this one before its restart, is never mistaken for one of
ours, and what follows an id is found by its number.
"""

from __future__ import annotations

import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import chain
from typing import Final, final

import attrs

from .event import ServerSentEvent, numbered

#: 64 bits of number are more than any process broadcasts; a longer one is no id of ours.
_ID: Final = re.compile(r"([0-9a-f]+)-(0|[1-9][0-9]{0,18})", re.ASCII)

#: Events that are joined once for all who replay them.
_BLOCK: Final = 64

#: An event and its topic, if it has one.
Recorded = tuple[ServerSentEvent, str | None]


@final
@attrs.frozen
class Missed:
    """What a client has missed since an id: all from `start` on, unless there is a `gap`."""

    start: int = 0
    """The position of the first event that was missed."""

    gap: str | None = None
    """Why it cannot be known what was missed."""


@final
class Block:
    """Some events in a row; those for all are joined once for all who replay them."""

    def __init__(self, events: Sequence[Recorded]) -> None:
        self._events = events
        self._topics = frozenset(topic for _, topic in events if topic is not None)
        self._for_all = b"".join(_encode(events, frozenset()))

    def wire(self, topics: frozenset[str]) -> list[bytes]:
        """Return what is for all and what is of these topics, as bytes."""
        wanted = self._topics & topics
        if wanted:
            return _encode(self._events, wanted)
        return [self._for_all] if self._for_all else []


class History(ABC):
    """A bounded record of events, each of which has an id.

    To add one costs the same however many there are. An event's position is how many came before
    it.

    Args:
        size: How many events are kept.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._count = 0
        self._ring: list[Recorded] = []
        self._blocks: dict[int, Block] = {}

    @property
    @abstractmethod
    def last_id(self) -> str:
        """The id of the last event; before the first one, an id that all events follow."""

    @abstractmethod
    def since(self, last_event_id: str) -> Missed:
        """Return what followed the event with this id, whoever has made the id up."""

    @abstractmethod
    def append(self, event: ServerSentEvent, topic: str | None) -> ServerSentEvent:
        """Record an event, and return it with its id."""

    def _record(self, event: ServerSentEvent, topic: str | None) -> None:
        if len(self._ring) < self.size:
            self._ring.append((event, topic))
        else:
            self._ring[self._count % self.size] = event, topic
            self._blocks.pop(self._count - self.size, None)
        self._count += 1

    def events_from(self, start: int, topics: frozenset[str]) -> list[ServerSentEvent]:
        """Return the events from a position on, of these topics and of none."""
        return [event for event, topic in self._from(start, self._count) if _is_in(topic, topics)]

    def wire_from(self, start: int, topics: frozenset[str]) -> list[bytes]:
        """Return the same as bytes, in pieces that all who ask share."""
        aligned = min(-(-start // _BLOCK) * _BLOCK, self._count)
        tail = max(aligned, self._count // _BLOCK * _BLOCK)
        blocks = (self._block(n).wire(topics) for n in range(aligned, tail, _BLOCK))
        return [
            *_encode(self._from(start, aligned), topics),
            *chain.from_iterable(blocks),
            *_encode(self._from(tail, self._count), topics),
        ]

    def count_after(self, start: int, topics: frozenset[str]) -> int:
        """Return how many events follow the last of these; from the start on, if there is none."""
        for n in range(self._count, start, -1):
            if _is_in(self._ring[(n - 1) % self.size][1], topics):
                return self._count - n
        return self._count - start

    def _from(self, start: int, stop: int) -> list[Recorded]:
        return [self._ring[n % self.size] for n in range(start, stop)]

    def _block(self, start: int) -> Block:
        if start not in self._blocks:
            self._blocks[start] = Block(self._from(start, start + _BLOCK))
        return self._blocks[start]


@final
class LocalHistory(History):
    """The events of this process: it gives each an id, ``<epoch>-<n>``."""

    @cached_property
    def _epoch(self) -> str:
        # Made when it is first needed: by then a program has forked its processes.
        return secrets.token_hex(6)

    @property
    def last_id(self) -> str:
        return f"{self._epoch}-{self._count}"

    def append(self, event: ServerSentEvent, topic: str | None) -> ServerSentEvent:
        event = numbered(event, f"{self._epoch}-{self._count + 1}")
        self._record(event, topic)
        return event

    def since(self, last_event_id: str) -> Missed:
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


def _is_in(topic: str | None, topics: frozenset[str]) -> bool:
    return topic is None or topic in topics


def _encode(events: Iterable[Recorded], topics: frozenset[str]) -> list[bytes]:
    return [event.encode() for event, topic in events if _is_in(topic, topics)]

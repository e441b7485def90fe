"""The last events in a ring: to add one costs the same however many there are.

Sans-IO: it knows events and topics, and neither ids, clients nor clocks. An event's position is how
many came before it. Those who come back all together share the bytes of what they missed. One ring
is for all topics: what a client asks for is chosen when it asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Final, final

import attrs

from .event import ServerSentEvent

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


class Ring:
    """A bounded record of events.

    Args:
        size: How many events are kept.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._count = 0
        self._ring: list[Recorded] = []
        self._blocks: dict[int, Block] = {}

    def append(self, event: ServerSentEvent, topic: str | None) -> None:
        """Record an event."""
        if len(self._ring) < self._size:
            self._ring.append((event, topic))
        else:
            self._ring[self._count % self._size] = event, topic
            self._blocks.pop(self._count - self._size, None)
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
            if _is_in(self._ring[(n - 1) % self._size][1], topics):
                return self._count - n
        return self._count - start

    def _from(self, start: int, stop: int) -> list[Recorded]:
        return [self._ring[n % self._size] for n in range(start, stop)]

    def _block(self, start: int) -> Block:
        if start not in self._blocks:
            self._blocks[start] = Block(self._from(start, start + _BLOCK))
        return self._blocks[start]


def _is_in(topic: str | None, topics: frozenset[str]) -> bool:
    return topic is None or topic in topics


def _encode(events: Iterable[Recorded], topics: frozenset[str]) -> list[bytes]:
    return [event.encode() for event, topic in events if _is_in(topic, topics)]

"""What was broadcast here and is not yet in the stream.

A bounded queue, by number and by bytes, out of which events go in numbered batches: one batch at a
time, the same again until it is acknowledged. It knows events; it does not know Redis.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Final, final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from .._core.changes import Changes
from .._core.event import ServerSentEvent
from .._core.run_guard import RunGuard

#: Events of one batch, at most.
_BATCH: Final = 100

#: Bytes that one event may have: whoever reads the stream must hold a hundred of them.
MAX_BYTES: Final = 1024 * 1024


@final
@attrs.define(eq=False)
class PendingEvent:
    """An event on its way into the stream.

    Raises:
        ValueError: If the topic has a lone surrogate.
    """

    event: ServerSentEvent
    topic: str | None
    posted_at: float = attrs.field(factory=trio.current_time, init=False)
    id: str | None = attrs.field(default=None, init=False)
    settled: trio.Event = attrs.field(factory=trio.Event, init=False)
    """Set once the id is known, or never will be."""

    size: int = attrs.field(init=False)
    """Its bytes, about."""

    def __attrs_post_init__(self) -> None:
        try:
            topic = (self.topic or "").encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                "a topic is sent as UTF-8, which cannot express the lone surrogate "
                f"{error.object[error.start]!r}; replace it"
            ) from error
        self.size = len(self.event.encode()) + len(topic)


@final
class Outbox:
    """A bounded queue of events.

    Args:
        max_events: How many there may be.
        max_bytes: How many bytes they may have.
    """

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._events: deque[PendingEvent] = deque()
        self._in_flight = 0
        self._changed = trio.lowlevel.ParkingLot()
        #: A broadcast may strike inside Trio, where nobody can be woken.
        self._wakes = Changes()
        self.bytes = 0
        self._is_open = False
        #: The number of the batch that is to be sent next, or again.
        self.batch_number = 1

    def __len__(self) -> int:
        return len(self._events)

    @property
    def oldest_posted_at(self) -> float | None:
        """When the oldest event was put in, by Trio's clock."""
        return self._events[0].posted_at if self._events else None

    def post_nowait(self, event: PendingEvent) -> None:
        """Accept an event.

        Raises:
            trio.WouldBlock: If there is no room.
            trio.ClosedResourceError: If it is not open.
            ValueError: If the event is too large.
        """
        self._check(event)
        if not self._has_room(event):
            raise trio.WouldBlock(
                f"the relay's outbox is full ({len(self)} events, {self.bytes} bytes): Redis is "
                "away or too slow; drop the event, or wait in relay.publish()"
            )
        self._events.append(event)
        self.bytes += event.size
        self._wakes.run(self._changed.unpark_all)

    async def post(self, event: PendingEvent) -> None:
        """Accept an event as soon as there is room; raise as `post_nowait` does."""
        await trio.lowlevel.checkpoint()
        self._check(event)
        while self._is_open and not self._has_room(event):
            await self._changed.park()
        self.post_nowait(event)

    @enable_ki_protection  # Nor may one strike between a look at what there is and the wait.
    async def batch(self) -> list[PendingEvent]:
        """Return what is to be sent, waiting for it: none once it is closed and all is sent."""
        await trio.lowlevel.checkpoint()
        while self._is_open and not self._events:
            await self._changed.park()
        self._in_flight = self._in_flight or min(len(self), _BATCH)
        return [*islice(self._events, self._in_flight)]

    def acknowledge(self, ids: list[str]) -> None:
        """Let go of the batch: these are its events' ids."""
        for event_id in ids:
            event = self._events.popleft()
            self.bytes -= event.size
            event.id = event_id
            event.settled.set()
        self._in_flight = 0
        self.batch_number += 1
        self._changed.unpark_all()

    def check_open(self) -> None:
        """Refuse if nothing is accepted.

        Raises:
            trio.ClosedResourceError: If so.
        """
        if not self._is_open:
            raise trio.ClosedResourceError(
                "the relay does not run: start it first, by await nursery.start(relay.run)"
            )

    def open(self, run_guard: RunGuard) -> None:
        """Accept events from now on, in this run."""
        self._wakes.run_guard = run_guard
        self._is_open = True

    def close(self) -> None:
        """Accept nothing more."""
        self._is_open = False
        self._changed.unpark_all()

    def drop(self) -> int:
        """Let go of what is left, unsent; return how many events that were."""
        dropped = len(self)
        while self._events:
            self._events.popleft().settled.set()
        self.bytes = 0
        self._in_flight = 0
        return dropped

    def _has_room(self, event: PendingEvent) -> bool:
        return len(self) < self._max_events and self.bytes + event.size <= self._max_bytes

    def _check(self, event: PendingEvent) -> None:
        self.check_open()
        limit = min(MAX_BYTES, self._max_bytes)
        if event.size > limit:
            raise ValueError(
                f"an event of {event.size} bytes is too large for the relay, which takes {limit}; "
                "send a reference to it"
            )

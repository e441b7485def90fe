"""What was broadcast here and has not come back out of the stream.

A bounded queue, by number and by bytes, out of which events go in numbered batches: one batch at a
time, the same again until it is acknowledged. An event counts until it has come back, so whoever
broadcasts faster than this process reads is told so. It knows events; it does not know Redis.
"""

from __future__ import annotations

from collections import deque
from itertools import accumulate, islice, takewhile
from typing import Final, final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from .._core.changes import Changes
from .._core.event import ServerSentEvent
from .._core.run_guard import RunGuard
from ._history import GREATEST, ORIGIN, order

#: Events of one batch, at most, and their bytes, unless one alone has more.
_BATCH: Final = 100
_BATCH_BYTES: Final = 256 * 1024

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
        window: How many may be in the stream and not have come back: more would push each other
            out of it.
    """

    def __init__(self, max_events: int, max_bytes: int, window: int) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._window = window
        self._events: deque[PendingEvent] = deque()
        #: Those that were acknowledged and have not come back.
        self._sent: deque[PendingEvent] = deque()
        self._in_flight = 0
        self._posted = self._gone = 0
        self._moved = trio.lowlevel.ParkingLot()
        #: A broadcast may strike amid a change, or inside Trio, where nobody can be woken.
        self._changes = Changes()
        self._turns = trio.StrictFIFOLock()
        self._is_waited_for = False
        self._is_open = False
        self.bytes = 0
        #: The number of the batch that is to be sent next, or again; and how often it was.
        self.batch_number = 1
        self.attempts = 0

    def __len__(self) -> int:
        return len(self._events) + len(self._sent)

    @property
    def oldest_posted_at(self) -> float | None:
        """When the oldest event was put in, by Trio's clock."""
        return next((event.posted_at for event in (*self._sent, *self._events)), None)

    @property
    def newest_sent(self) -> str:
        """The id of the last event that was acknowledged and has not come back."""
        return str(self._sent[-1].id) if self._sent else ORIGIN

    def post_nowait(self, event: PendingEvent) -> None:
        """Accept an event.

        Raises:
            trio.WouldBlock: If there is no room, or somebody waits for it.
            trio.ClosedResourceError: If it is not open.
            ValueError: If the event is too large.
        """
        self._check(event)
        if self._is_waited_for or not self._has_room(event):
            raise trio.WouldBlock(
                f"the relay's outbox is full ({len(self)} events, {self.bytes} bytes): Redis is "
                "away or too slow; drop the event, or wait in relay.publish()"
            )
        self._changes.run(self._put, event)

    async def post(self, event: PendingEvent) -> None:
        """Accept an event as soon as there is room, in the order of the calls."""
        await trio.lowlevel.checkpoint()
        self._check(event)
        async with self._turns:  # Else small events would take the room that a large one needs.
            try:
                while self._is_open and not self._has_room(event):
                    self._is_waited_for = True
                    await self._moved.park()
            finally:
                self._is_waited_for = False
            self.post_nowait(event)

    @enable_ki_protection  # Nor may one strike between a look at what there is and the wait.
    async def batch(self) -> list[PendingEvent]:
        """Return what is to be sent, waiting for it: none once it is closed and all is sent."""
        await trio.lowlevel.checkpoint()
        while self._is_open and not (self._in_flight or self._sendable()):
            await self._moved.park()
        self._in_flight = self._in_flight or self._sendable() or self._fitting()
        self.attempts += 1
        return [*islice(self._events, self._in_flight)]

    @enable_ki_protection
    def acknowledge(self, ids: list[str]) -> None:
        """Note that the batch is in the stream: these are its events' ids."""
        with self._changes:
            for event_id in ids:
                event = self._events.popleft()
                event.id = event_id
                event.settled.set()
                self._sent.append(event)
            self._in_flight = self.attempts = 0
            self.batch_number += 1

    @enable_ki_protection
    def take_back(self, head: str = GREATEST) -> None:
        """Let go of what has come back, up to this id; or of all, if nothing more will."""
        with self._changes:
            while self._sent and order(str(self._sent[0].id)) <= order(head):
                self._let_go(self._sent.popleft())

    async def wait_all_back(self) -> None:
        """Wait until all that was put in before has come back, or never will."""
        await trio.lowlevel.checkpoint()
        self._changes.catch_up()
        awaited = self._posted
        while self._gone < awaited:
            await self._moved.park()

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
        self._changes.run_guard = run_guard
        self._is_open = True

    def close(self) -> None:
        """Accept nothing more."""
        self._is_open = False
        self._moved.unpark_all()

    @enable_ki_protection
    def drop(self) -> int:
        """Let go of what is left; return how many events were not acknowledged."""
        self._changes.catch_up()
        dropped = len(self._events)
        with self._changes:
            while self._events:
                event = self._events.popleft()
                event.settled.set()
                self._let_go(event)
            self._in_flight = self.attempts = 0
        self.take_back()
        return dropped

    def _put(self, event: PendingEvent) -> None:
        self._events.append(event)
        self._posted += 1
        self.bytes += event.size
        self._moved.unpark_all()

    def _let_go(self, event: PendingEvent) -> None:
        self._gone += 1
        self.bytes -= event.size
        self._moved.unpark_all()

    def _sendable(self) -> int:
        """Return how many events may be sent now."""
        return max(0, min(self._fitting(), self._window - len(self._sent)))

    def _fitting(self) -> int:
        """Return how many events fit into a batch."""
        sizes = accumulate(event.size for event in islice(self._events, _BATCH))
        fitting = sum(1 for _ in takewhile(lambda size: size <= _BATCH_BYTES, sizes))
        return fitting or min(len(self._events), 1)

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

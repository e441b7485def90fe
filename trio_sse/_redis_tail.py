"""What comes out of the stream, in its order, until the relay ends.

After each new connection, and whenever nothing comes, it is looked whether the last event that came
is still known to Redis: if not, what follows it here may not be all, and the clients are told
(docs/design.md, "The anchor"). It knows neither who listens nor how a connection is kept.
"""

from __future__ import annotations

import time
from typing import Final, final

import trio

from ._redis_session import Session
from ._redis_stream import Entry, Stream
from ._relay import Node
from ._stream_history import ORIGIN, order

#: Events that are read at once, at most.
_MAX_PAGE: Final = 100

#: Seconds in which clients may take a full page before the next comes; who stalls is pruned then.
_PACE: Final = 0.1


@final
class Tail:
    """Reads a stream to its end, and on as it grows."""

    def __init__(self, stream: Stream, node: Node) -> None:
        self._stream = stream
        self._node = node
        # Half of a buffer, so that a client which is behind by a page can still take one.
        self._page_size = max(1, min(_MAX_PAGE, node.buffer_size // 2))
        self._last_id: str | None = None
        #: Set when something more has come; then there is another one.
        self.moved = trio.Event()
        #: Set once it is known where the stream ends.
        self.started = trio.Event()
        #: When Redis last answered, by Trio's clock; `None` while it is away.
        self._heard_at: float | None = None
        self.received = 0
        self.refused = 0
        self.gaps = 0
        #: Seconds from an event's id to its coming here; the clocks may differ.
        self.lag = 0.0

    @property
    def head(self) -> str:
        """The id after which it reads on."""
        return self._node.history.last_id if self._last_id is None else self._last_id

    def is_alive(self, patience: float) -> bool:
        """Whether Redis has answered lately."""
        return self._heard_at is not None and trio.current_time() - self._heard_at < patience

    async def begin(self, session: Session) -> None:
        """Find out where the stream ends, or whether it goes on where it was left."""
        await self._continue(session)
        self.started.set()

    async def read(self, session: Session) -> None:
        """Read by one session, for as long as it lasts."""
        try:
            last_id = await self._continue(session)
            while True:
                self._heard_at = trio.current_time()
                entries = await self._stream.read(session, last_id, self._page_size)
                for entry in entries:
                    self._take(entry)
                    last_id = self._last_id = entry.id
                self._tell_moved()
                if not entries:
                    last_id = await self._look_back(session, last_id)
                elif len(entries) == self._page_size:
                    with trio.move_on_after(_PACE):
                        await self._node.wait_all_taken()
        finally:
            self._heard_at = None

    async def _continue(self, session: Session) -> str:
        """Return the id after which to read on; the first time, the end of the stream."""
        if self._last_id is None:
            last_id = (await self._stream.extent(session)).last_id
            self._node.history.begin(last_id)
        elif (await self._stream.page(session, self._last_id, 0)).anchored:
            last_id = self._last_id
        else:
            last_id = await self._begin_again(session)
        self._last_id = last_id
        return last_id

    async def _look_back(self, session: Session, last_id: str) -> str:
        """Ask whether ids went back: nothing would ever follow the last one."""
        extent = await self._stream.extent(session)
        if extent.last_id != ORIGIN and order(extent.last_id) < order(last_id):
            return await self._begin_again(session)
        return last_id

    async def _begin_again(self, session: Session) -> str:
        """Go on after what Redis and we both know, and tell the clients."""
        last_id = await self._common_id(session)
        self.gaps += 1
        self._node.begin_again("events may have been lost: Redis has another history", last_id)
        self._last_id = last_id
        self._tell_moved()
        return last_id

    async def _common_id(self, session: Session) -> str:
        known = self._node.history.ids
        page = await self._stream.page(session, known[0], len(known))
        kept = {entry.id for entry in page.entries}
        if page.anchored:
            kept.add(known[0])
        for event_id in reversed(known):
            if event_id in kept:
                return event_id
        extent = await self._stream.extent(session)
        return min(known[-1], extent.last_id, key=order)

    def _take(self, entry: Entry) -> None:
        self.received += 1
        self.lag = time.time() - order(entry.id)[0] / 1000
        if entry.event is not None:
            self._node.deliver(entry.event, entry.topic)
        else:
            self.refused += 1

    def _tell_moved(self) -> None:
        self.moved.set()
        self.moved = trio.Event()

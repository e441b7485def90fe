"""What comes out of the stream, in its order, until the relay ends.

After each new connection, and whenever nothing comes, it is looked whether the last event that came
is still known to Redis: if not, what follows it here may not be all, and the clients are told
(docs/design.md, "The anchor"). It knows neither who listens nor how a connection is kept.
"""

from __future__ import annotations

import time
from typing import Final, final

import trio

from .._core.relay import Node
from ._commands import Entry, RedisStream
from ._history import ORIGIN, StreamHistory, order
from ._session import Session

#: Events that are read at once, at most.
_MAX_PAGE: Final = 100

#: Seconds in which clients may take a full page before the next comes; who stalls is pruned then.
_PACE: Final = 0.1


@final
class StreamReader:
    """Reads a stream to its end, and on as it grows."""

    def __init__(self, stream: RedisStream, node: Node, history: StreamHistory) -> None:
        self._stream = stream
        self._node = node
        self._history = history
        # Half of a buffer, so that a client which is behind by a page can still take one; and less
        # than a full page cannot hide that what came before it was trimmed.
        self._page_size = max(1, min(_MAX_PAGE, node.buffer_size // 2, stream.maxlen))
        #: The id after which it reads on; `None` until that is known.
        self._last_id: str | None = None
        #: An id after which it goes on though Redis does not know it, as the clients were told.
        self._doubted: str | None = None
        #: Set when something more has come; then there is another one.
        self.moved = trio.Event()
        #: Set once it is known where the stream ends.
        self.started = trio.Event()
        #: Whether Redis answers, as it must within a timeout.
        self.reads = False
        self.received = 0
        self.refused = 0
        self.gaps = 0
        #: Seconds from an event's id to its coming here; the clocks may differ.
        self.lag = 0.0

    @property
    def head(self) -> str:
        """The id after which it reads on."""
        return self._last_id or ORIGIN

    async def find_start(self, session: Session) -> None:
        """Find out where the stream ends, or whether it goes on where it was left."""
        if self._last_id is None:
            await self._stream.check(session)
            self._last_id = (await self._stream.extent(session)).last_id
            self._history.restart(self._last_id)
        elif not await self._is_known(session, self._last_id):
            await self._begin_again(session)
        self.started.set()

    async def read(self, session: Session) -> None:
        """Read by one session, for as long as it lasts."""
        try:
            await self.find_start(session)
            self.reads = True
            while True:
                await self._read_page(session, self.head)
        finally:
            self.reads = False

    async def _read_page(self, session: Session, last_id: str) -> None:
        entries = await self._stream.read(session, last_id, self._page_size)
        is_full = len(entries) == self._page_size
        if is_full and last_id != self._doubted and not await self._is_known(session, last_id):
            self._tell_gap(last_id, covered=False)
        for entry in entries:
            self._take(entry)
        self._tell_moved()
        if not entries:
            await self._look_back(session, last_id)
        elif is_full:
            with trio.move_on_after(_PACE):
                await self._node.wait_all_taken()

    async def _is_known(self, session: Session, last_id: str) -> bool:
        """Ask whether what follows an id now is all that ever did."""
        return (await self._stream.page(session, last_id, 0)).anchored

    async def _look_back(self, session: Session, last_id: str) -> None:
        """Ask whether ids went back: nothing would ever follow the last one."""
        end = (await self._stream.extent(session)).last_id
        if end != ORIGIN and order(end) < order(last_id):
            await self._begin_again(session)

    async def _begin_again(self, session: Session) -> None:
        """Go on after what Redis and we both know, or else after what comes first."""
        known = self._history.ids
        page = await self._stream.page(session, known[0], len(known))
        kept = {entry.id for entry in page.entries}
        if page.anchored:
            kept.add(known[0])
        common = next((event_id for event_id in reversed(known) if event_id in kept), None)
        end = (await self._stream.extent(session)).last_id
        self._last_id = common or min(self.head, end, key=order)
        self._doubted = None if common else self._last_id
        # Nothing precedes the origin that could be lost, unless there was another stream.
        self._tell_gap(self._last_id, covered=common not in (None, ORIGIN))
        self._tell_moved()

    def _tell_gap(self, last_id: str, *, covered: bool) -> None:
        self.gaps += 1
        reason = "events were lost in Redis, or this server was away from it for too long"
        self._node.check_run()
        self._history.restart(last_id, covered=covered)
        self._node.begin_again(reason, last_id)

    def _take(self, entry: Entry) -> None:
        self._last_id = entry.id
        self.received += 1
        self.lag = time.time() - order(entry.id)[0] / 1000
        if entry.event is not None:
            self._node.deliver(entry.event, entry.topic)
        else:
            self.refused += 1

    def _tell_moved(self) -> None:
        self.moved.set()
        self.moved = trio.Event()

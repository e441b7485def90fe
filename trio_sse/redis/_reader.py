"""What comes out of the stream, in its order, until the relay ends.

With each page, and after each new connection, it is asked whether the last event that came is still
known to Redis: if not, what follows it here may not be all, and the clients are told
(docs/design.md, "The anchor"). It knows neither who listens nor how a connection is kept.
"""

from __future__ import annotations

import time
from itertools import takewhile
from typing import Final, final

import trio

from .._core.relay import Node
from ._commands import PAGE_BYTES, RedisStream
from ._history import ORIGIN, StreamHistory, order
from ._outbox import MAX_BYTES, Outbox
from ._replies import Entry, Page
from ._session import Session

#: Events that are read at once, at most.
_MAX_PAGE: Final = 100

#: Bytes of an entry that costs less to return than to look for by a script.
_LIGHT: Final = 2048

#: Seconds in which clients may take as much before more comes; who stalls is pruned then.
_PACE: Final = 0.1


@final
class StreamReader:
    """Reads a stream to its end, and on as it grows."""

    def __init__(
        self, stream: RedisStream, node: Node, history: StreamHistory, outbox: Outbox
    ) -> None:
        self._stream = stream
        self._node = node
        self._history = history
        self._outbox = outbox
        # Half of a buffer, so that a client which is behind by a page can still take one.
        self._page_size = max(1, min(_MAX_PAGE, node.buffer_size // 2))
        #: How many events the next page may have.
        self._count = 1
        #: Bytes of the entry after which it reads on; none are known to be light.
        self._size = MAX_BYTES
        #: Events that have come since the clients were waited for.
        self._unpaced = 0
        #: The id after which it reads on; `None` until that is known.
        self._last_id: str | None = None
        #: An id after which it goes on though Redis does not know it, as the clients were told.
        self._doubted: str | None = None
        #: Set when something more has come; then there is another one.
        self.moved = trio.Event()
        #: Set once it is known where the stream ends.
        self.started = trio.Event()
        #: Set once there is a connection that reads.
        self.reading = trio.Event()
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
            await self._fill_history(session, self._last_id)
        elif not await self._stream.newest(session, [self._last_id]):
            await self._begin_again(session)
        self.started.set()

    async def read(self, session: Session) -> None:
        """Read by one session, for as long as it lasts."""
        try:
            await self.find_start(session)
            self.reads = True
            self.reading.set()
            while True:
                await self._read_page(session, self.head)
        finally:
            self.reads = False

    async def _fill_history(self, session: Session, end: str) -> None:
        """Remember what is in the stream up to here, as a process would that was here before."""
        cursor = await self._stream.start_of_last(session, self._history.size)
        self._history.restart(cursor or end)
        while cursor and order(cursor) < order(end):
            page = await self._stream.page(session, cursor, self._history.size)
            if not (page.anchored and page.entries):
                self._history.restart(end)
                return
            known = takewhile(lambda entry: order(entry.id) <= order(end), page.entries)
            for entry in known:
                if entry.event is not None:
                    self._history.append(entry.event, entry.topic)
            cursor = page.entries[-1].id

    async def _read_page(self, session: Session, last_id: str) -> None:
        sent = self._outbox.newest_sent
        is_light = self._size <= _LIGHT
        page = await self._stream.read(session, last_id, self._count, is_light=is_light)
        if not page.entries:
            self._unpaced = 0
            self._outbox.take_back(sent)  # It would have come.
            await self._look_back(session, last_id)
            return
        if not page.anchored and last_id != self._doubted:
            self._tell_gap(last_id, covered=False)
        for entry in page.entries:
            self._take(entry)
        self._tell_moved()
        self._fit(page)
        self._unpaced += len(page.entries)
        if self._unpaced >= self._page_size:
            self._unpaced = 0
            with trio.move_on_after(_PACE):
                await self._node.wait_delivered_taken()

    def _fit(self, page: Page) -> None:
        """Let the next page have no more bytes than one may, if its events are as this one's."""
        fitting = PAGE_BYTES // max(entry.size for entry in page.entries)
        more = 2 * self._count if len(page.entries) == self._count else self._count
        self._count = max(1, min(fitting, more, self._page_size))

    async def _look_back(self, session: Session, last_id: str) -> None:
        """Ask whether ids went back: nothing would ever follow the last one."""
        end = (await self._stream.extent(session)).last_id
        if end != ORIGIN and order(end) < order(last_id):
            await self._begin_again(session)

    async def _begin_again(self, session: Session) -> None:
        """Go on after what Redis and we both know, or else after what comes first."""
        common = await self._stream.newest(session, self._history.ids)
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
        self._outbox.take_back()  # What was lost will not come.
        self._node.begin_again(reason, last_id)

    def _take(self, entry: Entry) -> None:
        self._last_id, self._size = entry.id, entry.size
        self.received += 1
        self.lag = time.time() - order(entry.id)[0] / 1000
        if entry.event is not None:
            self._node.deliver(entry.event, entry.topic)
        else:
            self.refused += 1

    def _tell_moved(self) -> None:
        self._outbox.take_back(self.head)
        self.moved.set()
        self.moved = trio.Event()

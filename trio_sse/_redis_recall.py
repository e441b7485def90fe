"""What a client has missed that is no more in this process's history, but is in the stream.

It is read page by page, up to where the history takes over and never past that, a few clients at a
time; who asks for the same is given the same bytes. A client's last event ID is whatever somebody
has sent: it is known to be an id before Redis hears of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

import attrs
import trio

from ._redis_session import Server, SessionLostError
from ._redis_stream import Entry, Stream
from ._redis_tail import Tail
from ._relay import Recalled
from ._ring import Block
from ._stream_history import ORIGIN, StreamHistory, order, parse_id

#: Events that are read at once.
_PAGE: Final = 250

#: Clients that read at the same time, each by a connection of its own.
_AT_ONCE: Final = 2

#: Seconds until Redis is asked again after that went wrong.
_PAUSE: Final = 0.2

#: Pieces that are kept for whoever else asks, while somebody does.
_MAX_PIECES: Final = 256


@final
@attrs.frozen
class _Piece:
    """Some events after an id."""

    last_id: str
    block: Block


@final
class Recall:
    """Looks up the past of clients that come back."""

    def __init__(self, server: Server, stream: Stream, history: StreamHistory, tail: Tail) -> None:
        self._server = server
        self._stream = stream
        self._history = history
        self._tail = tail
        self._limiter = trio.CapacityLimiter(_AT_ONCE)
        self._pieces: dict[str, _Piece] = {}
        self.waiting = 0

    async def look_up(self, last_event_id: str | None, topics: frozenset[str]) -> Recalled | None:
        """Return what a client has missed; `None` if Redis cannot be asked for too long."""
        self.waiting += 1
        try:
            with trio.move_on_after(self._server.timeout):
                await self._tail.started.wait()
                if last_event_id is None or parse_id(last_event_id) is None:
                    return Recalled(last_event_id)
                return await self._collect(last_event_id, topics)
            return None
        finally:
            self.waiting -= 1
            if not self.waiting:
                self._pieces.clear()

    async def _collect(self, last_event_id: str, topics: frozenset[str]) -> Recalled:
        blocks: list[bytes] = []
        cursor = last_event_id
        while not self._history.covers(cursor):
            moved = self._tail.moved
            piece = self._pieces.get(cursor) or await self._fetch(cursor)
            if piece is None:
                return Recalled(last_event_id)
            blocks += piece.block.wire(topics)
            if piece.last_id == cursor:  # It is ahead of what has come here.
                await moved.wait()
            cursor = piece.last_id
        return Recalled(cursor, blocks)

    async def _fetch(self, cursor: str) -> _Piece | None:
        """Ask Redis, as often as it takes; `None` if it does not know what follows."""
        async with self._limiter:
            while cursor not in self._pieces:
                try:
                    async with self._server.open_session() as session:
                        page = await self._stream.page(session, cursor, _PAGE)
                except SessionLostError as error:
                    self._server.note(error)
                    await trio.sleep(_PAUSE)
                    continue
                if not page.anchored or (cursor == ORIGIN and self._tail.gaps):
                    return None
                return self._keep(cursor, self._known_here(page.entries))
            return self._pieces[cursor]

    def _known_here(self, entries: Sequence[Entry]) -> list[Entry]:
        """Return what comes before the history of this process, and the first that is in it."""
        known: list[Entry] = []
        end = order(self._history.last_id)
        for entry in entries:
            if order(entry.id) > end:
                break
            known.append(entry)
            if self._history.covers(entry.id):
                break
        return known

    def _keep(self, cursor: str, entries: list[Entry]) -> _Piece:
        block = Block([(entry.event, entry.topic) for entry in entries if entry.event is not None])
        piece = _Piece(entries[-1].id if entries else cursor, block)
        if entries and len(self._pieces) < _MAX_PIECES:
            self._pieces[cursor] = piece
        return piece

"""What a client has missed that is no more in this process's history, but is in the stream.

One task reads it for all who ask, page by page, up to where the history takes over and never past
that. Whoever asks for what was read already, from wherever in it, is not a burden to Redis; who
asks for the same is given the same bytes. A client's last event ID is whatever somebody has sent:
it is known to be an id before Redis hears of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import takewhile
from typing import Final, final

import attrs
import trio

from .._core.history import Block
from .._core.relay import Replayed
from ._commands import RedisStream
from ._history import ORIGIN, StreamHistory, order, parse_id
from ._reader import StreamReader
from ._replies import Entry
from ._session import Session, Sessions

#: Events that are read at once.
_PAGE: Final = 250

#: Events that are kept for whoever else asks, while somebody does, and their bytes.
_MAX_KEPT: Final = 20_000
_MAX_KEPT_BYTES: Final = 16 * 1024 * 1024

#: Ids after which somebody wants to know what comes; one more must come back later.
_MAX_WANTED: Final = 1_000

#: Seconds for which the connection is kept once nobody asks.
_IDLE: Final = 2.0


@final
@attrs.frozen
class _Piece:
    """Some events after an id: what is known of them so far."""

    last_id: str
    block: Block


@final
@attrs.define(eq=False)
class _Request:
    """What follows an id: `None` if Redis does not know."""

    done: trio.Event = attrs.field(factory=trio.Event)
    piece: _Piece | None = None


@final
class Replayer:
    """Looks up the past of clients that come back."""

    def __init__(
        self, sessions: Sessions, stream: RedisStream, history: StreamHistory, reader: StreamReader
    ) -> None:
        self._sessions = sessions
        self._stream = stream
        self._history = history
        self._reader = reader
        self._wanted: dict[str, _Request] = {}
        self._asked = trio.lowlevel.ParkingLot()
        #: Where each id is in a page that was read: what follows it begins there.
        self._places: dict[str, tuple[list[Entry], int]] = {}
        self._pieces: dict[str, _Piece] = {}
        self._kept_bytes = 0
        #: Whoever waits does so for as long as bytes come.
        self._patience: set[trio.CancelScope] = set()

    @property
    def waiting(self) -> int:
        """How many clients wait for their past."""
        return len(self._patience)

    async def look_up(self, last_event_id: str | None, topics: frozenset[str]) -> Replayed | None:
        """Return what a client has missed; `None` if Redis says nothing for too long."""
        with trio.move_on_after(self._sessions.timeout) as patience:
            self._patience.add(patience)
            try:
                await self._reader.started.wait()
                if last_event_id is None or parse_id(last_event_id) is None:
                    return Replayed(last_event_id)
                return await self._collect(last_event_id, topics)
            finally:
                self._patience.discard(patience)
                if not self._patience:
                    self._wanted.clear()
                    self._forget()
        return None

    async def run(self) -> None:
        """Read what clients ask for, by a connection that is there while they do."""
        while True:
            while not self._wanted:
                await self._asked.park()
            await self._sessions.keep_session(self._serve)

    async def _collect(self, last_event_id: str, topics: frozenset[str]) -> Replayed | None:
        blocks: list[bytes] = []
        cursor = last_event_id
        while not self._history.covers(cursor):
            if len(self._wanted) >= _MAX_WANTED:
                return None
            moved = self._reader.moved
            piece = self._find(cursor) or await self._ask(cursor)
            if piece is None:
                return Replayed(last_event_id)
            blocks += piece.block.wire(topics)
            if piece.last_id == cursor:  # It is ahead of what has come here.
                await moved.wait()
            cursor = piece.last_id
        return Replayed(cursor, blocks)

    def _find(self, cursor: str) -> _Piece | None:
        if cursor not in self._pieces and cursor in self._places:
            entries, start = self._places[cursor]
            self._pieces[cursor] = self._piece(entries[-1].id, entries[start:])
        return self._pieces.get(cursor)

    async def _ask(self, cursor: str) -> _Piece | None:
        request = self._wanted.setdefault(cursor, _Request())
        self._asked.unpark_all()
        await request.done.wait()
        return request.piece

    async def _serve(self, session: Session) -> None:
        """Answer all requests, until there was none for a while."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._prolong, session)
            await self._read_pages(session)
            nursery.cancel_scope.cancel("nobody asks any more")

    async def _prolong(self, session: Session) -> None:
        """Let whoever waits do so for as long as bytes come."""
        while True:
            before = session.bytes_read
            await trio.sleep(self._sessions.timeout / 4)
            if session.bytes_read > before:
                for patience in self._patience:
                    patience.deadline = trio.current_time() + self._sessions.timeout

    async def _read_pages(self, session: Session) -> None:
        while True:
            with trio.move_on_after(_IDLE):
                while not self._wanted:
                    await self._asked.park()
            if not self._wanted:
                return
            # In the order of arrival: nobody's id costs another's turn.
            cursor, request = next(iter(self._wanted.items()))
            request.piece = self._find(cursor) or await self._read(session, cursor)
            request.done.set()
            if self._wanted.get(cursor) is request:  # Else nobody waits any more for this one.
                del self._wanted[cursor]

    async def _read(self, session: Session, cursor: str) -> _Piece | None:
        page = await self._stream.page(session, cursor, _PAGE)
        # Nothing precedes the origin that could be lost, unless there was another stream.
        if not page.anchored or (cursor == ORIGIN and self._reader.gaps):
            return None
        return self._keep(cursor, page.entries)

    def _keep(self, cursor: str, entries: Iterable[Entry]) -> _Piece:
        """Keep what comes before the history of this process, and the first that is in it."""
        end = order(self._history.last_id)
        known = [*takewhile(lambda entry: order(entry.id) <= end, entries)]
        covered = (n for n, entry in enumerate(known, 1) if self._history.covers(entry.id))
        known = known[: next(covered, len(known))]
        if not known:
            return self._piece(cursor, known)
        if len(self._places) > _MAX_KEPT or self._kept_bytes > _MAX_KEPT_BYTES:
            self._forget()
        for start, event_id in enumerate([cursor, *(entry.id for entry in known[:-1])]):
            self._places.setdefault(event_id, (known, start))
        return self._piece(known[-1].id, known)

    def _piece(self, last_id: str, entries: Iterable[Entry]) -> _Piece:
        events = [(entry.event, entry.topic) for entry in entries if entry.event is not None]
        self._kept_bytes += sum(len(event.data or "") for event, _ in events)
        return _Piece(last_id, Block(events))

    def _forget(self) -> None:
        self._places.clear()
        self._pieces.clear()
        self._kept_bytes = 0

"""What goes into the stream: the task that sends what is in the outbox, batch by batch.

It knows whether anything can be written, and sees to it that nobody on the way forgets the
connection while there is nothing to send. It knows neither commands of Redis nor clients.
"""

from __future__ import annotations

from typing import Final, final

import trio

from ._commands import RedisStream
from ._outbox import Outbox, PendingEvent
from ._reader import StreamReader
from ._refusals import IdleSessionLostError, SessionLostError
from ._session import Session

#: Seconds after which an idle connection is used, so that it is not taken for dead.
_WARM: Final = 10.0


@final
class Publisher:
    """Sends what is in the outbox."""

    def __init__(self, stream: RedisStream, outbox: Outbox, reader: StreamReader) -> None:
        self._stream = stream
        self._outbox = outbox
        self._reader = reader
        self.published = 0
        #: Whether there is a connection by which something was written.
        self._writes = False
        #: Set once it is known whether anything can be written.
        self.tried = trio.Event()

    @property
    def works(self) -> bool:
        """Whether what is in the outbox goes out."""
        return self._writes and self._outbox.attempts < 2

    async def send(self, session: Session) -> None:
        """Send what is in the outbox by one session, until it is closed and empty."""
        try:
            await self._stream.touch(session)
            self._writes = True
            self.tried.set()
            while events := await self._next_batch(session):
                await self._send_batch(session, events)
        finally:
            self._writes = False
            self.tried.set()

    async def _send_batch(self, session: Session, events: list[PendingEvent]) -> None:
        number, attempts = self._outbox.batch_number, self._outbox.attempts
        self._outbox.acknowledge(await self._stream.append(session, number, events, attempts))
        self._outbox.take_back(self._reader.head)  # They may have been faster.
        self.published += len(events)

    async def _next_batch(self, session: Session) -> list[PendingEvent]:
        """Wait for what is to be sent; meanwhile let nobody on the way forget the connection."""
        while True:
            with trio.move_on_after(_WARM):
                events = await self._outbox.batch()
                if events and not session.is_usable:
                    raise IdleSessionLostError("the connection was closed while it was idle")
                return events
            try:
                await self._stream.touch(session)
            except SessionLostError as error:
                raise IdleSessionLostError(str(error)) from error

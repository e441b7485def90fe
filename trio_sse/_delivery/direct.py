"""The direct way from a client's channel to its socket: one task writes for all.

A server that offers it (`trio_sse.hypercorn.serve` does) hands each request a door: a way to put
chunks of the response body on the connection without waiting. One writer, in the server's nursery,
moves what is queued for its clients through their doors. A client that has been written all it had
shares a queue with others (`_audience`); one whose socket is full goes on in its own task until it
is not. It knows Trio and the doors' few verbs; it knows neither hypercorn nor sockets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, final

import trio

from .._core.client import Client
from .._core.heartbeat import Silence
from .chunks import Chunks
from .shared_queue import Audience
from .writer import Writer

#: The ASGI extension under which a server offers a door.
EXTENSION: Final = "trio_sse.direct"

#: An empty line, which changes nothing for a client: sent first, it shows whether the door opens.
PROBE: Final = b"\n"

#: Seconds within which the first chunk must be seen on the wire, for the door to open.
_PROOF_TIMEOUT: Final = 1.0


class Door(Protocol):
    """A request's way past its server, open once nobody is known to rewrite the body."""

    @property
    def writer(self) -> Writer:
        """Who writes for all connections of this server."""
        ...

    def expect(self, first: bytes) -> trio.Event:
        """Announce the body of the next ASGI `send`; return what is set when the door opens.

        That is when those bytes went out exactly as they were given.
        """
        ...

    def send_nowait(self, chunk: bytes) -> None:
        """Put a chunk of the body on the connection.

        Raises:
            trio.WouldBlock: If the socket is full: the chunk was taken; flush before more.
            trio.BrokenResourceError: If the connection is gone.
            trio.ClosedResourceError: If the door was shut, since other bytes have passed.
        """
        ...

    def flush_nowait(self) -> None:
        """Write what was taken, as far as the socket takes it.

        Raises:
            trio.WouldBlock: If something is left.
            trio.BrokenResourceError: If the connection is gone.
        """
        ...

    async def flush(self) -> None:
        """Wait until all that was taken is written.

        Raises:
            trio.BrokenResourceError: If the connection is gone, or aborted after its write timeout.
        """
        ...

    def abort(self) -> None:
        """Close the connection with a reset."""
        ...


@final
class DirectStream:
    """One client that is written to directly; its broadcaster wakes it as a `Waker`.

    What cannot be done without waiting is left to the client's own task: `on_attention` is called,
    and the task calls `attend`.
    """

    __slots__ = (
        "_attending",
        "_audience",
        "_chunks",
        "_client",
        "_detached",
        "_door",
        "_ended",
        "_error",
        "_full",
        "_on_attention",
        "_queued",
        "_silence",
    )

    def __init__(
        self,
        client: Client,
        chunks: Chunks,
        door: Door,
        silence: Silence,
        on_attention: Callable[[], None],
    ) -> None:
        self._client = client
        self._door = door
        self._silence = silence
        self._on_attention = on_attention
        self._chunks = chunks
        self._audience: Audience | None = None
        self._error: Exception | None = None
        self._queued = chunks.queued
        self._full = False
        self._ended = client.ended
        self._attending = False
        self._detached = False
        client.waker = self
        self._take_turn()

    def detach(self) -> None:
        """Write no more. At once, since another request may own the connection soon."""
        self.reclaim()
        self._client.waker = None
        self._detached = True

    def notify(self) -> None:
        """Have one more event written when it is this stream's turn."""
        self._queued += 1
        if self._queued == 1:
            self._take_turn()

    def reclaim(self) -> None:
        """Leave the audience; what waits there is in the client's channel then."""
        if (audience := self._audience) is not None:
            self._audience = None
            self._silence.written_at = max(self._silence.written_at, audience.written_at)
            self._client.registry.enlist(self._client)
            for event in audience.leave(self):
                self._client.offer(event)

    def end(self) -> None:
        """Come to the end once all that is queued is written."""
        self._ended = True
        self._take_turn()

    def relieve(self) -> bool:
        """Move what is queued to the socket now; tell whether the channel has room again."""
        if self._full:
            try:
                self._door.flush_nowait()
            except (trio.WouldBlock, trio.BrokenResourceError):
                return False
            self._full = False
        while self._queued and not self._full and self._error is None:
            self._move()
        return self._error is None and self._client.has_room

    def deliver(self, room: int) -> int:
        """Take a turn: one chunk, so that nobody's long past keeps the others waiting."""
        if not (self._full or self._detached or self._error):
            if self._queued:
                self._move()
            self._go_on()
        return 1

    def write(self, chunk: bytes) -> None:
        """Write a chunk; what cannot go on leaves its audience, and needs its task's attention."""
        try:
            self._door.send_nowait(chunk)
        except trio.WouldBlock:
            self._full = True
            self._stand_aside()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._error = error
            self._stand_aside()

    def beat(self) -> float:
        """Write a heartbeat if it is due and nothing is on its way; see `Silence.watch`."""
        now = trio.current_time()
        audience = self._audience
        if audience is not None and audience.written_at + self._silence.interval > now:
            return audience.written_at
        if not (self._full or self._queued or (audience is not None and audience.has_events)):
            self._silence.written_at = now
            self.write(self._client.heartbeat().encode())
        return now

    async def attend(self) -> bool:
        """Flush while the socket is full; then tell whether this is the end.

        Raises:
            trio.BrokenResourceError: If the connection is gone.
            trio.ClosedResourceError: If the door was shut.
        """
        await trio.lowlevel.checkpoint()
        while self._full:
            await self._door.flush()
            self._full = False
            self._silence.written_at = trio.current_time()
            self.deliver(1)
        self._attending = False
        if self._error is not None:
            raise self._error
        return self._ended and not self._queued

    def _move(self) -> None:
        chunk, count = self._chunks.take_nowait(self._queued)
        self._queued -= count
        self._silence.written_at = trio.current_time()
        self.write(chunk)

    def _go_on(self) -> None:
        """After a turn: wait for the next, come to the end, or follow."""
        if self._full or self._error:
            return
        if self._queued:
            self._take_turn()
        elif self._ended:
            self._call_for_attention()
        elif self._audience is None:
            self._audience = self._door.writer.audience(self._client)
            self._audience.join(self)
            self._client.registry.dismiss(self._client)

    def _stand_aside(self) -> None:
        self.reclaim()
        self._call_for_attention()

    def _take_turn(self) -> None:
        self._door.writer.add(self)

    def _call_for_attention(self) -> None:
        if not self._attending:
            self._attending = True
            self._on_attention()


async def prove(opened: trio.Event) -> bool:
    """Wait for a door to open; if it has not soon, something stands between us and the wire."""
    with trio.move_on_after(_PROOF_TIMEOUT):
        await opened.wait()
    return opened.is_set()

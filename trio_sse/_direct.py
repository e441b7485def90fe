"""The direct way from a client's channel to its socket: one task writes for all.

A server that offers it (`trio_sse.hypercorn.serve` does) hands each request a door: a way to put
chunks of the response body on the connection without waiting. One writer, in the server's nursery,
moves what is queued for its clients through their doors; a client whose socket is full goes on in
its own task until it is not. It knows Trio and the doors' few verbs; it knows neither hypercorn nor
sockets.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol, final

import trio

from ._chunks import Chunks
from ._heartbeat import HEARTBEAT, Silence
from ._subscription import Client

#: How many clients are written to before other tasks get their turn: some two milliseconds.
_TURN: Final = 128

#: The ASGI extension under which a server offers a door.
EXTENSION: Final = "trio_sse.direct"

#: An empty line, which changes nothing for a client: sent first, it shows whether the door opens.
PROBE: Final = b"\n"

#: Seconds within which the first chunk must be seen on the wire, for the door to open.
_PROOF_TIMEOUT: Final = 1.0


class Door(Protocol):
    """A request's way past its server, open once nobody is known to rewrite the body."""

    @property
    def opened(self) -> trio.Event:
        """Set when the announced bytes went out exactly as they were given to ASGI's `send`."""
        ...

    @property
    def writer(self) -> Writer:
        """Who writes for all connections of this server."""
        ...

    def expect(self, first: bytes) -> None:
        """Announce the body of the next ASGI `send`."""
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
class Writer:
    """Writes for all clients of one server that have something queued."""

    def __init__(self) -> None:
        #: The time of the current turn, which all who are written to in it share.
        self.now = -math.inf
        self._waiting: deque[DirectStream] = deque()
        self._idle = trio.lowlevel.ParkingLot()

    def add(self, stream: DirectStream) -> None:
        """Let a stream have its turn."""
        if not self._waiting:
            self._idle.unpark()
        self._waiting.append(stream)

    async def run(self) -> None:
        """Write, until cancelled."""
        while True:
            await trio.lowlevel.checkpoint()
            if not self._waiting:
                await self._idle.park()
            self.now = trio.current_time()
            for _ in range(min(len(self._waiting), _TURN)):
                self._waiting.popleft().deliver()


@final
class DirectStream:
    """One client that is written to directly; its broadcaster wakes it as a `Waker`.

    What cannot be done without waiting is left to the client's own task: `on_attention` is called,
    and the task calls `attend`.
    """

    __slots__ = (
        "_attending",
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
        "_writer",
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
        self._writer = door.writer
        self._silence = silence
        self._on_attention = on_attention
        self._chunks = chunks
        self._error: Exception | None = None
        self._queued = chunks.queued
        self._full = False
        self._ended = client.ended
        self._attending = False
        self._detached = False
        client.waker = self
        self._writer.add(self)

    def detach(self) -> None:
        """Write no more. At once, since another request may own the connection soon."""
        self._client.waker = None
        self._detached = True

    def notify(self) -> None:
        """Have one more event written when it is this stream's turn."""
        self._queued += 1
        if self._queued == 1:
            self._writer.add(self)

    def end(self) -> None:
        """Come to the end once all that is queued is written."""
        self._ended = True
        self._writer.add(self)

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

    def deliver(self) -> None:
        """Take a turn: one chunk, so that nobody's long past keeps the others waiting."""
        if self._full or self._detached or self._error is not None:
            return
        if self._queued:
            self._move()
            self._silence.written_at = self._writer.now
        if self._queued:
            self._writer.add(self)
        elif self._ended:
            self._call_for_attention()

    def beat(self) -> None:
        """Write a heartbeat, unless something is on its way."""
        if not (self._full or self._queued):
            self._write(HEARTBEAT.encode())

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
            self.deliver()
        self._attending = False
        if self._error is not None:
            raise self._error
        return self._ended and not self._queued

    def _move(self) -> None:
        chunk, count = self._chunks.take_nowait(self._queued)
        self._queued -= count
        self._write(chunk)

    def _write(self, chunk: bytes) -> None:
        try:
            self._door.send_nowait(chunk)
        except trio.WouldBlock:
            self._full = True
            self._call_for_attention()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._error = error
            self._call_for_attention()

    def _call_for_attention(self) -> None:
        if not self._attending:
            self._attending = True
            self._on_attention()


async def prove(door: Door) -> bool:
    """Wait for the door to open; if it has not soon, something stands between us and the wire."""
    with trio.move_on_after(_PROOF_TIMEOUT):
        await door.opened.wait()
    return door.opened.is_set()

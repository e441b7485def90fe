"""The direct way from a client's queue to its socket: one task writes for all.

A server that offers it (`trio_sse.hypercorn.serve` does) hands each request a `Bypass`: a way to
put chunks of the response body on the connection without waiting. One writer, in the server's
nursery, moves what is queued for its clients through it. A client that has been written all it had
shares a queue with others (`shared_queue`); one whose socket is full goes on in its own task until
it is not. It knows Trio and the verbs of a bypass; it knows neither hypercorn nor sockets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

import trio
from trio.lowlevel import enable_ki_protection

from .._core.client import Client
from .bypass import Bypass
from .chunks import Chunks
from .heartbeat import HeartbeatTimer
from .shared_queue import SharedQueue

#: An empty line, which changes nothing for a client: sent first, it shows whether nobody rewrites.
PROBE: Final = b"\n"


@final
class DirectStream:
    """One client that is written to directly; its broadcaster wakes it as a `Waker`.

    What cannot be done without waiting is left to the client's own task: `on_attention` is called
    with this, and the task calls `attend`.
    """

    __slots__ = (
        "_attending",
        "_changes",
        "_chunks",
        "_client",
        "_detached",
        "_ended",
        "_error",
        "_full",
        "_on_attention",
        "_queue",
        "_queued",
        "_timer",
        "bypass",
    )

    @enable_ki_protection
    def __init__(
        self,
        client: Client,
        chunks: Chunks,
        bypass: Bypass,
        timer: HeartbeatTimer,
        on_attention: Callable[[DirectStream], object],
    ) -> None:
        self._client = client
        self._changes = client.registry.changes
        self.bypass = bypass
        self._timer = timer
        self._on_attention = on_attention
        self._chunks = chunks
        self._queue: SharedQueue | None = None
        self._error: Exception | None = None
        self._full = self._attending = self._detached = False
        with self._changes:
            self._queued = chunks.queued
            self._ended = client.ended
            client.waker = self
            bypass.on_revoke = self._leave_queue
            self._take_turn()

    @enable_ki_protection
    def detach(self) -> None:
        """Write no more. At once, since another request may own the connection soon."""
        with self._changes:
            self.reclaim()
            self._client.waker = None
            self.bypass.on_revoke = None
            self._detached = True

    def notify(self) -> None:
        """Have one more event written when it is this stream's turn."""
        self._queued += 1
        if self._queued == 1:
            self._take_turn()

    def reclaim(self) -> None:
        """Leave the queue; what waits there is in the client's channel then."""
        if (queue := self._queue) is not None:
            self._queue = None
            self._timer.written_at = max(self._timer.written_at, queue.written_at)
            self._client.registry.enlist(self._client)
            for event in queue.leave(self):
                self._client.offer(event)

    def end(self) -> None:
        """Come to the end once all that is queued is written."""
        self._ended = True
        self._take_turn()

    def relieve(self) -> bool:
        """Move what is queued to the socket now; tell whether the channel has room again."""
        try:
            if self._full:
                self.bypass.flush_nowait()
                self._full = False
            while self._queued and not self._full and self._error is None:
                self._move()
        except (trio.WouldBlock, trio.BrokenResourceError):
            return False
        except Exception as error:  # It is not the publisher's.
            self.fail(error)
        return self._error is None and self._client.has_room

    def deliver(self, room: int) -> int:
        """Take a turn: one chunk, so that nobody's long replay keeps the others waiting."""
        if not (self._full or self._detached or self._error):
            if self._queued:
                self._move()
            self._go_on()
        return 1

    def write(self, chunk: bytes) -> None:
        """Write a chunk; what cannot go on leaves its queue, and needs its task's attention."""
        self._attempt(self.bypass.send_nowait, chunk)

    def write_rest(self, coded: bytes) -> None:
        """Write what a round of the shared queue could not, and which is counted already."""
        self._attempt(self.bypass.put, coded)

    def _attempt(self, write: Callable[[bytes], None], data: bytes) -> None:
        try:
            write(data)
        except trio.WouldBlock:
            self._full = True
            self._stand_aside()
        except Exception as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """Write no more; the stream's own task raises the error."""
        self._error = error
        self._stand_aside()

    @enable_ki_protection
    def beat(self) -> float:
        """Write a heartbeat if it is due and nothing is on its way; see `HeartbeatTimer.watch`."""
        now = trio.current_time()
        with self._changes:
            queue = self._queue
            if queue is not None and queue.written_at + self._timer.interval > now:
                return queue.written_at
            if not (self._full or self._queued or (queue is not None and queue.has_events)):
                self._timer.written_at = now
                self.write(self._client.heartbeat().encode())
        return now

    async def attend(self) -> bool:
        """Flush while the socket is full; then tell whether this is the end.

        Raises:
            trio.BrokenResourceError: If the connection is gone.
            trio.ClosedResourceError: If the bypass was revoked.
            Exception: Whatever else went wrong in this stream's turn.
        """
        await trio.lowlevel.checkpoint()
        while self._full:
            await self.bypass.flush()
            self._timer.written_at = trio.current_time()
            self._go_on_writing()
        self._attending = False
        if self._error is not None:
            raise self._error
        return self._ended and not self._queued

    @enable_ki_protection
    def _go_on_writing(self) -> None:
        with self._changes:
            self._full = False
            self.deliver(1)

    def _move(self) -> None:
        chunk, count = self._chunks.take_nowait(self._queued)
        self._queued -= count
        self._timer.written_at = trio.current_time()
        self.write(chunk)

    def _go_on(self) -> None:
        """After a turn: wait for the next, come to the end, or share the queue of others."""
        if self._full or self._error:
            return
        if self._queued:
            self._take_turn()
        elif self._ended:
            self._call_for_attention()
        elif self._queue is None and self.bypass.is_open:
            self._queue = self.bypass.writer.queue_of(self._client, self.bypass.coding)
            self._queue.join(self)
            self._client.registry.dismiss(self._client)

    @enable_ki_protection
    def _leave_queue(self) -> None:
        """Since other bytes pass, which the next event is not to be mixed with."""
        with self._changes:
            self.reclaim()

    def _stand_aside(self) -> None:
        self.reclaim()
        self._call_for_attention()

    def _take_turn(self) -> None:
        self.bypass.writer.add(self)

    def _call_for_attention(self) -> None:
        if not self._attending:
            self._attending = True
            self._on_attention(self)

"""The direct way from a client's queue to its socket: one task writes for all.

One writer, in the server's nursery, moves what is queued for its clients through the `Bypass` that
a server hands to each request. It knows Trio and the verbs of a bypass; it knows neither servers
nor sockets.

Where a stream is, and what moves it on, is told by the table in `direct_state`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast, final

import trio
from trio.lowlevel import enable_ki_protection

from .._core.client import Client
from .bypass import Bypass
from .chunks import Chunks
from .direct_state import ATTENDED, NEXT, State, Step
from .heartbeat import HeartbeatTimer
from .shared_queue import SharedQueue

#: An empty line, which changes nothing for a client: sent first, it shows whether nobody rewrites.
PROBE: Final = b"\n"


def announce(bypass: Bypass, chunks: Chunks) -> bytes:
    """Return what is to go out first, by ASGI: if it comes by as it is, the bypass opens."""
    first = chunks.first() or PROBE
    bypass.await_echo(first)
    return first


@final
class DirectStream:
    """One client that is written to directly; its broadcaster wakes it as a `Waker`.

    What cannot be done without waiting is left to the client's own task: `on_attention` is called
    with this, and the task calls `attend`.
    """

    __slots__ = (
        "_changes",
        "_chunks",
        "_client",
        "_error",
        "_on_attention",
        "_queue",
        "_state",
        "_timer",
        "bypass",
        "is_cut",
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
        #: What it shares, as long as it is `SHARING`.
        self._queue: SharedQueue | None = None
        self._error: Exception | None = None
        #: Whether it has ended before all was written: there must be no clean end then.
        self.is_cut = False
        self._state = State.IDLE
        with self._changes:
            client.waker = bypass.user = self
            self._step(Step.QUEUED)

    @enable_ki_protection
    def detach(self) -> None:
        """Write no more. At once, since another request may own the connection soon."""
        with self._changes:
            self._step(Step.DETACHED)
            self._client.waker = self.bypass.user = None

    # What its broadcaster says.

    def notify(self) -> None:
        """Have one more event written when it is this stream's turn."""
        self._step(Step.QUEUED)

    def reclaim(self) -> None:
        """Leave the queue; what waits there is in the client's channel then."""
        self._step(Step.RECLAIMED)

    def end(self) -> None:
        """Come to the end once all that is queued is written."""
        self._step(Step.QUEUED)

    def relieve(self) -> bool:
        """Move what is queued to the socket now; tell whether the channel has room again.

        A socket that was full may take it. The stream stays `FULL` all the same, as its own task is
        about to notice.
        """
        try:
            if self._state is State.FULL:
                self.bypass.flush_nowait()
            while self._chunks.queued and self._move():
                pass
        except (trio.WouldBlock, trio.BrokenResourceError):
            return False
        except Exception as error:  # It is not the publisher's.
            self.fail(error)
        return self._state is not State.FAILED and self._client.has_room

    # What the writer, the shared queue and the bypass say.

    def deliver(self, room: int) -> int:
        """Take a turn: one chunk, so that nobody's long replay keeps the others waiting."""
        if self._state is State.DUE and (not self._chunks.queued or self._move()):
            self._go_on()
        return 1

    def write_rest(self, coded: bytes) -> None:
        """Write what a round of the shared queue could not, and which is counted already."""
        self._attempt(self.bypass.put, coded)

    @enable_ki_protection
    def look(self) -> None:
        """See `BypassUser.look`."""
        with self._changes:
            self._attempt(self.bypass.flush_nowait)

    @enable_ki_protection
    def leave(self) -> None:
        """See `BypassUser.leave`."""
        with self._changes:
            self.reclaim()

    def fail(self, error: Exception) -> None:
        """Write no more; the stream's own task raises the error."""
        self._error = self._error or error
        self._step(Step.FAILED)

    # What its own task does.

    @enable_ki_protection
    def beat(self) -> float:
        """Write a heartbeat if it is due and nothing is on its way; see `HeartbeatTimer.watch`."""
        now = trio.current_time()
        with self._changes:
            queue = self._queue
            if queue is not None and queue.written_at + self._timer.interval > now:
                return queue.written_at
            has_events = queue is not None and queue.has_events
            if self._state in {State.IDLE, State.SHARING} and not has_events:
                self._write(self._client.heartbeat().encode())
        return now

    async def attend(self) -> bool:
        """Flush if the socket is full; then tell whether the stream goes on.

        It does not once all is written, or what was cut: then it is detached, and the response
        aborted.

        Raises:
            Exception: What cut it, unless that is the client's leaving, or bytes of others.
        """
        try:
            await self._flush()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._cut()
        except Exception:
            self._cut()
            raise
        else:
            return self._state is not State.OVER
        return False

    async def _flush(self) -> None:
        await trio.lowlevel.checkpoint()
        if self._state is State.FULL:
            await self.bypass.flush()
            self._timer.written_at = trio.current_time()
            self._note_flushed()
        if self._error is not None:
            raise self._error

    def _cut(self) -> None:
        self.is_cut = True
        self.detach()
        self.bypass.abort()

    @enable_ki_protection
    def _note_flushed(self) -> None:
        with self._changes:
            self._step(Step.FLUSHED)

    # How it is done.

    def _move(self) -> bool:
        """Write one chunk of what is queued; tell whether the socket has taken all."""
        chunk, _ = self._chunks.take_nowait(self._chunks.queued)
        return self._write(chunk)

    def _write(self, chunk: bytes) -> bool:
        self._timer.written_at = trio.current_time()
        return self._attempt(self.bypass.send_nowait, chunk)

    def _attempt(self, write: Callable[..., object], *data: bytes) -> bool:
        try:
            write(*data)
        except trio.WouldBlock:
            self._step(Step.FILLED)
        except Exception as error:
            self.fail(error)
        else:
            return True
        return False

    def _go_on(self) -> None:
        """After a turn: wait for the next, come to the end, or share the queue of others."""
        if self._chunks.queued:
            self.bypass.writer.add(self)
        elif self._client.ended:
            self._step(Step.FINISHED)
        elif self.bypass.is_open:
            self._step(Step.SHARED)
        else:
            self._step(Step.EMPTIED)

    def _step(self, step: Step) -> None:
        before = self._state
        self._state = state = NEXT[step].get(before, before)
        if state is before:
            return
        if before is State.SHARING:
            self._leave_queue()
        if state is State.SHARING:
            self._join_queue()
        elif state is State.DUE:
            self.bypass.writer.add(self)
        elif state in ATTENDED and before not in ATTENDED:
            self._on_attention(self)

    def _join_queue(self) -> None:
        self._queue = self.bypass.writer.queue_of(self._client, self.bypass.coding)
        self._queue.join(self)
        self._client.registry.dismiss(self._client)

    def _leave_queue(self) -> None:
        queue, self._queue = cast("SharedQueue", self._queue), None
        self._timer.written_at = max(self._timer.written_at, queue.written_at)
        self._client.registry.enlist(self._client)
        for event in queue.leave(self):
            self._client.offer(event)

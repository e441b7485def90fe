"""One client: a bounded memory channel, whose it is, and what it was told.

It has both ends of the channel, and is the only module that touches them. What moves the events on,
and the response that carries them, it knows only by the roles that are described here: a `Waker`
moves what is queued past the client's own task, a `Response` is what a browser gets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from .event import HEARTBEAT, ServerSentEvent, after_heartbeat, position_event
from .options import StreamOptions

if TYPE_CHECKING:
    from .registry import Registry


class Recipient(Protocol):
    """One to whom a hub sends: a client, or a queue that several clients share."""

    @property
    def topics(self) -> frozenset[str]:
        """What it gets, besides the events without a topic."""
        ...

    def offer(self, event: ServerSentEvent) -> Client | None:
        """Queue an event; if there is no room for it, return the client that is behind."""
        ...


class Waker(Protocol):
    """Who moves what is queued for a client, if the client does not wait for it itself."""

    def notify(self) -> None:
        """An event was queued."""
        ...

    def reclaim(self) -> None:
        """Let all that waits for the client be in its channel, and nowhere else."""
        ...

    def end(self) -> None:
        """The channel has ended: nothing will be queued any more."""
        ...

    def relieve(self) -> bool:
        """The channel is full: move it on now if that can be, and tell whether there is room."""
        ...


class Response(Protocol):
    """What brings a client's events to its browser. None of this waits."""

    def drain(self) -> None:
        """The client was pruned: what is queued has as long as the server allows."""
        ...

    def cancel(self, reason: str) -> None:
        """Send no more of what is queued; end between two events."""
        ...


@final
class Client:
    """A bounded queue of events, and who reads it.

    Args:
        registry: Where it is to be registered.
        buffer_size: How many events may wait in its channel.
        options: What it was opened with.
        behind: How many events of others follow the last one that it knows or will be told.
    """

    __slots__ = (
        "_awaited",
        "_backlog",
        "_channel",
        "_given",
        "_send",
        "_taken",
        "_told",
        "began_at",
        "buffer_size",
        "closed",
        "ended",
        "final",
        "options",
        "pruned",
        "registry",
        "response",
        "topics",
        "waker",
    )

    def __init__(
        self,
        registry: Registry,
        buffer_size: int,
        options: StreamOptions,
        behind: int = 0,
    ) -> None:
        self._send, self._channel = trio.open_memory_channel[ServerSentEvent](buffer_size)
        self.registry = registry
        self.buffer_size = buffer_size
        self.options = options
        self.topics = options.topics
        #: The id of the last event that its reader knew before these, inside the program.
        self.began_at: str | None = None
        #: What goes before all that is in the channel, however much it is; the first is last.
        self._backlog: list[ServerSentEvent] = []
        #: How many events were ever put in here, and taken.
        self._given = self._taken = 0
        self._awaited: list[tuple[int, trio.Event]] = []
        #: How many events had been broadcast when it was last told an id, but for events' own.
        self._told = registry.position - behind
        #: Whether nothing will be queued any more, whether that is since it was full, and whether
        #: nothing can be taken any more.
        self.ended = self.pruned = self.closed = False
        #: Whether whoever reads it shall not come back.
        self.final = False
        #: Set while the client is written to directly.
        self.waker: Waker | None = None
        #: Set while a response carries its events.
        self.response: Response | None = None

    @property
    def ends_on_gap(self) -> bool:
        """Whether it must come back if events were lost: it began with a snapshot."""
        return self.options.snapshot is not None

    # What its hub does.

    def put_first(self, events: Sequence[ServerSentEvent], began_at: str | None) -> None:
        """Let these go before all others, for one who knows all until an id."""
        self._backlog = [*events][::-1]
        self._given += len(events)
        self.began_at = began_at

    def offer(self, event: ServerSentEvent) -> Client | None:
        """See `Recipient.offer`."""
        try:
            self._send.send_nowait(event)
        except trio.WouldBlock:
            if self.waker is None or not self.waker.relieve():
                return self
            self._send.send_nowait(event)
        self._given += 1
        if self.waker is not None:
            self.waker.notify()
        return None

    @enable_ki_protection
    def end(self, *, final: bool = False) -> None:
        """Get no more broadcasts: the reader gets what is queued, then the end."""
        with self.registry.changes:
            if self.waker is not None:
                self.waker.reclaim()
            self.final = self.final or final
            self._end()

    @enable_ki_protection
    def prune(self) -> None:
        """Do the same because its channel is full: the reader gets an error instead of the end."""
        with self.registry.changes:
            self.pruned = True
            self._end()
            if self.response is not None:
                self.response.drain()

    @enable_ki_protection
    def expect_taken(self) -> trio.Event:
        """Return an event that is set once all queued by now is taken, or this client has ended."""
        with self.registry.changes:
            if self.waker is not None:
                self.waker.reclaim()
            taken = trio.Event()
            self._awaited.append((self._given, taken))
            self._tell_taken()
            return taken

    def expect_no_more(self, taken: trio.Event) -> None:
        """Forget an event of `expect_taken`, for which nobody waits any more."""
        if not taken.is_set():
            self._awaited = [wait for wait in self._awaited if wait[1] is not taken]

    @property
    def has_room(self) -> bool:
        """Whether one more event could be queued."""
        return self.queued < self.buffer_size

    # What its reader does.

    async def receive(self) -> ServerSentEvent:
        """Return the next event, waiting for it; raise as the receiving end of a channel does."""
        if self._backlog:
            await trio.lowlevel.checkpoint()
        if self._backlog:  # No other task was first.
            return self.receive_nowait()
        event = await self._channel.receive()
        self._taken += 1
        if self._awaited:
            self._tell_taken()
        return event

    def receive_nowait(self) -> ServerSentEvent:
        """Return the next event; raise as the receiving end of a channel does."""
        event = self._backlog.pop() if self._backlog else self._channel.receive_nowait()
        self._taken += 1
        if self._awaited:
            self._tell_taken()
        return event

    @enable_ki_protection
    def close(self) -> None:
        """Leave: nothing more is queued, and what was queued is dropped."""
        with self.registry.changes:
            self.closed = True
            self._backlog.clear()
            self._channel.close()
            self.end()
            self.registry.discard(self)

    @property
    def queued(self) -> int:
        """How many events wait to be received."""
        return self._given - self._taken

    def statistics(self) -> trio.MemoryChannelStatistics:
        """Return the statistics of the channel."""
        return self._channel.statistics()

    @enable_ki_protection
    def beat_if_idle(self) -> None:
        """Hand a heartbeat to the reader, unless it is busy: then it is not silent either."""
        with self.registry.changes:
            if self.statistics().tasks_waiting_receive:
                self._send.send_nowait(self.heartbeat())
                self._given += 1

    @enable_ki_protection
    def heartbeat(self) -> ServerSentEvent:
        """Return a heartbeat; with the current id, if that has moved since one was told."""
        registry, told = self.registry, self._told
        with registry.changes:
            if self.queued or self.ended:  # An id must not be told before the events it covers.
                return HEARTBEAT
            self._told = registry.position
            known = registry.position in (told, registry.position_of(self.topics))
            if known or registry.last_id is None:
                return HEARTBEAT
            return after_heartbeat(position_event(registry.last_id))

    def _end(self) -> None:
        self.ended = True
        self.registry.unregister(self)
        self._send.close()
        while self._awaited:
            self._awaited.pop(0)[1].set()
        if self.waker is not None:
            self.waker.end()

    @enable_ki_protection
    def _tell_taken(self) -> None:
        with self.registry.changes:
            while self._awaited and self._awaited[0][0] <= self._taken:
                self._awaited.pop(0)[1].set()


@final
@attrs.frozen(eq=False)
class Opened:
    """A stream that has begun: its client is registered, what goes before its events is known."""

    client: Client
    replay: list[bytes] = attrs.field(factory=list[bytes])
    """The blocks before all events, however many; the first is last, to be taken out."""

    retry: int | None = None
    """The reconnection time that is told at the end, in milliseconds."""

"""One client: a subscription, and what its broadcaster and its delivery may do to it.

It has both ends of its memory channel. Who else listens, and how the events travel on, it knows
only by the roles that are described here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from typing import Protocol, final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from .event import ServerSentEvent
from .heartbeat import HEARTBEAT
from .subscription import Subscription


class Recipient(Protocol):
    """One to whom a broadcaster sends."""

    @property
    def topics(self) -> frozenset[str]:
        """What it gets, besides the events without a topic."""
        ...

    def offer(self, event: ServerSentEvent) -> Client | None:
        """Queue an event; if there is no room for it, return the client that is behind."""
        ...


class Registry(Protocol):
    """Where a client is registered."""

    @property
    def position(self) -> int:
        """How many events were broadcast."""
        ...

    @property
    def last_id(self) -> str | None:
        """The id of the last of them, if it has one."""
        ...

    def position_of(self, topics: frozenset[str]) -> int:
        """Return how many had been broadcast with the last that clients of these topics got."""
        ...

    def release(self, client: Client) -> None:
        """Send nothing more to a client."""
        ...

    def enlist(self, recipient: Recipient) -> None:
        """Send events to a recipient from now on."""
        ...

    def dismiss(self, recipient: Recipient) -> None:
        """Send no more events to a recipient."""
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


@final
class Client(Subscription):
    """A subscription, and what its broadcaster and its delivery may do to it."""

    __slots__ = (
        "_on_close",
        "_send",
        "buffer_size",
        "cancel_scope",
        "drain_timeout",
        "ended",
        "key",
        "last_words",
        "past",
        "position",
        "registry",
        "renews",
        "topics",
        "waker",
    )

    def __init__(
        self,
        buffer_size: int,
        registry: Registry,
        on_close: Callable[[Client], None],
        backlog: Iterable[ServerSentEvent],
        topics: frozenset[str],
        key: Hashable,
    ) -> None:
        self._send, channel = trio.open_memory_channel[ServerSentEvent](buffer_size)
        self.buffer_size = buffer_size
        self.registry = registry
        #: Whether nothing will be queued any more.
        self.ended = False
        #: Set while the client is written to directly.
        self.waker: Waker | None = None
        #: Ends the response by force; who delivers sets it.
        self.cancel_scope: trio.CancelScope | None = None
        #: Seconds that the response may go on once it was pruned.
        self.drain_timeout = math.inf
        #: What it gets, besides the events without a topic.
        self.topics = topics
        #: How many events had been broadcast when it was last told an id, but for events' own.
        self.position = registry.position
        #: Whose client it is, for limits and to be disconnected by.
        self.key = key
        #: What goes before all events, encoded, however much it is; the first is last.
        self.past: list[bytes] = []
        #: Whether it must come back if events were lost, for it has begun with a snapshot.
        self.renews = False
        #: Blocks for the very end of the response, whoever ends it.
        self.last_words = b""
        self._on_close = on_close
        super().__init__(channel, backlog)

    @enable_ki_protection
    def close(self) -> None:
        """See `Subscription.close`."""
        super().close()
        self.past.clear()
        self.leave()
        self._on_close(self)

    @enable_ki_protection
    def leave(self) -> None:
        """Get no more broadcasts, and end."""
        if self.waker is not None:
            self.waker.reclaim()
        self.registry.release(self)
        self.end()

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

    def end(self, *, pruned: bool = False) -> None:
        """Let nothing more in: the reader gets what is queued, then the end (pruned: an error)."""
        self.ended = True
        self._send.close()
        self._pruned = pruned
        if pruned and self.cancel_scope is not None:
            self.cancel_scope.deadline = trio.current_time() + self.drain_timeout
        while self._awaited:
            self._awaited.pop(0)[1].set()
        if self.waker is not None:
            self.waker.end()

    @property
    def has_room(self) -> bool:
        """Whether one more event could be queued."""
        return self.queued < self.buffer_size

    def expect_taken(self) -> trio.Event:
        """Return an event that is set once all queued by now is taken, or this client has ended."""
        if self.waker is not None:
            self.waker.reclaim()
        taken = trio.Event()
        self._awaited.append((self._given, taken))
        self._set_taken()
        return taken

    def beat_if_idle(self) -> None:
        """Hand a heartbeat to the reader, unless it is busy: then it is not silent either."""
        if self.statistics().tasks_waiting_receive:
            self._send.send_nowait(self.heartbeat())
            self._given += 1

    def heartbeat(self) -> ServerSentEvent:
        """Return a heartbeat; with the current id, if that has moved since one was told."""
        if self.queued or self.ended:  # An id must not be told before the events it covers.
            return HEARTBEAT
        registry, told = self.registry, self.position
        self.position = registry.position
        if registry.position in (told, registry.position_of(self.topics)):
            return HEARTBEAT
        return attrs.evolve(HEARTBEAT, id=registry.last_id)

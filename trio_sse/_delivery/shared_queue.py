"""Those who keep up: streams of the direct way that share one queue.

To put each event into the channel of each client, only to take it out again a moment later, costs
more than anything else that is done for it before the socket. So a stream that has written all it
had joins a shared queue: what is broadcast waits there once for all of them, bounded as a channel
is, and is joined once. A stream whose socket is full leaves, and takes what it has not yet written
along to its own channel.

It knows events and who shares them; it knows neither sockets nor tasks. In which order they are
written to is `lane`'s.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Self, final

import trio

from .._core.client import Client
from .._core.event import ServerSentEvent
from .chunks import MAX_CHUNK
from .lane import Lane

if TYPE_CHECKING:
    from .direct import DirectStream


@final
class SharedQueue:
    """Events that several streams get alike, as long as not all of them have written each.

    In a round each stream is written the same chunk. Each of its methods is a part of a change.

    Args:
        client: One of their clients, of which they all are like.
        coding: Makes of a chunk what is on the wire.
        add: Lets the queue have a turn to write.
    """

    def __init__(
        self, client: Client, coding: Callable[[bytes], bytes], add: Callable[[Self], None]
    ) -> None:
        self._coding = coding
        self.topics = client.topics
        #: When a round last went on.
        self.written_at = -math.inf
        self._registry = client.registry
        self._size = client.buffer_size
        self._add = add
        self._waiting = False
        self._events: list[ServerSentEvent] = []
        #: The position of the first of the events.
        self._start = 0
        #: What is written in this round as it is on the wire, of what length without its coding,
        #: and how many of the events: none between two rounds.
        self._chunk = b""
        self._length = 0
        self._count = 0
        #: The length of all chunks of the rounds before.
        self._sent = 0
        self._lane = Lane()
        #: Who came while events were waiting, and the position at which it begins.
        self._early: dict[DirectStream, int] = {}

    def join(self, stream: DirectStream) -> None:
        """Let a stream share the queue, which has written all that there was."""
        if self._is_empty():
            self._registry.enlist(self)
        self._early[stream] = self._start + len(self._events)
        self._admit()

    def leave(self, stream: DirectStream) -> Sequence[ServerSentEvent]:
        """Let a stream go; return what it has still to write."""
        begins = self._early.pop(stream, None)
        if begins is not None:
            written = begins - self._start
        elif self._lane.remove(stream):
            written = self._count
            stream.bypass.sent += self._sent + self._length
        else:
            written = 0
            stream.bypass.sent += self._sent
        if self._is_empty():
            self._registry.dismiss(self)
        return self._events[written:]

    def offer(self, event: ServerSentEvent) -> None:
        """Queue an event for all; if there is no room for it, write what is before it now.

        It returns no client (see `Recipient`), as one that is behind leaves by itself.
        """
        self._events.append(event)
        try:
            while len(self._events) > self._size:
                self._write_round(self._lane.due)
        except Exception as error:  # It is not the publisher's.
            self.fail(error)
        self._wait()

    def fail(self, error: Exception) -> None:
        """End all streams, each in its own task."""
        for stream in [*self._lane.streams, *self._early]:
            stream.fail(error)

    def deliver(self, room: int) -> int:
        """Write to so many streams at most; return to how many."""
        self._waiting = False
        written = min(room, self._lane.due) if self._events else 0
        self._write_round(written)
        if self._events:
            self._wait()
        return written

    @property
    def has_events(self) -> bool:
        """Whether something is still to be written."""
        return bool(self._events)

    def _is_empty(self) -> bool:
        return not (self._lane or self._early)

    def _wait(self) -> None:
        if not self._waiting:
            self._waiting = True
            self._add(self)

    def _write_round(self, room: int) -> None:
        """Go on with a round for so many streams, after beginning it, and end it if it ends."""
        if not self._count:
            self._begin_round()
        self.written_at = trio.current_time()
        self._lane.write(self._chunk, room)
        if not self._lane.due:
            self._end_round()

    def _begin_round(self) -> None:
        begins = next(iter(self._early.values()), sys.maxsize)
        events, size = list[bytes](), 0
        for event in self._events[: min(self._size, begins - self._start)]:
            size += len(event.encode())
            if events and size > MAX_CHUNK:
                break
            events.append(event.encode())
        chunk = b"".join(events)
        self._chunk, self._length, self._count = self._coding(chunk), len(chunk), len(events)

    def _end_round(self) -> None:
        self._lane.rewind()
        self._sent += self._length
        del self._events[: self._count]
        self._start += self._count
        self._count = 0
        self._admit()

    def _admit(self) -> None:
        """Count those among the others whose first event is the next."""
        for stream in [one for one, begin in self._early.items() if begin == self._start]:
            del self._early[stream]
            self._lane.add(stream, stream.bypass.sender)
            stream.bypass.sent -= self._sent  # It is counted for all, and added when one leaves.

"""One task that writes for all of a server's streams that go the direct way.

Whoever has something to write is added, and gets a turn: a stream by itself, a queue that those
share which keep up, or a connection that several streams share. The task is protected from a
KeyboardInterrupt, and so from a broadcast that strikes (`Changes`): a turn is a change without
saying so. It knows Trio and turns, and neither what is written nor where.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol, final
from weakref import WeakValueDictionary

import trio
from trio.lowlevel import enable_ki_protection

from .._core.client import Client
from .shared_queue import SharedQueue

#: How many clients are written to before other tasks get their turn: some two milliseconds.
_TURN: Final = 128


class Waiting(Protocol):
    """One who waits for a turn."""

    def deliver(self, room: int) -> int:
        """Write to so many clients at most; return to how many."""
        ...

    def fail(self, error: Exception) -> None:
        """End because of this, which is nobody else's affair."""
        ...


@final
class Writer:
    """Gives turns to those who have something to write."""

    def __init__(self) -> None:
        self._waiting: deque[Waiting] = deque()
        self._idle = trio.lowlevel.ParkingLot()
        #: Each for as long as a stream has it.
        self._queues = WeakValueDictionary[tuple[object, ...], SharedQueue]()

    def add(self, waiting: Waiting) -> None:
        """Let one have a turn."""
        if not self._waiting:
            self._idle.unpark()
        self._waiting.append(waiting)

    def queue_of(self, client: Client, coding: Callable[[bytes], bytes]) -> SharedQueue:
        """Return the queue of all clients that get the same events, and bytes, as this one."""
        key = client.registry, client.topics, coding
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = SharedQueue(client, coding, self.add)
        return queue

    @enable_ki_protection  # Nor may one strike between a look at who waits and the wait.
    async def run(self) -> None:
        """Write, until cancelled."""
        while True:
            await trio.lowlevel.checkpoint()
            if not self._waiting:
                await self._idle.park()
            room = _TURN
            while room > 0 and self._waiting:
                room -= self._give_turn(self._waiting.popleft(), room)

    def _give_turn(self, waiting: Waiting, room: int) -> int:
        try:
            return waiting.deliver(room)
        except Exception as error:  # It ends those whose turn it is, and not all streams there are.
            waiting.fail(error)
            return 1

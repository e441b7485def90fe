"""Clients that come back at once for what they have missed, and again when they are turned away."""

from __future__ import annotations

import selectors
import time
from collections import deque
from typing import Final

from ..load.client import Client

_PATIENCE: Final = 60.0
_NAP: Final = 0.01

#: Seconds until one comes back who was turned away: about what the node asks for.
_AWAY: Final = 0.2


class Returning:
    """A client that comes back for what it has missed, as often as it is turned away."""

    def __init__(self, port: int, ids: list[str], last: int) -> None:
        self._port = port
        self._ids = ids
        self._first = last + 1
        self._numbers: list[int] = []
        self.client: Client

    def come_back(self) -> None:
        """Ask for what came after the last event that is known."""
        last = self._first + len(self._numbers) - 1
        self.client = Client(self._port, keep_body=True, last_event_id=self._ids[last])

    def take(self) -> bool:
        """Take what has arrived; return whether the connection is of no more use."""
        self.client.take()
        over = self.client.ended or self._first + self._arrived >= len(self._ids)
        if over:
            self._numbers += self.client.numbers()
            self.client.sock.close()
        return over

    @property
    def has_all(self) -> bool:
        """Whether so many events have come as were missed."""
        return self._first + len(self._numbers) >= len(self._ids)

    @property
    def is_whole(self) -> bool:
        """Whether each of them has come once and in order."""
        return self._numbers == [*range(self._first, len(self._ids))]

    @property
    def _arrived(self) -> int:
        return len(self._numbers) + self.client.count


def read_all(crowd: list[Returning]) -> int:
    """Read until all have all; return how often anybody was turned away.

    Raises:
        TimeoutError: If they do not get that far.
    """
    give_up = time.monotonic() + _PATIENCE
    away: deque[tuple[float, Returning]] = deque((0.0, one) for one in crowd)
    left, visits = len(crowd), 0
    with selectors.DefaultSelector() as selector:
        while left and time.monotonic() < give_up:
            while away and away[0][0] < time.monotonic():
                _, one = away.popleft()
                visits += 1
                one.come_back()
                selector.register(one.client.sock, selectors.EVENT_READ, one)
            for key, _ in selector.select(_NAP):
                if not key.data.take():
                    continue
                selector.unregister(key.fd)
                left -= key.data.has_all
                if not key.data.has_all:
                    away.append((time.monotonic() + _AWAY, key.data))
    if left:
        raise TimeoutError(f"{left} clients do not get what they have missed")
    return visits - len(crowd)

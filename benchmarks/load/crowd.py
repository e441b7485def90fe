"""Many clients of one server, read by one selector until the last of them has what was sent."""

from __future__ import annotations

import selectors
import time
from typing import Final

from .client import Client
from .http2 import Http2Client
from .payload import STAMP

#: Clients that connect at once: fewer than the backlog of any server here.
_WAVE: Final = 256

#: Seconds without a byte after which nothing more is under way.
_QUIET: Final = 0.05


#: Seconds that a framework may take to register a client whose head it has sent.
_SETTLING: Final = 0.3


class Crowd:
    """Clients that read all they get, and are counted."""

    def __init__(
        self, port: int, *, keep_bodies: bool = False, tls: bool = False, http2: int = 0
    ) -> None:
        self.clients: list[Client] = []
        self._port, self._tls, self._http2 = port, tls, http2
        self._keep_bodies = keep_bodies
        self._selector = selectors.DefaultSelector()
        self._expected = 0
        self._awaited = 0
        self._stamp = 0

    def admit(self, count: int, patience: float = 60.0) -> None:
        """Connect so many more clients, in waves; wait until each has a head, and a little more."""
        deadline = time.monotonic() + patience
        connections, odd = divmod(count, max(1, self._http2))
        if odd:
            raise ValueError(f"{count} streams cannot be {self._http2} a connection")
        for start in range(0, connections, _WAVE):
            wave = [self._connect() for _ in range(min(_WAVE, connections - start))]
            while not all(client.streaming for client in wave):
                self._turn()
                if time.monotonic() > deadline or any(client.ended for client in wave):
                    raise ConnectionError("the server does not admit all clients")
        settled = time.monotonic() + _SETTLING
        while (left := settled - time.monotonic()) > 0:
            self._turn(left)

    def dismiss(self, count: int) -> None:
        """Let the oldest so many clients leave."""
        leaving, self.clients = self.clients[:count], self.clients[count:]
        for client in leaving:
            if not client.ended:
                self._selector.unregister(client.sock)
            client.sock.close()

    def begin(self) -> None:
        """Count from zero again."""
        self._expected = self._awaited = 0
        for client in self.clients:
            client.count = 0

    def expect(self, events: int) -> None:
        """Say how many events each client is about to get."""
        self._expected += events
        self._awaited += events * sum(each.streams for each in self.clients if not each.ended)
        self._stamp = 0

    def wait(self, patience: float) -> float:
        """Read until the last client has all; return seconds since the first event was sent.

        Raises:
            TimeoutError: If that takes too long.
        """
        deadline = time.monotonic() + patience
        while self._awaited > 0:
            self._turn()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._awaited} events did not arrive")
        return (time.monotonic_ns() - self._stamp) / 1e9

    def wrong(self) -> int:
        """Return how many clients did not get each event exactly once, if all are to have come."""
        while self._turn(_QUIET):
            pass
        counted = sum(client.wrong(self._expected) for client in self.clients)
        return max(counted, self._misnumbered() if self._keep_bodies else 0)

    def ended(self) -> int:
        """Return how many clients the server has left."""
        return sum(client.ended for client in self.clients)

    def _connect(self) -> Client:
        client = (
            Http2Client(self._port, self._http2, tls=self._tls)
            if self._http2
            else Client(self._port, keep_body=self._keep_bodies, tls=self._tls)
        )
        self._selector.register(client.sock, selectors.EVENT_READ, client)
        self.clients.append(client)
        return client

    def _turn(self, timeout: float = 0.1) -> bool:
        """Read once from all that have something; tell whether any had."""
        ready = self._selector.select(timeout)
        for key, _ in ready:
            client: Client = key.data
            before = client.count
            data = client.take()
            self._awaited -= client.count - before
            if not self._stamp and (stamp := STAMP.search(data)):
                self._stamp = int(stamp[2])
            if client.ended:
                self._give_up(client)
        return bool(ready)

    def _give_up(self, client: Client) -> None:
        self._selector.unregister(client.sock)
        self._awaited -= self._expected * client.streams - client.count

    def _misnumbered(self) -> int:
        """Return how many clients have other numbers than the same consecutive ones for all."""
        all_numbers = [client.numbers() for client in self.clients]
        start = min((numbers[0] for numbers in all_numbers if numbers), default=0)
        wanted = list(range(start, start + self._expected))
        return sum(numbers != wanted for numbers in all_numbers)

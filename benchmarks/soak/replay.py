"""Two hundred clients come back at once, each for 10,000 events, beside 800 that read live.

A live event is due each 20 ms; its delay counts from when it was due, so a server that is too busy
to send it does not look quick. Clients are plain sockets of one process, which reads the live ones
after each read of one that has come back, so that the delay is the server's.
"""

from __future__ import annotations

import gc
import math
import selectors
import socket
import time
from pathlib import Path
from statistics import quantiles
from typing import Final

from ..clients.browser import Browser
from ..load.client import Client
from ..load.payload import STAMP
from ..report.finding import Finding
from ..servers.processes import Server
from ..servers.subjects import remembering

_LIVE, _RETURNING = 800, 200
_HISTORY: Final = 10_000
_SECONDS: Final = 3.0
_GRACE: Final = 1.0
_NAP: Final = 0.005
_LIMIT: Final = 50.0
_PATIENCE: Final = 120.0

#: One event of 64 bytes each 20 ms.
_PACE: Final = "pace 20 64"


def check(cache: Path) -> list[Finding]:
    """Return how long the replay took, what was wrong in it, and how the others fared."""
    gc.disable()  # A pause here would be measured as a delay of the server.
    try:
        with Server(remembering("direct", 2 * _HISTORY), cache) as server:
            return _check(server)
    finally:
        gc.enable()


def _check(server: Server) -> list[Finding]:
    oldest = _current_id(server.port)
    server.tell(f"publish {_HISTORY} 64")
    live = _Live(server.port)
    server.tell(_PACE)
    live.read_for(_SECONDS)
    before = live.take_percentile()
    server.tell("watch")
    server.ask("report")  # Forgets the lateness so far.
    began = time.monotonic()
    returning = _Returning(server.port, oldest, live)
    returning.read()
    seconds = time.monotonic() - began
    late = server.ask("report")["lateness"]
    live.read_for(_GRACE)
    back = f"{_RETURNING} come back for {_HISTORY:,} events"
    others = f"99 % of delays to {_LIVE} others, {before:.1f} ms before"
    return [
        Finding(f"{back}: all have them after", seconds, _PATIENCE, "s"),
        Finding("clients that did not get each once and in order", returning.wrong(), 0),
        Finding(f"{others}; meanwhile", live.take_percentile(seconds), _LIMIT, "ms"),
        Finding("lateness of a 1 ms sleep in the server meanwhile", late, _LIMIT, "ms"),
        Finding("live clients that missed any", live.wrong(), 0),
    ]


class _Live:
    """Clients that read what is sent now, and note how long it was under way."""

    def __init__(self, port: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._delays: list[tuple[int, int]] = []
        self._clients = [Client(port, keep_body=True) for _ in range(_LIVE)]
        for client in self._clients:
            self._selector.register(client.sock, selectors.EVENT_READ, client)
        while not all(client.streaming for client in self._clients):
            self.read(_NAP)

    def read(self, timeout: float = 0) -> None:
        """Read once what has arrived."""
        for key, _ in self._selector.select(timeout):
            data = key.data.take()
            now = time.monotonic_ns()
            for _, sent in STAMP.findall(data):
                self._delays.append((int(sent), now - int(sent)))

    def read_for(self, seconds: float) -> None:
        """Read for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.read(_NAP)

    def take_percentile(self, seconds: float = math.inf) -> float:
        """Return what 99 % of delays were below, in milliseconds, of the events of so long."""
        end = min((sent for sent, _ in self._delays), default=0) + seconds * 1e9
        delays = [delay for sent, delay in self._delays if sent < end]
        self._delays.clear()
        return quantiles(delays, n=100)[-1] / 1e6 if len(delays) > 1 else math.inf

    def wrong(self) -> int:
        """Return how many clients have a gap in what they got, or were left by the server."""
        return sum(
            client.ended or not _is_whole(client.numbers(), at_least=1) for client in self._clients
        )


class _Returning:
    """Clients that come back at once with the same ID, and read until they have the history."""

    def __init__(self, port: int, last_event_id: str, live: _Live) -> None:
        self._live = live
        self._selector = selectors.DefaultSelector()
        self._clients: list[Client] = []
        for _ in range(_RETURNING):
            client = Client(port, keep_body=True, last_event_id=last_event_id)
            self._selector.register(client.sock, selectors.EVENT_READ, client)
            self._clients.append(client)
            live.read()

    def read(self) -> None:
        """Read until all have all, and the live ones after each read.

        Raises:
            TimeoutError: If that takes too long.
        """
        deadline = time.monotonic() + _PATIENCE
        while not all(client.count >= _HISTORY or client.ended for client in self._clients):
            if time.monotonic() > deadline:
                raise TimeoutError("the replay does not come to its end")
            self._live.read(0 if (ready := self._selector.select(0)) else _NAP)
            for key, _ in ready:
                key.data.take()
                self._live.read()

    def wrong(self) -> int:
        """Return how many did not get all that was missed, each once and in order."""
        return sum(
            not _is_whole(client.numbers(), at_least=_HISTORY, start=0) for client in self._clients
        )


def _is_whole(numbers: list[int], *, at_least: int, start: int | None = None) -> bool:
    """Tell whether these are consecutive numbers, from the given one or any."""
    if len(numbers) < at_least:
        return False
    first = numbers[0] if start is None else start
    return numbers == list(range(first, first + len(numbers)))


def _current_id(port: int) -> str:
    """Return the ID that a new client is told."""
    browser = Browser()
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(browser.connect())
        while not browser.last_event_id:
            browser.feed(sock.recv(65536))
    return browser.last_event_id

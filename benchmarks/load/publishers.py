"""How the load generator makes a server broadcast: an order on a pipe, or events by POST.

Every server here is told on its standard input, which costs it one read for each burst. nginx has
no such thing: its publisher sends each event over one keep-alive connection, and is counted with
the load generator, so that only what nginx does itself is measured.
"""

from __future__ import annotations

import os
import re
import socket
from typing import Final, Protocol

from .payload import Payloads

_ANSWER: Final = re.compile(rb"HTTP/1\.1 (\d+)")


class Publisher(Protocol):
    """Makes the server broadcast."""

    def publish(self, count: int, size: int) -> None:
        """Have so many events of that size broadcast, back to back."""


class PipePublisher:
    """Writes orders to the standard input of a server."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def publish(self, count: int, size: int) -> None:
        """See `Publisher.publish`."""
        os.write(self._descriptor, f"publish {count} {size}\n".encode())


class PostPublisher:
    """Posts each event to nchan's publisher location, pipelined."""

    def __init__(self, port: int) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port))
        self._payloads = Payloads()

    def publish(self, count: int, size: int) -> None:
        """See `Publisher.publish`."""
        self._drain()
        self._sock.sendall(b"".join(self._request(size) for _ in range(count)))

    def _request(self, size: int) -> bytes:
        head = f"POST /publish HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {size}\r\n\r\n"
        return (head + self._payloads.next(size)).encode()

    def _drain(self) -> None:
        """Read the answers to what was sent before."""
        try:
            answers = self._sock.recv(1 << 20, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        refused = {int(status) for status in _ANSWER.findall(answers)} - {201, 202}
        if refused or not answers:
            raise ConnectionError(f"nchan does not publish: {answers[:200]!r}")

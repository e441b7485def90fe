"""A socket that takes as many bytes at once as the test allows it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self, final


@final
class StingySocket(socket.socket):
    """One end of a pair; the other end is `peer`, which does not block either."""

    def __init__(self, fileno: int) -> None:
        super().__init__(fileno=fileno)
        self.setblocking(False)
        self.peer: socket.socket
        #: How many bytes the next sends take at most, one after another; then as many as there are.
        self.grants: list[int] = []
        #: Called before each send.
        self.on_send: Callable[[], object] = lambda: None

    @classmethod
    def pair(cls) -> Self:
        ours, peer = socket.socketpair()
        own = cls(ours.detach())
        own.peer = peer
        peer.setblocking(False)
        return own

    def send(self, data: Any, flags: int = 0) -> int:
        self.on_send()
        granted = self.grants.pop(0) if self.grants else len(data)
        if data and not granted:
            raise BlockingIOError
        return super().send(bytes(data)[:granted], flags)

    def received(self) -> bytes:
        """Return what has arrived at the other end."""
        received = b""
        with suppress(BlockingIOError):
            while more := self.peer.recv(1_000_000):
                received += more
        return received

    def close_both(self) -> None:
        self.peer.close()
        self.close()

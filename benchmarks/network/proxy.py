"""A TCP proxy that cuts: after a random number of bytes, up or down, with a FIN or a reset.

A cut is made at any byte: in the request, the head, a chunk's size, an event. Either side learns of
it in its own way, whatever the other gets. It knows no HTTP.
"""

from __future__ import annotations

import math
import random
import socket
from contextlib import suppress
from typing import Final

import trio

from ..load.client import RESET_ON_CLOSE

_READ: Final = 65536

#: How many of the connections are cut in what the client sends, and at most after so many bytes.
_UP, _REQUEST = 0.05, 200

#: How many of the cut connections are cut early, and at most after so many bytes.
_EARLY, _HEAD = 0.1, 600

#: How many of the ends are resets.
_RESETS: Final = 0.5


class Proxy:
    """Carries connections to a port of this machine.

    Args:
        port: Where the server listens.
        mean: Bytes of the stream that a connection carries on average.
        chance: What the cuts are drawn from.
    """

    def __init__(self, port: int, mean: float, chance: random.Random) -> None:
        self.cuts = 0
        self._port = port
        self._mean = mean
        self._chance = chance

    async def run(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen, for ever; the port is told once it is open."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        task_status.started(listeners[0].socket.getsockname()[1])
        await trio.serve_listeners(self._carry, listeners)

    async def _carry(self, client: trio.SocketStream) -> None:
        up = self._chance.randint(1, _REQUEST) if self._chance.random() < _UP else math.inf
        down = draw_cut(self._chance, self._mean)
        with suppress(OSError):
            async with client, await trio.open_tcp_stream("127.0.0.1", self._port) as server:
                async with trio.open_nursery() as nursery:
                    scope = nursery.cancel_scope
                    nursery.start_soon(self._pass, client, server, up, scope)
                    nursery.start_soon(self._pass, server, client, down, scope)
                for stream in (client, server):
                    if self._chance.random() < _RESETS:
                        reset_on_close(stream)

    async def _pass(
        self,
        source: trio.SocketStream,
        target: trio.SocketStream,
        left: float,
        scope: trio.CancelScope,
    ) -> None:
        with suppress(trio.BrokenResourceError):
            while left and (data := await source.receive_some(int(min(left, _READ)))):
                left -= len(data)
                await target.send_all(data)
            self.cuts += not left
        scope.cancel("one end is over")


def draw_cut(chance: random.Random, mean: float) -> int:
    """Return after how many bytes of a response a connection is cut."""
    if chance.random() < _EARLY:
        return chance.randint(1, _HEAD)
    return 1 + int(chance.expovariate(1 / mean))


def reset_on_close(stream: trio.SocketStream) -> None:
    """Let the connection end with a reset, not with a FIN."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)

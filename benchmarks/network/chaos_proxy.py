"""A TCP proxy to a Redis server, on a bad line.

Each connection is cut after some bytes, amid a request or a reply or right behind one. Besides,
there are faults for a while, one after another: all connections are cut; nothing gets through, and
some connections never recover; connecting is refused; replies are lost while requests arrive;
requests are held up, until long after the client has given them up. All is drawn. It does not know
what it carries.
"""

from __future__ import annotations

import math
import random
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import trio

from .proxy import draw_cut, reset_on_close

_READ: Final = 65536

#: Bytes that a connection carries on average, each way.
_MEAN: Final = 150_000

#: How many of the connections are cut right behind a reply, and how many of the ends are resets.
_WHOLE, _RESETS = 0.5, 0.5

#: Seconds from one fault to the next on average, and how long one may last.
_CALM: Final = 0.6
_SHORTEST, _LONGEST = 0.1, 2.5

#: Seconds for which a request may be held up, and for which a client whose reply is lost may wait
#: until it is cut.
_HELD: Final = 3.0
_LOST: Final = (0.0, 60.0)


class ChaosProxy:
    """Carries connections to a port of this machine, badly.

    Args:
        port: Where the server listens.
        chance: What the faults are drawn from.
    """

    def __init__(self, port: int, chance: random.Random) -> None:
        self.faults: Counter[str] = Counter()
        #: Since when there is no fault, by CLOCK_MONOTONIC; `None` while there is one.
        self.clear_since: float | None = time.monotonic()
        self.port = 0
        self._server = port
        self._chance = chance
        self._scopes: set[trio.CancelScope] = set()
        self._listening: trio.CancelScope
        self._open = self._passable = _set_event()
        self._harms = self._holds = self._loses = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen, for ever, without any fault so far."""
        with socket.socket() as held:  # Nobody else gets the port while nobody listens.
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(("127.0.0.1", 0))
            self.port = held.getsockname()[1]
            async with trio.open_nursery() as nursery:
                while True:
                    [listener] = await trio.open_tcp_listeners(self.port, host="127.0.0.1")
                    task_status.started()
                    task_status = trio.TASK_STATUS_IGNORED
                    await self._accept(listener, nursery)
                    await self._open.wait()

    async def do_harm(self) -> None:
        """Make one fault after another, until cancelled; then new connections are good ones."""
        faults = (self._cut, self._block, self._refuse, self._lose, self._hold)
        self._harms = True
        try:
            while True:
                await trio.sleep(self._chance.expovariate(1 / _CALM))
                fault = self._chance.choice(faults)
                self.faults[fault.__name__] += 1
                await self._suffer(fault, self._chance.uniform(_SHORTEST, _LONGEST))
        finally:
            self._harms = False

    async def _suffer(self, fault: Callable[[float], Awaitable[None]], seconds: float) -> None:
        self.clear_since = None
        try:
            await fault(seconds)
        finally:
            self._open.set()
            self._passable.set()
            self._holds = self._loses = False
            self.clear_since = time.monotonic()

    async def _cut(self, _: float) -> None:
        await trio.lowlevel.checkpoint()
        self._cut_all()

    async def _block(self, seconds: float) -> None:
        self._passable = trio.Event()
        await trio.sleep(seconds)

    async def _refuse(self, seconds: float) -> None:
        self._open = trio.Event()
        self._listening.cancel("a fault")
        self._cut_all()
        await trio.sleep(seconds)

    async def _lose(self, seconds: float) -> None:
        self._loses = True
        await trio.sleep(seconds)

    async def _hold(self, seconds: float) -> None:
        self._holds = True
        await trio.sleep(seconds)

    def _cut_all(self) -> None:
        for scope in self._scopes:
            scope.cancel("a fault")

    async def _accept(self, listener: trio.SocketListener, nursery: trio.Nursery) -> None:
        """Accept connections until that is refused."""
        async with listener:
            with trio.CancelScope() as self._listening:
                while True:
                    nursery.start_soon(self._carry, await listener.accept())

    async def _carry(self, client: trio.SocketStream) -> None:
        with suppress(OSError):
            async with client, await trio.open_tcp_stream("127.0.0.1", self._server) as server:
                async with trio.open_nursery() as nursery:
                    self._scopes.add(nursery.cancel_scope)
                    nursery.start_soon(self._ask, client, server, nursery.cancel_scope)
                    nursery.start_soon(self._answer, server, client, nursery.cancel_scope)
                self._scopes.discard(nursery.cancel_scope)
                for stream in (client, server):
                    if self._chance.random() < _RESETS:
                        reset_on_close(stream)

    async def _ask(
        self, client: trio.SocketStream, server: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        """Carry requests; one that is held up arrives, even if the client has left."""
        left = self._draw_cut()
        with suppress(trio.BrokenResourceError):
            while left and (data := await client.receive_some(int(min(left, _READ)))):
                left -= len(data)
                if self._holds:
                    await trio.sleep(self._chance.uniform(0, _HELD))
                await self._pass()
                await server.send_all(data)
        self.faults["_bytes"] += not left
        scope.cancel("the client has left, or its request was cut")

    async def _answer(
        self, server: trio.SocketStream, client: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        left, whole = self._draw_cut(), self._chance.random() < _WHOLE
        while left > 0 and (
            data := await _receive(server, _READ if whole else int(min(left, _READ)))
        ):
            left -= len(data)
            await self._pass()
            if self._loses:
                await trio.sleep(self._chance.choice(_LOST))
                break
            with suppress(trio.BrokenResourceError):  # Its requests may be under way.
                await client.send_all(data)
        self.faults["_bytes"] += left <= 0
        scope.cancel("the server has left, or its reply was lost or cut")

    def _draw_cut(self) -> float:
        return draw_cut(self._chance, _MEAN) if self._harms else math.inf

    async def _pass(self) -> None:
        """Wait while nothing gets through; a connection may wait for ever then."""
        if not self._passable.is_set():
            recovers = self._chance.random() < 0.5
            await self._passable.wait()
            if not recovers:
                await trio.sleep(math.inf)


async def _receive(stream: trio.SocketStream, size: int) -> bytes | bytearray:
    """Receive; a reset is an end, too."""
    try:
        return await stream.receive_some(size)
    except trio.BrokenResourceError:
        return b""


def _set_event() -> trio.Event:
    event = trio.Event()
    event.set()
    return event

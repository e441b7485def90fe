"""A line between a client and its server that is cut at a certain place, or stalls."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import final

import trio

from .tcp import reset_when_closed


def _nothing() -> None:
    pass


@final
class Cutter:
    """A TCP proxy that cuts a connection behind certain bytes, in their order, each once.

    Every other cut is a FIN, before which the client reads all that came through; the others are an
    RST, which may destroy what it has not read yet.

    Args:
        port: The port of the server.
        cuts: What a connection is cut behind.
        while_away: Called at each cut, before the client can know of it.
    """

    def __init__(self, port: int, *cuts: bytes, while_away: Callable[[], None] = _nothing) -> None:
        self.done = 0
        #: All that servers have sent.
        self.carried = bytearray()
        self._port = port
        self._cuts = cuts
        self._while_away = while_away
        self._flows = trio.Event()
        self._flows.set()

    def stall(self) -> None:
        """Let nothing through to clients, nor read what servers send."""
        self._flows = trio.Event()

    def resume(self) -> None:
        self._flows.set()

    async def run(self, *, task_status: trio.TaskStatus[int]) -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        task_status.started(listener.socket.getsockname()[1])
        await trio.serve_listeners(self._serve, [listener])

    async def _serve(self, client: trio.SocketStream) -> None:
        server = await trio.open_tcp_stream("127.0.0.1", self._port)
        async with client, server, trio.open_nursery() as nursery:
            nursery.start_soon(self._carry_requests, client, server)
            await self._carry_responses(server, client)
            nursery.cancel_scope.cancel("the connection is to be closed")

    async def _carry_requests(self, client: trio.SocketStream, server: trio.SocketStream) -> None:
        try:
            async for data in client:
                await server.send_all(data)
            await server.send_eof()
        except trio.BrokenResourceError:
            await server.aclose()

    async def _carry_responses(self, server: trio.SocketStream, client: trio.SocketStream) -> None:
        passed = bytearray()
        async for data in server:
            await self._flows.wait()
            self.carried += data
            before = len(passed)
            passed += data
            cut = self._cuts[self.done] if self.done < len(self._cuts) else None
            if cut is None or cut not in passed:
                await client.send_all(data)
                continue
            await client.send_all(data[: passed.index(cut) + len(cut) - before])
            if self.done % 2:
                reset_when_closed(client)
            self.done += 1
            self._while_away()
            return


@asynccontextmanager
async def cutting(
    port: int, *cuts: bytes, while_away: Callable[[], None] = _nothing
) -> AsyncGenerator[tuple[Cutter, int]]:
    """Run a proxy for the length of a block; give its port, too."""
    cutter = Cutter(port, *cuts, while_away=while_away)
    async with trio.open_nursery() as nursery:
        yield cutter, await nursery.start(cutter.run)
        nursery.cancel_scope.cancel("the test is over")

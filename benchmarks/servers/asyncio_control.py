"""Standard input as a list of orders, and a queue for each client, for servers on asyncio."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Generator
from contextlib import contextmanager

from ..load.payload import Payloads


class Queues:
    """Hands each payload to the queue of every client."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[str]] = set()
        self._payloads = Payloads()

    @contextmanager
    def open(self) -> Generator[asyncio.Queue[str]]:
        """Return a client's queue, which gets all payloads until the end of the block."""
        queue: asyncio.Queue[str] = asyncio.Queue()
        self._queues.add(queue)
        try:
            yield queue
        finally:
            self._queues.discard(queue)

    async def obey(self) -> None:
        """Carry out each line ``publish COUNT SIZE`` until standard input ends."""
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        async for line in reader:
            _, count, size = line.split()
            self._publish(int(count), int(size))

    def _publish(self, count: int, size: int) -> None:
        for _ in range(count):
            payload = self._payloads.next(size)
            for queue in self._queues:
                queue.put_nowait(payload)

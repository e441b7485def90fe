"""One of several processes that share a stream: a broadcaster with a relay, under `serve`.

    python -m benchmarks.servers.node REDIS PORT PUBLISHER HISTORY MAXLEN TIMEOUT

REDIS is the URL of the Redis server, TIMEOUT and MAXLEN are the relay's. SIGTERM shuts it down.
``seal SIZE ...`` publishes an event of `benchmarks.clients.sealed` for each size, numbered as the
PUBLISHER's: a tenth by `RedisRelay.publish`, which waits, the others by `broadcast`, again if the
outbox is full. ``publish COUNT SIZE`` and ``pace PAUSE COUNT SIZE`` publish stamped ones, as fast
as the outbox takes them, or one each so many milliseconds.
"""

from __future__ import annotations

import itertools
import math
import sys
import time
from typing import Final

import attrs
import trio

from trio_sse import Broadcaster, sse_app
from trio_sse.hypercorn import serve
from trio_sse.redis import RedisRelay

from ..clients.sealed import seal
from ..clients.sequence import number_of
from ..load.payload import Payloads
from .stock import loopback
from .trio_control import Orders, obey_until_sigterm, report

#: Seconds until a broadcast is tried again for which the outbox had no room.
_NAP: Final = 0.001

#: One event of so many is published by `RedisRelay.publish`.
_AWAITED: Final = 10

#: Seconds in which clients come back.
_COME_BACK: Final = (0.02, 0.4)


class _Control:
    """What a scenario may ask of this server."""

    def __init__(
        self, broadcaster: Broadcaster, relay: RedisRelay, publisher: int, nursery: trio.Nursery
    ) -> None:
        self._broadcaster = broadcaster
        self._relay = relay
        self._numbers = (number_of(publisher, count) for count in itertools.count())
        self._nursery = nursery
        self._payloads = Payloads()
        self._inward, self._sizes = trio.open_memory_channel[int](math.inf)
        #: The ids that `publish` has returned, by the events' numbers.
        self._ids: dict[int, str] = {}

    async def obey(self) -> None:
        """Carry out orders until SIGTERM, or until standard input ends."""
        orders: Orders = {
            "seal": self._seal,
            "publish": self._publish,
            "pace": self._pace,
            "report": self._report,
            "ids": self._report_ids,
        }
        await obey_until_sigterm(orders)

    async def publish_sealed(self) -> None:
        """Publish what is ordered, one after another, for ever."""
        async for size in self._sizes:
            number = next(self._numbers)
            text = seal(number, size)
            if size % _AWAITED:
                await self._broadcast(text)
            else:
                self._ids[number] = await self._relay.publish("message", text)

    async def _broadcast(self, text: str) -> None:
        while True:
            try:
                self._broadcaster.broadcast("message", text)
            except trio.WouldBlock:
                await trio.sleep(_NAP)
            else:
                return

    def _seal(self, *sizes: int) -> None:
        for size in sizes:
            self._inward.send_nowait(size)

    def _publish(self, count: int, size: int) -> None:
        self._nursery.start_soon(self._publish_stamped, 0.0, count, size)

    def _pace(self, pause: int, count: int, size: int) -> None:
        self._nursery.start_soon(self._publish_stamped, pause / 1000, count, size)

    async def _publish_stamped(self, pause: float, count: int, size: int) -> None:
        due = time.monotonic()
        for _ in range(count):
            if pause:
                due += pause
                await trio.sleep(max(0, due - time.monotonic()))
            await self._broadcast(self._payloads.next(size))

    def _report(self) -> None:
        statistics = attrs.asdict(self._relay.statistics())
        report({**statistics, **attrs.asdict(self._broadcaster.statistics())})

    def _report_ids(self) -> None:
        report({"ids": self._ids, "waiting": self._sizes.statistics().current_buffer_used})


async def _run(
    url: str, port: int, publisher: int, history: int, maxlen: int, seconds: float
) -> None:
    relay = RedisRelay(url, maxlen=maxlen, timeout=seconds)
    broadcaster = Broadcaster(history_size=history, reconnection_time=_COME_BACK, relay=relay)
    broadcaster.register_event("message")
    async with trio.open_nursery() as nursery:
        await nursery.start(relay.run)
        control = _Control(broadcaster, relay, publisher, nursery)
        nursery.start_soon(control.publish_sealed)
        await serve(sse_app(broadcaster), loopback(port), shutdown_trigger=control.obey)
        nursery.cancel_scope.cancel("the server has shut down")


if __name__ == "__main__":
    url, port, publisher, history, maxlen, seconds = sys.argv[1:]
    sizes = int(history), int(maxlen)
    trio.run(_run, url, int(port), int(publisher), *sizes, float(seconds))

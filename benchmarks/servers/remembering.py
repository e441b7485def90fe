"""trio-sse for clients that come back: with a history and reconnection times of choice.

    python -m benchmarks.servers.remembering direct|portable|quart PORT HISTORY [LOW HIGH]

The ways are those of `benchmarks.servers.ours`; LOW and HIGH are the seconds of
`reconnection_time`. SIGTERM shuts it down. ``seal SIZE SIZE ...`` broadcasts an event of
`benchmarks.clients.sealed` for each size; ``pace PAUSE SIZE`` broadcasts one each so many
milliseconds from then on, stamped with the time when it was due.
"""

from __future__ import annotations

import itertools
import sys
import time

import attrs
import trio

from trio_sse import Broadcaster
from trio_sse.hypercorn import serve

from ..clients.sealed import seal
from ..load.payload import Payloads
from .ours import application
from .stock import loopback
from .trio_control import Lateness, Orders, obey_until_sigterm, report


class _Control:
    """What a scenario may ask of this server."""

    def __init__(self, broadcaster: Broadcaster, nursery: trio.Nursery) -> None:
        self._broadcaster = broadcaster
        self._nursery = nursery
        self._payloads = Payloads()
        self._numbers = itertools.count()
        self._lateness = Lateness()

    async def obey(self) -> None:
        orders: Orders = {
            "publish": self._publish,
            "seal": self._seal,
            "pace": self._pace,
            "watch": self._watch,
            "report": self._report,
        }
        await obey_until_sigterm(orders)

    def _publish(self, count: int, size: int) -> None:
        for _ in range(count):
            self._broadcaster.broadcast("message", self._payloads.next(size))

    def _seal(self, *sizes: int) -> None:
        for size in sizes:
            self._broadcaster.broadcast("message", seal(next(self._numbers), size))

    def _pace(self, pause: int, size: int) -> None:
        self._nursery.start_soon(self._keep_pace, pause / 1000, size)

    async def _keep_pace(self, pause: float, size: int) -> None:
        due = time.monotonic()
        while True:
            while due <= time.monotonic():  # More than one if the server is behind.
                self._broadcaster.broadcast("message", self._payloads.next(size, due))
                due += pause
            await trio.sleep(max(0, due - time.monotonic()))

    def _watch(self) -> None:
        self._nursery.start_soon(self._lateness.watch)

    def _report(self) -> None:
        statistics = attrs.asdict(self._broadcaster.statistics())
        report({**statistics, "lateness": self._lateness.take()})


async def _run(way: str, port: int, history: int, *reconnection: float) -> None:
    low_high = (reconnection[0], reconnection[1]) if reconnection else None
    broadcaster = Broadcaster(history_size=history, reconnection_time=low_high)
    broadcaster.register_event("message")
    async with trio.open_nursery() as nursery:
        trigger = _Control(broadcaster, nursery).obey
        app = application(way, broadcaster)
        await serve(app, loopback(port), shutdown_trigger=trigger)
        nursery.cancel_scope.cancel("the server has shut down")


if __name__ == "__main__":
    trio.run(_run, sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *map(float, sys.argv[4:]))

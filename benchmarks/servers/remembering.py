"""trio-sse for clients that come back: with a history and reconnection times of choice.

    python -m benchmarks.servers.remembering direct|portable|quart PORT HISTORY [LOW HIGH]

The ways are those of `benchmarks.servers.ours`; LOW and HIGH are the seconds of
`reconnection_time`. SIGTERM shuts it down. ``pace PAUSE SIZE`` broadcasts an event each so many
milliseconds from then on, stamped with the time when it was due.
"""

from __future__ import annotations

import sys
import time
from functools import partial

import trio

from trio_sse import Broadcaster
from trio_sse.hypercorn import serve

from .ours import application
from .stock import loopback
from .trio_control import Control, obey_until_sigterm


class _Control(Control):
    """What else a scenario may ask of this server."""

    def __init__(self, broadcaster: Broadcaster, nursery: trio.Nursery) -> None:
        super().__init__(broadcaster, nursery)
        self.orders["pace"] = self._pace

    def _pace(self, pause: int, size: int) -> None:
        self.nursery.start_soon(self._keep_pace, pause / 1000, size)

    async def _keep_pace(self, pause: float, size: int) -> None:
        due = time.monotonic()
        while True:
            while due <= time.monotonic():  # More than one if the server is behind.
                self.broadcaster.broadcast("message", self.payloads.next(size, due))
                due += pause
            await trio.sleep(max(0, due - time.monotonic()))


async def _run(way: str, port: int, history: int, *reconnection: float) -> None:
    low_high = (reconnection[0], reconnection[1]) if reconnection else None
    broadcaster = Broadcaster(history_size=history, reconnection_time=low_high)
    broadcaster.register_event("message")
    async with trio.open_nursery() as nursery:
        trigger = partial(obey_until_sigterm, _Control(broadcaster, nursery).orders)
        app = application(way, broadcaster)
        await serve(app, loopback(port), shutdown_trigger=trigger)
        nursery.cancel_scope.cancel("the server has shut down")


if __name__ == "__main__":
    trio.run(_run, sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *map(float, sys.argv[4:]))

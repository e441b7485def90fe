"""trio-sse, by one of the ways to the socket.

    python -m benchmarks.servers.ours direct|portable|quart|stock PORT [WRITE_TIMEOUT]

``direct`` and ``quart`` are `sse_app` and a Quart-Trio route under `trio_sse.hypercorn.serve`;
``portable`` is `sse_app` there, with the direct way taken out of the scope; ``stock`` is `sse_app`
under `hypercorn.trio.serve`.
"""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from functools import partial
from typing import Any

import attrs
import trio
from quart_trio import QuartTrio

from trio_sse import Broadcaster, sse_app, sse_route
from trio_sse.hypercorn import serve

from ..load.payload import Payloads
from . import stock
from .stock import App, loopback
from .trio_control import Lateness, obey, report, trim


def _without_direct(app: App) -> App:
    """Return the application as it is where there is no direct way."""

    async def portable(scope: MutableMapping[str, Any], *channels: object) -> None:
        scope.get("extensions", {}).pop("trio_sse.direct", None)
        await app(scope, *channels)

    return portable


def _quart_app(broadcaster: Broadcaster) -> App:
    app = QuartTrio(__name__)
    app.add_url_rule("/events", view_func=sse_route(broadcaster))
    return app


def application(way: str, broadcaster: Broadcaster) -> App:
    """Return the application whose events go that way."""
    if way == "quart":
        return _quart_app(broadcaster)
    app = sse_app(broadcaster)
    return _without_direct(app) if way == "portable" else app


class _Control:
    """What the run may ask of this server."""

    def __init__(self, broadcaster: Broadcaster, nursery: trio.Nursery) -> None:
        self._broadcaster = broadcaster
        self._nursery = nursery
        self._payloads = Payloads()
        self._lateness = Lateness()

    def publish(self, count: int, size: int) -> None:
        for _ in range(count):
            self._broadcaster.broadcast("message", self._payloads.next(size))

    def watch(self) -> None:
        self._nursery.start_soon(self._lateness.watch)

    def report(self) -> None:
        statistics = attrs.asdict(self._broadcaster.statistics())
        report({**statistics, "lateness": self._lateness.take()})


async def _run(way: str, port: int, write_timeout: float) -> None:
    broadcaster = Broadcaster()
    broadcaster.register_event("message")
    server = stock.serve if way == "stock" else partial(serve, write_timeout=write_timeout)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server, application(way, broadcaster), loopback(port))
        control = _Control(broadcaster, nursery)
        await obey(
            {
                "publish": control.publish,
                "watch": control.watch,
                "report": control.report,
                "trim": trim,
            }
        )
        nursery.cancel_scope.cancel("standard input has ended")


if __name__ == "__main__":
    trio.run(_run, sys.argv[1], int(sys.argv[2]), float((*sys.argv, "30")[3]))

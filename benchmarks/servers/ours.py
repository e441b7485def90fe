"""trio-sse, by one of the ways to the socket.

    python -m benchmarks.servers.ours WAY PORT [WRITE_TIMEOUT [CERT KEY]]

``direct`` and ``quart`` are `sse_app` and a Quart-Trio route under `trio_sse.hypercorn.serve`;
``portable`` is `sse_app` there, with the direct way taken out of the scope; ``stock`` is `sse_app`
under `hypercorn.trio.serve`; ``own-topics`` is as ``direct``, but each client has a topic of its
own, and each event is broadcast to each of them. With the files of a certificate and its key it
speaks TLS.
"""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from functools import partial
from typing import Any

import trio
from quart_trio import QuartTrio

from trio_sse import Broadcaster, sse_app, sse_route
from trio_sse.hypercorn import serve

from . import stock
from .stock import App, loopback
from .trio_control import Control, obey


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


class _OwnTopics(Control):
    """A topic for each client, and what makes clients of them."""

    def __init__(self, broadcaster: Broadcaster, nursery: trio.Nursery) -> None:
        super().__init__(broadcaster, nursery)
        self._topics: list[str] = []

    async def app(self, scope: MutableMapping[str, Any], *channels: Any) -> None:
        topic = str(len(self._topics))
        self._topics.append(topic)
        await sse_app(self.broadcaster, topics=[topic])(scope, *channels)

    def publish(self, count: int, size: int) -> None:
        for _ in range(count):
            payload = self.payloads.next(size)
            for topic in self._topics:
                self.broadcaster.broadcast("message", payload, topic=topic)


def application(way: str, broadcaster: Broadcaster) -> App:
    """Return the application whose events go that way."""
    if way == "quart":
        return _quart_app(broadcaster)
    app = sse_app(broadcaster)
    return _without_direct(app) if way == "portable" else app


async def _run(way: str, port: int, write_timeout: float, *files: str) -> None:
    broadcaster = Broadcaster()
    broadcaster.register_event("message")
    server = stock.serve if way == "stock" else partial(serve, write_timeout=write_timeout)
    async with trio.open_nursery() as nursery:
        control = (_OwnTopics if way == "own-topics" else Control)(broadcaster, nursery)
        app = control.app if isinstance(control, _OwnTopics) else application(way, broadcaster)
        nursery.start_soon(server, app, loopback(port, *files))
        await obey(control.orders)
        nursery.cancel_scope.cancel("standard input has ended")


if __name__ == "__main__":
    trio.run(_run, sys.argv[1], int(sys.argv[2]), float((*sys.argv, "30")[3]), *sys.argv[4:])

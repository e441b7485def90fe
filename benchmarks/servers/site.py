"""trio-sse as a site has it: `sse_app` and a Quart-Trio route of one broadcaster, under `serve`.

    python -m benchmarks.servers.site PORT WRITE_TIMEOUT [HOST CERTIFICATE KEY]

GET /events and GET /quart are the stream. With HOST it listens there too, plain at the same port
and with TLS at the next. SIGTERM shuts it
down. ``seal SIZE SIZE ...`` on standard input broadcasts
an event of `benchmarks.clients.sealed` for each size.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import MutableMapping, Sequence
from typing import Any, Final

import attrs
import trio
from hypercorn.config import Config
from quart_trio import QuartTrio

from trio_sse import Broadcaster, sse_app, sse_route
from trio_sse.hypercorn import serve

from ..clients.sealed import seal
from ..load.payload import Payloads
from .stock import App, loopback
from .trio_control import Orders, obey_until_sigterm, report

#: Without the lines for what hostile clients do: it is told by the server's living on.
_LOG_LEVEL: Final = "CRITICAL"


class _Control:
    """What a scenario may ask of this server."""

    def __init__(self, broadcaster: Broadcaster) -> None:
        self._broadcaster = broadcaster
        self._payloads = Payloads()
        self._numbers = itertools.count()

    async def obey(self) -> None:
        """Carry out orders until SIGTERM, or until standard input ends."""
        orders: Orders = {"publish": self._publish, "seal": self._seal, "report": self._report}
        await obey_until_sigterm(orders)

    def _publish(self, count: int, size: int) -> None:
        for _ in range(count):
            self._broadcaster.broadcast("message", self._payloads.next(size))

    def _seal(self, *sizes: int) -> None:
        for size in sizes:
            self._broadcaster.broadcast("message", seal(next(self._numbers), size))

    def _report(self) -> None:
        report(attrs.asdict(self._broadcaster.statistics()))


def _application(broadcaster: Broadcaster) -> App:
    quart = QuartTrio(__name__)
    quart.add_url_rule("/quart", view_func=sse_route(broadcaster))
    apps: dict[str, App] = {"/events": sse_app(broadcaster)}

    async def site(scope: MutableMapping[str, Any], *channels: object) -> None:
        await apps.get(scope.get("path", ""), quart)(scope, *channels)

    return site


def _config(port: int, host: str = "", certificate: str = "", key: str = "") -> Config:
    config = loopback(port)
    config.loglevel = _LOG_LEVEL
    if host:
        config.insecure_bind = [*config.bind, f"{host}:{port}"]
        config.bind = [f"{host}:{port + 1}"]
        config.certfile, config.keyfile = certificate, key
    return config


async def _run(port: int, write_timeout: float, address: Sequence[str]) -> None:
    broadcaster = Broadcaster()
    broadcaster.register_event("message")
    trigger = _Control(broadcaster).obey
    app, config = _application(broadcaster), _config(port, *address)
    await serve(app, config, write_timeout=write_timeout, shutdown_trigger=trigger)


if __name__ == "__main__":
    trio.run(_run, int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])

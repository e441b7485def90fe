"""trio-sse as a site has it: `sse_app` and a Quart-Trio route of one broadcaster, under `serve`.

    python -m benchmarks.servers.site PORT WRITE_TIMEOUT [HOST CERTIFICATE KEY]

GET /events and GET /quart are the stream. With HOST it listens there too, plain at the same port
and with TLS at the next. SIGTERM shuts it down.
"""

from __future__ import annotations

import sys
from collections.abc import MutableMapping, Sequence
from functools import partial
from typing import Any, Final

import trio
from hypercorn.config import Config
from quart_trio import QuartTrio

from trio_sse import Broadcaster, sse_app, sse_route
from trio_sse.hypercorn import serve

from .stock import App, loopback
from .trio_control import Control, obey_until_sigterm

#: Without the lines for what hostile clients do: it is told by the server's living on.
_LOG_LEVEL: Final = "CRITICAL"


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
    app, config = _application(broadcaster), _config(port, *address)
    async with trio.open_nursery() as nursery:
        trigger = partial(obey_until_sigterm, Control(broadcaster, nursery).orders)
        await serve(app, config, write_timeout=write_timeout, shutdown_trigger=trigger)


if __name__ == "__main__":
    trio.run(_run, int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])

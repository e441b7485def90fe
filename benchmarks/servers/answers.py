"""A small Starlette application, under `trio_sse.hypercorn.serve` or under stock hypercorn.

    python -m benchmarks.servers.answers serve|stock PORT CERTIFICATE KEY

GET /small is 13 bytes, GET /big a megabyte, GET /huge 500 of them, by chunks; plain at the port,
and with TLS at the next.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from functools import partial
from typing import Final

import trio
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from trio_sse.hypercorn import serve

from . import stock

_BODIES: Final = {"/small": b"Hello, World!", "/big": b"x" * 1_000_000}


async def _answer(request: Request) -> Response:
    await trio.lowlevel.checkpoint()
    return Response(_BODIES[request.url.path])


async def _megabytes() -> AsyncIterator[bytes]:
    for _ in range(500):
        yield _BODIES["/big"]


async def _download(request: Request) -> StreamingResponse:
    await trio.lowlevel.checkpoint()
    return StreamingResponse(_megabytes())


def _config(port: int, certificate: str, key: str) -> Config:
    config = stock.loopback(port)
    config.insecure_bind, config.bind = config.bind, [f"127.0.0.1:{port + 1}"]
    config.certfile, config.keyfile = certificate, key
    return config


if __name__ == "__main__":
    routes = [Route(path, _answer) for path in _BODIES]
    app = Starlette(routes=[*routes, Route("/huge", _download)])
    config = _config(int(sys.argv[2]), *sys.argv[3:])
    trio.run(partial(serve if sys.argv[1] == "serve" else stock.serve, app, config))

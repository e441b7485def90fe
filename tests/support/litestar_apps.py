"""The stream in Litestar, in each way that its users would try."""

from __future__ import annotations

import trio
from litestar import Litestar, asgi, get
from litestar.types import ASGIApp, Receive, Scope, Send

from trio_sse import Broadcaster, sse_app
from trio_sse.testing import App


def asgi_function(broadcaster: Broadcaster) -> App:
    @asgi("/events", copy_scope=True)
    async def events(scope: Scope, receive: Receive, send: Send) -> None:
        await sse_app(broadcaster)(scope, receive, send)  # type: ignore[arg-type]

    return Litestar([events], openapi_config=None)


def asgi_object(broadcaster: Broadcaster) -> App:
    return Litestar([asgi("/events", copy_scope=True)(sse_app(broadcaster))], openapi_config=None)


def mounted(broadcaster: Broadcaster) -> App:
    mount = asgi("/events", is_mount=True, copy_scope=True)
    return Litestar([mount(sse_app(broadcaster))], openapi_config=None)


def endpoint(broadcaster: Broadcaster) -> App:
    @get("/events")
    async def events() -> ASGIApp:
        await trio.lowlevel.checkpoint()
        return sse_app(broadcaster)  # type: ignore[return-value]

    return Litestar([events], openapi_config=None)

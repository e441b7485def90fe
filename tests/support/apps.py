"""Each way in which an app may serve a broadcaster; all must behave alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import trio
from quart_trio import QuartTrio
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.routing import Route

from trio_sse import Broadcaster, sse_app, sse_route

from .asgi import App
from .thorough import THOROUGH

AppOf = Callable[[Broadcaster], App]


def quart_app(broadcaster: Broadcaster) -> App:
    app = QuartTrio(__name__)
    app.add_url_rule("/events", view_func=sse_route(broadcaster))
    return app


def starlette_app(broadcaster: Broadcaster, middleware: Sequence[Middleware] = ()) -> App:
    async def events(_: Request) -> Any:
        await trio.lowlevel.checkpoint()  # As a view that checks something first.
        return sse_app(broadcaster)

    return Starlette(routes=[Route("/events", events)], middleware=middleware)


APPS: Final[dict[str, AppOf]] = {"sse_app": sse_app, "sse_route": quart_app}
if THOROUGH:
    APPS["starlette"] = starlette_app

"""In Starlette, FastAPI and Litestar on Trio: each way to serve the same stream."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import pytest
import trio
from fastapi import APIRouter, Depends, FastAPI
from litestar import Litestar, asgi, get
from litestar.types import ASGIApp
from litestar.types import Receive as LitestarReceive
from litestar.types import Scope as LitestarScope
from litestar.types import Send as LitestarSend
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send
from trio.testing import wait_all_tasks_blocked

from trio_sse import Broadcaster, sse_app
from trio_sse.testing import App, EventStream, open_event_stream

Way = Callable[[Broadcaster], App]


async def pass_on(request: Request, call_next: RequestResponseEndpoint) -> Response:
    return await call_next(request)


async def read_body_first(request: Request, call_next: RequestResponseEndpoint) -> Response:
    await request.body()
    return await call_next(request)


MIDDLEWARE: Final[dict[str, list[Middleware]]] = {
    "alone": [],
    "BaseHTTPMiddleware": [Middleware(BaseHTTPMiddleware, dispatch=pass_on)],
    "BaseHTTPMiddleware that reads": [Middleware(BaseHTTPMiddleware, dispatch=read_body_first)],
    "GZipMiddleware": [Middleware(GZipMiddleware, minimum_size=1)],
    "both": [
        Middleware(BaseHTTPMiddleware, dispatch=pass_on),
        Middleware(GZipMiddleware, minimum_size=1),
    ],
}


def starlette_route(middleware: list[Middleware], broadcaster: Broadcaster) -> App:
    return Starlette(routes=[Route("/events", sse_app(broadcaster))], middleware=middleware)


def starlette_mount(middleware: list[Middleware], broadcaster: Broadcaster) -> App:
    # A mount at /events itself would redirect to /events/.
    return Starlette(routes=[Mount("/", sse_app(broadcaster))], middleware=middleware)


def starlette_endpoint(middleware: list[Middleware], broadcaster: Broadcaster) -> App:
    async def events(_: Request) -> Any:
        await trio.lowlevel.checkpoint()
        return sse_app(broadcaster)

    return Starlette(routes=[Route("/events", events)], middleware=middleware)


def fastapi_route(broadcaster: Broadcaster) -> App:
    app = FastAPI()
    app.add_route("/events", sse_app(broadcaster))  # type: ignore[arg-type]
    return app


def fastapi_mount(broadcaster: Broadcaster) -> App:
    app = FastAPI()
    app.mount("/", sse_app(broadcaster))
    return app


def fastapi_router(broadcaster: Broadcaster) -> App:
    router = APIRouter()
    router.add_route("/events", sse_app(broadcaster))  # type: ignore[arg-type]
    app = FastAPI()
    app.include_router(router)
    return app


class EventStreamResponse(Response):
    """What a FastAPI endpoint can return: a Response, which is an ASGI application too."""

    def __init__(self, app: App) -> None:
        super().__init__()
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


def fastapi_endpoint(broadcaster: Broadcaster) -> App:
    async def check(request: Request) -> None:
        await trio.lowlevel.checkpoint()
        assert request.url.path == "/events"

    app = FastAPI()

    @app.get("/events", dependencies=[Depends(check)])
    async def _() -> EventStreamResponse:
        await trio.lowlevel.checkpoint()
        return EventStreamResponse(sse_app(broadcaster))

    return app


def litestar_asgi_function(broadcaster: Broadcaster) -> App:
    @asgi("/events", copy_scope=True)
    async def events(scope: LitestarScope, receive: LitestarReceive, send: LitestarSend) -> None:
        await sse_app(broadcaster)(scope, receive, send)  # type: ignore[arg-type]

    return Litestar([events], openapi_config=None)


def litestar_asgi_object(broadcaster: Broadcaster) -> App:
    return Litestar([asgi("/events", copy_scope=True)(sse_app(broadcaster))], openapi_config=None)


def litestar_mount(broadcaster: Broadcaster) -> App:
    mount = asgi("/events", is_mount=True, copy_scope=True)
    return Litestar([mount(sse_app(broadcaster))], openapi_config=None)


def litestar_endpoint(broadcaster: Broadcaster) -> App:
    @get("/events")
    async def events() -> ASGIApp:
        await trio.lowlevel.checkpoint()
        return sse_app(broadcaster)  # type: ignore[return-value]

    return Litestar([events], openapi_config=None)


WAYS: Final[dict[str, Way]] = {
    f"{way.__name__}, {name}": partial(way, middleware)
    for way in (starlette_route, starlette_mount, starlette_endpoint)
    for name, middleware in MIDDLEWARE.items()
} | {
    way.__name__: way
    for way in (
        fastapi_route,
        fastapi_mount,
        fastapi_router,
        fastapi_endpoint,
        litestar_asgi_function,
        litestar_asgi_object,
        litestar_mount,
        litestar_endpoint,
    )
}

pytestmark = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())


@pytest.fixture
def broadcaster() -> Broadcaster:
    return Broadcaster(strict=False)


async def join(nursery: trio.Nursery, app: App) -> EventStream:
    return await open_event_stream(nursery, app, headers=[("accept-encoding", "gzip")])


async def test_events_arrive_and_a_closed_broadcaster_ends_the_stream_cleanly(
    nursery: trio.Nursery, autojump_clock: trio.abc.Clock, way: Way, broadcaster: Broadcaster
) -> None:
    stream = await join(nursery, way(broadcaster))
    assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream")
    assert "content-encoding" not in stream.headers
    broadcaster.broadcast("tick", "1")
    assert (await stream.receive()).data == "1"
    broadcaster.broadcast("tick", "2")
    broadcaster.close()
    assert [event.data async for event in stream] == ["2"]
    assert stream.complete


async def test_fifteen_seconds_of_silence_bring_a_heartbeat(
    nursery: trio.Nursery, autojump_clock: trio.abc.Clock, way: Way, broadcaster: Broadcaster
) -> None:
    stream = await join(nursery, way(broadcaster))
    await trio.sleep(14.9)
    assert stream.comments == []
    await trio.sleep(0.2)
    assert stream.comments == ["heartbeat"]
    stream.disconnect()


async def test_a_client_that_leaves_is_noticed(
    nursery: trio.Nursery, way: Way, broadcaster: Broadcaster
) -> None:
    stream = await join(nursery, way(broadcaster))
    assert broadcaster.client_count == 1
    stream.disconnect()
    await wait_all_tasks_blocked()
    assert broadcaster.client_count == 0
    assert broadcaster.statistics().streams == 0

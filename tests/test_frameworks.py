"""In Starlette, FastAPI and Litestar on Trio: each way to serve the same stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Final

import pytest
import trio
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from trio.testing import wait_all_tasks_blocked

from trio_sse import Broadcaster, sse_app
from trio_sse.testing import App, EventStream, open_event_stream

from .support.apps import starlette_app
from .support.thorough import THOROUGH

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
    return starlette_app(broadcaster, middleware)


def other_framework(module: str, way: str, broadcaster: Broadcaster) -> App:
    """Build an app of a framework that is imported only here: that takes most of a second."""
    app: App = getattr(import_module(f".support.{module}", __package__), way)(broadcaster)
    return app


WAYS: Final[Mapping[str, Way]] = {
    f"{way.__name__}, {name}": partial(way, middleware)
    for way in (starlette_route, starlette_mount, starlette_endpoint)
    for name, middleware in MIDDLEWARE.items()
} | {
    f"{module}, {way}": partial(other_framework, f"{module}_apps", way)
    for module, ways in {
        "fastapi": ("route", "mount", "router", "endpoint"),
        "litestar": ("asgi_function", "asgi_object", "mounted", "endpoint"),
    }.items()
    for way in ways
    if THOROUGH
}

pytestmark = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())


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

"""The stream in FastAPI, in each way that its users would try."""

from __future__ import annotations

import trio
from fastapi import APIRouter, Depends, FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from trio_sse import Broadcaster, sse_app
from trio_sse.testing import App


def route(broadcaster: Broadcaster) -> App:
    app = FastAPI()
    app.add_route("/events", sse_app(broadcaster))  # type: ignore[arg-type]
    return app


def mount(broadcaster: Broadcaster) -> App:
    app = FastAPI()
    app.mount("/", sse_app(broadcaster))
    return app


def router(broadcaster: Broadcaster) -> App:
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


def endpoint(broadcaster: Broadcaster) -> App:
    async def check(request: Request) -> None:
        await trio.lowlevel.checkpoint()
        assert request.url.path == "/events"

    app = FastAPI()

    @app.get("/events", dependencies=[Depends(check)])
    async def _() -> EventStreamResponse:
        await trio.lowlevel.checkpoint()
        return EventStreamResponse(sse_app(broadcaster))

    return app

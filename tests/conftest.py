"""What the tests on virtual time share: the doors of a broadcaster, and wrappers for their apps."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Generator, MutableMapping
from typing import Any, Final, final

import pytest
import trio
from quart_trio import QuartTrio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from trio_sse import Broadcaster, sse_app, sse_route
from trio_sse.testing import EventStream, open_event_stream

from .redis_servers import RedisServer, redis_server

#: CI has the time for more: more doors and frameworks, more examples, more of everything.
THOROUGH: Final = "THOROUGH" in os.environ

#: Node's tests and a browser's need more than Python: they run when asked for, by their folder.
collect_ignore = ["browser", "interop"]
if not THOROUGH:
    collect_ignore += ["test_examples.py", "test_rewriting.py", "test_stock_faults.py"]
    collect_ignore += ["test_cli_redis.py", "test_recipe.py", "test_relay_failures.py"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]
Door = Callable[[Broadcaster], App]

#: An event as it was read: its type, its data, the last event ID as of then, its retry.
Read = tuple[str, str, str, int | None]


def quart_door(broadcaster: Broadcaster) -> App:
    app = QuartTrio(__name__)
    app.add_url_rule("/events", view_func=sse_route(broadcaster))
    return app


def starlette_door(broadcaster: Broadcaster) -> App:
    async def events(_: Request) -> Any:
        await trio.lowlevel.checkpoint()  # As a view that checks something first.
        return sse_app(broadcaster)

    return Starlette(routes=[Route("/events", events)])


DOORS: Final[dict[str, Door]] = {"sse_app": sse_app, "sse_route": quart_door}
if THOROUGH:
    DOORS["starlette"] = starlette_door


@pytest.fixture(params=list(DOORS.values()), ids=list(DOORS))
def door(request: pytest.FixtureRequest) -> Door:
    """Each way in which an app may serve the same broadcaster; all must behave alike."""
    chosen: Door = request.param
    return chosen


@pytest.fixture(params=[sse_app, starlette_door], ids=["sse_app", "starlette"])
def asgi_door(request: pytest.FixtureRequest) -> Door:
    """The ways in which nothing stands between us and ASGI's `send`."""
    chosen: Door = request.param
    return chosen


@pytest.fixture(scope="session")
def redis() -> Generator[RedisServer]:
    """A server for all tests of this process that leave it as it is."""
    with redis_server() as server:
        yield server


def app_sending(*chunks: bytes) -> App:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return app


async def read(*chunks: bytes) -> tuple[EventStream, list[Read]]:
    """Return the stream of a response with this body, and the events in it."""
    async with trio.open_nursery() as nursery:
        stream = await open_event_stream(nursery, app_sending(*chunks))
    return stream, [(e.event, e.data, e.id, e.retry) async for e in stream]


@final
class Tap:
    """An app around an app, which notes what that one sends and when it is done."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.sent: list[Message] = []
        self.finished = trio.Event()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        async def note(message: Message) -> None:
            self.sent.append(message)
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            self.finished.set()

    @property
    def chunks(self) -> list[bytes]:
        """The bodies sent, without the last and empty one."""
        return [message["body"] for message in self.sent if message.get("more_body")]

    @property
    def ended(self) -> bool:
        """Whether the last chunk was sent."""
        return any(not message.get("more_body", "status" in message) for message in self.sent)


def with_scope(app: App, **changes: object) -> App:
    """Return the app as it is when asked with another method, other headers, …"""

    async def changed(scope: Message, receive: Receive, send: Send) -> None:
        await app({**scope, **changes}, receive, send)

    return changed


def with_lifespan(app: App) -> App:
    """Let an app that knows only requests begin and end as a server asks."""
    lifespan = sse_app(Broadcaster())

    async def whole(scope: Message, receive: Receive, send: Send) -> None:
        await (lifespan if scope["type"] == "lifespan" else app)(scope, receive, send)

    return whole


def with_plain_receive(app: App) -> App:
    """Return the app behind a middleware that hides what kind of object `receive` is."""

    async def hidden(scope: Message, receive: Receive, send: Send) -> None:
        async def plain() -> Message:
            return await receive()

        await app(scope, plain, send)

    return hidden


def with_failing_send(app: App, error: Exception, *, after: int) -> App:
    """Return the app on a server whose `send` fails once, when `after` messages went through."""

    async def failing(scope: Message, receive: Receive, send: Send) -> None:
        left = after

        async def fail(message: Message) -> None:
            nonlocal left
            left -= 1
            if left == -1:
                raise error
            await send(message)

        await app(scope, receive, fail)

    return failing


def with_stuck_send(app: App) -> App:
    """Return the app on a server that takes its head, and whose `send` never returns then."""

    async def stuck(scope: Message, receive: Receive, send: Send) -> None:
        async def head_only(message: Message) -> None:
            if message["type"] != "http.response.start":
                await trio.sleep_forever()
            await send(message)

        await app(scope, receive, head_only)

    return stuck

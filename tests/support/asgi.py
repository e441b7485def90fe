"""ASGI: what its parts are called, its messages, applications of a few lines, and wrappers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, final

import trio

from trio_sse import Broadcaster, sse_app

Message = MutableMapping[str, Any]

Receive = Callable[[], Awaitable[Message]]

Send = Callable[[Message], Awaitable[None]]

App = Callable[[Any, Any, Any], Awaitable[None]]


HEAD: Final[Message] = {"type": "http.response.start", "status": 200, "headers": []}
END: Final[Message] = {"type": "http.response.body"}

#: What each of our streams begins with.
STREAM_HEADERS: Final = {
    "content-type": "text/event-stream",
    "cache-control": "no-cache, no-transform",
    "x-accel-buffering": "no",
}


def chunk(body: bytes, *, last: bool = False) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": not last}


async def until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def app_sending(*messages: Message) -> Tap:
    """Return an app that sends these messages and returns."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return Tap(app)


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
    def statuses(self) -> list[int]:
        """What each request was answered."""
        return [message["status"] for message in self.sent if "status" in message]

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


#: What `Flood` sends at once.
CHUNK: Final = 50_000


@final
class Flood:
    """An application that sends a body as fast as it may, unless its client is gone."""

    def __init__(self, size: int = 10_000_000, *, listens: bool = True) -> None:
        self.sent: list[int] = []  # Bytes, by the order of requests.
        self._size = size
        self._listens = listens

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await sse_app(Broadcaster())(scope, receive, send)
            return
        async with trio.open_nursery() as nursery:
            if self._listens:
                nursery.start_soon(self._listen, receive, nursery.cancel_scope)
            await self._flood(send, len(self.sent))
            nursery.cancel_scope.cancel()

    async def _listen(self, receive: Receive, scope: trio.CancelScope) -> None:
        await until_disconnected(receive)
        scope.cancel()

    async def _flood(self, send: Send, request: int) -> None:
        self.sent.append(0)
        await send(HEAD)
        while self.sent[request] < self._size:
            await send(chunk(b"x" * CHUNK))
            self.sent[request] += CHUNK
        await send(END)
